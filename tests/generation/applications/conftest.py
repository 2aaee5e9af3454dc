import pytest

import codecria
from codecria.generation.generator import Generator
from codecria.generation.sequence import Completion


class Told:
    """A generator that says what it is told: `say(prefix, suffix, options)` gives texts, repeated to `n`.

    What the applications make of a text, whatever it is, does not depend on who wrote it.
    """

    name = "told"
    max_positions = 4096

    def __init__(self, say):
        self.say = say
        self.asked = []

    def infill_many(self, pairs, **options):
        self.asked += pairs
        answers = []
        for prefix, suffix in pairs:
            texts = self.say(prefix, suffix, options)
            texts = [texts] if isinstance(texts, str) else texts
            texts = [texts[number % len(texts)] for number in range(options["n"])]
            if options.get("stop_at") == "line":
                texts = [text.split("\n")[0] for text in texts]
            answers.append([Completion(text, [], "stop", None, 1, 0, []) for text in texts])
        return answers

    def complete_many(self, *_, **__):
        raise AssertionError

    def chat_many(self, *_, **__):
        raise AssertionError


assert isinstance(Told(str), Generator)


@pytest.fixture(scope="session")
def told():
    return Told


@pytest.fixture(scope="session")
def infilling_model(smollm2_gguf):  # noqa: ARG001 - it is what the adapter's base is read from
    return codecria.load("codecria-135m-infill")


SHOP = """\
import json
from datetime import date


class Basket:
    def __init__(self, owner):
        self.owner = owner
        self.items = {}

    def add(self, name, price, count=1):
        if count < 1:
            raise ValueError(f"count is {count}")
        self.items[name] = (price, self.items.get(name, (price, 0))[1] + count)

    def total(self):
        return sum(price * count for price, count in self.items.values())

    @property
    def empty(self): return not self.items


async def read_baskets(
    path,
):
    # one a line
    with open(path) as file:
        for line in file:
            yield Basket(json.loads(line)["owner"])


def _private(é, *, date=None):
    def inner(x): pass
    return date
"""


@pytest.fixture
def shop():
    return SHOP

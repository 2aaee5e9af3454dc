"""A small package to mine, written to disk; and a server whose answers follow from what it is asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.generation.openai_server import OpenAIServer

if TYPE_CHECKING:
    from pathlib import Path

INSIDE = '''"""Lists."""
from functools import partial

LIMIT = 3


def clamp(value, low=0):
    """Bring a value into the range from low to LIMIT, ends included.

    Parameters
    ----------
    value : int
        Any.

    Examples
    --------
    >>> clamp(7)
    3
    >>> clamp(-2)
    0
    >>> start = 1
    >>> clamp(-2, start)
    1
    """
    if value < low:
        return low
    return LIMIT if value > LIMIT else value


def halves(values):
    """Cut a list into two, the first not longer than the second.

    >>> halves([1, 2, 3])
    ([1], [2, 3])
    >>> halves([])
    Traceback (most recent call last):
    ...
    ValueError: nothing to cut
    """
    if not values:
        raise ValueError("nothing to cut")
    middle = len(values) // 2
    return values[:middle], values[middle:]


def loud(text):
    """Say whether anything can be heard, which the example hardly tells.

    >>> loud("a")
    True
    """
    return text == text.upper() or bool(text)


def wrong(value):
    """Documented wrongly: twice the value.

    >>> wrong(1)
    3
    """
    return 2 * value


def partly(value):
    """Square a number; one of the examples is out of date.

    >>> partly(3)
    9
    >>> partly(2)
    5
    >>> partly(-4)
    16
    """
    return value * value


def silent(value):
    """Has an example that expects nothing.

    >>> silent(1)
    >>> silent(2) # doctest: +SKIP
    2
    """


def nothing_shown(value):
    """Put a value into a list; only the suite says so in code."""
    return [value]


def _hidden(value):
    """Private.

    >>> _hidden(1)
    1
    """
    return value


class Pile:
    """Numbers.

    >>> 1
    1
    """

    def __init__(self, *numbers):
        self.numbers = numbers

    @property
    def top(self):
        """The number put on last.

        >>> Pile(1, 5).top
        5
        >>> Pile(4, 2).top
        2
        """
        return self.numbers[-1]

    def total(self):
        """The sum of all.

        >>> Pile(1, 5).total()
        6
        >>> Pile().total()
        0
        """
        return sum(self.numbers)

    def again(self):
        """Not to be moved out of its class.

        >>> Pile(1).again()
        1
        """
        return super().__init__() or 1


curried = partial(clamp, low=2)
'''

SUITE = '''
import small_lists
from small_lists.inside import nothing_shown


def f():
    """Not of the package proper.

    >>> f()
    1
    """
    return 1


def test_nothing_shown():
    assert nothing_shown(1) == [1]
    assert small_lists.nothing_shown([2]) == [[2]]


def test_clamp():
    assert small_lists.clamp(5) == 3
'''

TESTED = ("clamp", "halves", "loud", "wrong", "partly", "Pile.top", "Pile.total")
"""What is mined, in order."""


def write_package(folder: Path) -> Path:
    """A folder with the distribution `small-lists`, which every account may read."""
    package, facts = folder / "small_lists", folder / "small_lists-1.0.dist-info"
    for each in (package, package / "tests", facts):
        each.mkdir(parents=True)
    (package / "__init__.py").write_text("from small_lists.inside import *\nfrom small_lists.inside import curried\n")
    (package / "inside.py").write_text(INSIDE)
    (package / "tests" / "test_inside.py").write_text(SUITE)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: small-lists\nVersion: 1.0\n")
    (facts / "RECORD").write_text("small_lists/__init__.py,,\nsmall_lists/inside.py,,\n")
    folder.chmod(0o755)
    return folder


def scripted(answer) -> OpenAIServer:
    """A server that answers `answer(text of the prompt, seed)`."""

    def reply(body):
        if "messages" in body:
            text = answer(body["messages"][-1]["content"], body.get("seed"))
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        else:
            choice = {"index": 0, "text": answer(body["prompt"], body.get("seed")), "finish_reason": "stop"}
        return 200, {"Content-Type": "application/json"}, json.dumps({"choices": [choice], "usage": {}})

    return OpenAIServer(refuse=reply)

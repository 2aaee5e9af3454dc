import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.generation import pass_attention
from codecria.generation.cache import Cache
from codecria.generation.pass_attention import Pass
from codecria.generation.prefix_tree import CacheFullError
from tests.generation.conftest import random_model

HEADS, GROUPS, WIDTH = 4, 2, 16
TABLE = torch.randn(3, 64, 700, WIDTH, generator=torch.Generator().manual_seed(0))
"""Queries, keys and values of each token at each position; the heads differ by a factor."""


def new_cache(dtype=torch.float32, stored="model", budget=2**30, block_slots=4):
    config = random_model(num_layers=1, num_heads=HEADS, num_kv_heads=GROUPS, head_dim=WIDTH).config
    return Cache(config, dtype=dtype, device=torch.device("cpu"), budget=budget, stored=stored, block_slots=block_slots)


def numbers(kind, ids, start, heads):
    """[1, H, L, K]: what the model would compute of tokens that stand from `start` on."""
    positions = torch.arange(start, start + len(ids))
    return torch.stack([TABLE[kind, ids, positions] * (1 + head / 4) for head in range(heads)])[None]


def plain(whole, count):
    """What the last `count` tokens take from all up to them, from the definition."""
    q, k, v = (numbers(kind, whole, 0, heads)[0].double() for kind, heads in ((0, HEADS), (1, GROUPS), (2, GROUPS)))
    k, v = (each.repeat_interleave(HEADS // GROUPS, dim=0) for each in (k, v))
    scores = q @ k.transpose(-1, -2) / WIDTH**0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return (scores.masked_fill(future, -torch.inf).softmax(-1) @ v)[:, -count:]


class Texts:
    """Texts beside what they should hold; each `read` or `write` is one checked pass."""

    def __init__(self, cache, tolerance=1e-5):
        self.cache, self.tolerance = cache, tolerance
        self.ids = {}

    def read(self, ids, chunk=1000):
        place = self.cache.open(ids)
        self.ids[place] = ids[: place.length]
        while place.length < len(ids):
            self.run({place: ids[place.length : place.length + chunk]})
        return place

    def run(self, new):
        """New tokens of places, in one pass."""
        for place, ids in new.items():
            self.cache.reserve(place, len(ids))
        starts = {place: place.length for place in new}
        one = Pass(self.cache, list(new), list(new.values()))
        assert one.positions_BL[:, 0].tolist() == list(starts.values())
        q, k, v = (
            torch.cat([numbers(kind, ids, starts[place], heads) for place, ids in new.items()])
            for kind, heads in ((0, HEADS), (1, GROUPS), (2, GROUPS))
        )
        dtype = self.cache.layout.dtype
        made = one.attend(0, q.to(dtype), k.to(dtype), v.to(dtype))
        assert made.dtype == dtype
        one.commit()
        for row, (place, ids) in enumerate(new.items()):
            self.ids[place] = self.ids[place] + ids
            assert place.length == len(self.ids[place])
            expected = plain(self.ids[place], len(ids))
            assert torch.allclose(made[row].double(), expected, atol=self.tolerance, rtol=self.tolerance)

    def rows(self, place, count):
        """Samples behind a prompt."""
        self.cache.fork(place, count)
        rows = [self.cache.new_row(place.leaf) for _ in range(count)]
        for row in rows:
            self.ids[row] = self.ids[place]
        del self.ids[place]
        return rows


def ids_of(count, seed=0):
    return torch.randint(0, 64, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


SETTINGS = {
    "float32": {},
    "bfloat16": {"dtype": torch.bfloat16, "tolerance": 0.05},
    "no kernel": {"dtype": torch.float16, "tolerance": 0.01},
    "int8": {"stored": "int8", "tolerance": 0.05},
}


def texts_of(name):
    settings = dict(SETTINGS[name])
    tolerance = settings.pop("tolerance", 1e-5)
    return Texts(new_cache(**settings), tolerance)


@pytest.fixture(params=[None, 7], ids=["whole", "in pieces"])
def pieces(request, monkeypatch):
    """The same with runs cut up, as long ones are, and without a mask over the whole run."""
    if request.param:
        monkeypatch.setattr(pass_attention, "_PIECE_SLOTS", request.param)
        monkeypatch.setattr(pass_attention, "_MASKED_SCORES", 0)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("chunk", [1, 13, 1000])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_lone_text_takes_from_all_tokens_before(name, chunk):
    texts = texts_of(name)
    place = texts.read(ids_of(60), chunk)
    for id in (3, 4, 3):
        texts.run({place: [id]})
    texts.run({place: [5, 6, 7]})


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("name", SETTINGS)
def test_a_mixed_batch_takes_as_each_text_alone(name):
    texts = texts_of(name)
    long = ids_of(400, seed=1)
    first = texts.read(long)
    second = texts.read([*long[:300], 1, 2, 3])  # a split: both run behind the first 300
    alone = texts.read(ids_of(20, seed=2))
    shared = texts.rows(texts.read(ids_of(33, seed=3)), 3)
    assert len(first.leaf.path()) == len(second.leaf.path()) == 2
    texts.run({place: [number] for number, place in enumerate((first, *shared, second, alone))})
    texts.run({shared[1]: [9]})
    texts.run({second: [8], shared[0]: [7], shared[1]: [6], first: [5]})
    texts.run({shared[2]: [5], shared[0]: [4]})
    texts.cache.close(shared[0])
    texts.run({shared[2]: [3], alone: [2], shared[1]: [1]})


def test_a_pass_that_was_not_committed_leaves_places_as_they_were():
    texts = texts_of("float32")
    place = texts.read(ids_of(10))
    texts.cache.reserve(place, 1)
    lost = Pass(texts.cache, [place], [[1]])
    lost.attend(0, *(torch.full((1, heads, 1, WIDTH), 9.0) for heads in (HEADS, GROUPS, GROUPS)))
    assert place.length == 10
    texts.run({place: [2]})


def test_what_rows_wrote_is_found_by_who_begins_alike():
    texts = texts_of("float32")
    prompt = ids_of(30)
    rows = texts.rows(texts.read(prompt), 3)
    for step in range(6):
        texts.run({row: [number + step] for number, row in enumerate(rows)})
    for row in (rows[1], rows[0], rows[2]):
        texts.cache.close(row)
    assert texts.cache.tree.taken == 0
    for number in range(3):
        place = texts.read([*prompt, *range(number, number + 6), 50])
        texts.cache.close(place)
        assert texts.cache.hit_tokens >= 36 * (number + 1)


def test_no_room_for_a_row_leaves_the_others_going():
    texts = Texts(new_cache(budget=20 * 4 * 2 * GROUPS * WIDTH * 4))
    place = texts.read(ids_of(50))
    texts.cache.fork(place, 12)
    texts.ids.update(dict.fromkeys(rows := [texts.cache.new_row(place.leaf) for _ in range(4)], texts.ids[place]))
    with pytest.raises(CacheFullError):
        for _ in range(8):
            texts.cache.new_row(place.leaf)
    texts.run({row: [number] for number, row in enumerate(rows)})


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_texts_that_come_and_go_never_touch_each_other(data):
    """Prompts of a few beginnings, samples, ends in any order, little memory: every pass is checked."""
    texts = Texts(new_cache(budget=120 * 4 * 2 * GROUPS * WIDTH * 4))
    for _ in range(data.draw(st.integers(3, 12))):
        places = list(texts.ids)
        act = data.draw(st.sampled_from(["read", "sample", "run", "run", "end", "spoil"] if places else ["read"]))
        try:
            if act == "read":
                whole = [*ids_of(300), 1, 1] if data.draw(st.booleans()) else ids_of(40, seed=1)
                texts.read([*whole[: data.draw(st.integers(1, 300))], data.draw(st.integers(0, 2))], chunk=64)
            elif act == "sample" and any(place.row is None for place in places):
                place = data.draw(st.sampled_from([place for place in places if place.row is None]))
                texts.rows(place, data.draw(st.integers(1, 3)))
            elif act == "run":
                chosen = data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=4, unique=True))
                texts.run({place: [data.draw(st.integers(0, 2))] for place in chosen})
            elif act in ("end", "spoil"):
                place = data.draw(st.sampled_from(places))
                texts.cache.close(place, spoilt=act == "spoil")
                del texts.ids[place]
        except CacheFullError:
            break
        tree = texts.cache.tree
        assert tree.nbytes + tree.taken <= tree.budget
    else:
        for place in texts.ids:
            texts.cache.close(place)
        assert texts.cache.tree.locked_bytes() == texts.cache.tree.taken == 0

from hypothesis import given
from hypothesis import strategies as st

from codecria.batches.packing import pack
from codecria.common.random import generator


@given(st.lists(st.integers(1, 100), max_size=200), st.integers(0, 5))
def test_every_piece_once_and_nothing_overflows(slots, seed):
    sequences = pack(slots, 100, "test", seed)
    assert sorted(piece for sequence in sequences for piece in sequence) == list(range(len(slots)))
    assert all(sum(slots[piece] for piece in sequence) <= 100 for sequence in sequences)
    assert sequences == pack(slots, 100, "test", seed)


def test_waste_is_small():
    slots = generator("slots").integers(60, 700, 20_000).tolist()
    sequences = pack(slots, 4096, "waste")
    assert 1 - sum(slots) / (4096 * len(sequences)) < 0.015


def test_company_is_chance():
    # Neighbours in the corpus must not end up together more than the key makes them.
    slots = [100] * 1000
    first = {frozenset(sequence) for sequence in pack(slots, 400, "a")}
    assert len(first & {frozenset(sequence) for sequence in pack(slots, 400, "b")}) < 5

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codecria.batches.packing import pack
from codecria.common.random import generator


def packed(slots, room, *key):
    members, bounds = pack(np.array(slots, dtype=np.int32), room, *key)
    return [members[start:stop].tolist() for start, stop in pairwise(bounds)]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=200), st.integers(0, 5))
def test_every_piece_once_and_nothing_overflows(slots, seed):
    sequences = packed(slots, 100, "test", seed)
    assert sorted(piece for sequence in sequences for piece in sequence) == list(range(len(slots)))
    assert all(0 < sum(slots[piece] for piece in sequence) <= 100 for sequence in sequences)
    assert sequences == packed(slots, 100, "test", seed)


def test_waste_is_small():
    slots = generator("slots").integers(60, 700, 20_000)
    assert 1 - slots.sum() / (4096 * len(packed(slots, 4096, "waste"))) < 0.015


def test_company_is_chance():
    # Neighbours in the corpus must not end up together more than the key makes them.
    slots = [100] * 1000
    first = {frozenset(sequence) for sequence in packed(slots, 400, "a")}
    assert len(first & {frozenset(sequence) for sequence in packed(slots, 400, "b")}) < 5

"""Packing pieces into sequences, planned from their stored token counts before any text is encoded."""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from typing import TYPE_CHECKING

import numpy as np

from codecria.common.random import generator

if TYPE_CHECKING:
    from codecria.common.random import Key

_OPEN_SEQUENCES = 256
_AT_ONCE = 1 << 16


def pack(slots: np.ndarray, sequence_tokens: int, *key: Key) -> tuple[np.ndarray, np.ndarray]:
    """Put every piece into exactly one sequence; none overflows.

    Best fit over at most 256 open sequences, taking pieces in a keyed random order, so which documents share a
    sequence is chance and the waste stays small (about 1 % for pieces of a few hundred tokens in 4,096).

    Args:
        slots: [P], tokens that each piece may need.
        sequence_tokens: a sequence's length; no slot may exceed it.
        key: what the order is keyed by.

    Returns:
        `members` int64 [P] and `bounds` int64 [S + 1]: sequence s holds the pieces `members[bounds[s]:bounds[s + 1]]`.
    """
    order = generator(*key).permutation(len(slots))
    chosen = array("q")
    room: list[tuple[int, int]] = []  # (tokens free, sequence), sorted
    sequences = 0
    for first in range(0, len(order), _AT_ONCE):
        for slot in slots[order[first : first + _AT_ONCE]].tolist():
            place = bisect_left(room, (slot, 0))
            if place < len(room):
                free, sequence = room.pop(place)
            else:
                if len(room) >= _OPEN_SEQUENCES:
                    room.pop(0)
                free, sequence = sequence_tokens, sequences
                sequences += 1
            chosen.append(sequence)
            insort(room, (free - slot, sequence))
    of_piece = np.frombuffer(chosen, dtype=np.int64)
    bounds = np.concatenate([[0], np.cumsum(np.bincount(of_piece, minlength=sequences))]).astype(np.int64)
    return order[np.argsort(of_piece, kind="stable")], bounds

"""Packing pieces into sequences, planned from their stored token counts before any text is encoded."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from codecria.common.random import permutation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.common.random import Key

_OPEN_SEQUENCES = 256


def pack(slots: Sequence[int], sequence_tokens: int, *key: Key) -> list[list[int]]:
    """Put every piece into exactly one sequence; none overflows.

    Best fit over at most 256 open sequences, taking pieces in a keyed random order, so which documents share a
    sequence is chance and the waste stays small (about 1 % for pieces of a few hundred tokens in 4,096).

    Args:
        slots: tokens that each piece may need.
        sequence_tokens: a sequence's length; no slot may exceed it.
        key: what the order is keyed by.

    Returns:
        For each sequence the indices of its pieces.
    """
    sequences: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens free, sequence), sorted
    for piece in permutation(len(slots), *key):
        slot = slots[piece]
        place = bisect_left(room, (slot, 0))
        if place < len(room):
            free, chosen = room.pop(place)
        else:
            if len(room) >= _OPEN_SEQUENCES:
                room.pop(0)
            free, chosen = sequence_tokens, len(sequences)
            sequences.append([])
        sequences[chosen].append(piece)
        insort(room, (free - slot, chosen))
    return sequences

"""Draws keyed by what they are for, so that no draw depends on how many came before it (law 3)."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

Key = int | str | bytes


def digest(*key: Key) -> bytes:
    """32 bytes that depend on the key's parts and on nothing else; parts are typed and length-prefixed."""
    state = hashlib.blake2b(digest_size=32)
    for part in key:
        if isinstance(part, int):
            tag, data = b"i", part.to_bytes(16, "little", signed=True)
        elif isinstance(part, str):
            tag, data = b"s", part.encode("utf-8", "surrogatepass")
        else:
            tag, data = b"b", part
        state.update(tag + struct.pack("<Q", len(data)) + data)
    return state.digest()


def draw_bits(*key: Key) -> int:
    """A uniform integer in [0, 2**64)."""
    return int.from_bytes(digest(*key)[:8], "little")


def draw_uniform(*key: Key) -> float:
    """A uniform number in [0, 1), with 53 random bits."""
    return (draw_bits(*key) >> 11) * 2.0**-53


def draw_integer(bound: int, *key: Key) -> int:
    """A uniform integer in [0, bound). The bias of the modulus is below 2**-60 for bounds under 16."""
    return int.from_bytes(digest(*key)[:16], "little") % bound


def generator(*key: Key) -> np.random.Generator:
    """A NumPy generator (Philox: the same stream on every platform) for many draws under one key."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest(*key)[:16], "little")))


def permutation(length: int, *key: Key) -> Sequence[int]:
    """A uniform permutation of range(length)."""
    return generator(*key).permutation(length).tolist()

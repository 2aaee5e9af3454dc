r"""Shingles: the hashed token 5-grams by which documents are compared, in vectorised NumPy.

A token is what the pattern `[A-Za-z_0-9]+|[^\x00-\x7f]` finds: BigCode's words (near_deduplication/
minhash_deduplication.py), and beside them every character beyond ASCII, so that two Chinese texts under one
English licence line are not taken for copies of each other. Case is kept. Empty tokens do not exist here.

Tokens of more than 64 bytes are told apart by their first 64 bytes and their length.
About 170 MB/s on one core, against 10 MB/s for a regular expression and a set of tuples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

SHINGLE_TOKENS = 5
"""A shingle is this many tokens in a row; a text of fewer tokens has no shingles."""

_HASHED_BYTES = 64
_MULTIPLY_1 = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_SHIFT_1 = np.uint64(32)
_SHIFT_2 = np.uint64(29)

_LOW_BYTES: Hashes = np.array([(1 << (8 * n)) - 1 for n in range(9)], dtype=np.uint64)
"""Masks that keep the first n bytes of a little-endian word of eight."""

_CLASS = np.zeros(256, dtype=np.uint8)
_CLASS[np.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789", dtype=np.uint8)] = 1
_CLASS[0x80:] = 2
_FIRST_LEAD_BYTE = 0xC0


def shingle_hashes(text: str | bytes) -> Hashes:
    """Sorted distinct 64-bit hashes of a text's shingles; empty for a text of fewer than five tokens.

    Args:
        text: the text, or its UTF-8 bytes.
    """
    tokens = token_hashes(text if isinstance(text, bytes) else text.encode())
    if tokens.size < SHINGLE_TOKENS:
        return tokens[:0]
    hashes = tokens[: 1 - SHINGLE_TOKENS].copy()
    for place in range(1, SHINGLE_TOKENS):
        hashes *= _MULTIPLY_1
        hashes += tokens[place : hashes.size + place]
    hashes ^= hashes >> _SHIFT_1
    hashes *= _MULTIPLY_2
    hashes ^= hashes >> _SHIFT_2
    hashes.sort()
    first = np.empty(hashes.size, dtype=np.bool_)
    first[0] = True
    np.not_equal(hashes[1:], hashes[:-1], out=first[1:])
    return hashes[first]


def token_hashes(data: bytes) -> Hashes:
    """A 64-bit hash of every token of UTF-8 bytes, in order. Equal tokens have equal hashes."""
    # Nine zero bytes: one to end the last token, eight so that a word may be read at its last byte.
    padded = np.frombuffer(data + bytes(9), dtype=np.uint8)
    starts, ends = _token_bounds(padded[: len(data) + 1], data.isascii())
    lengths = ends - starts
    words = np.ndarray((len(data) + 1,), dtype="<u8", buffer=padded.data, strides=(1,))
    hashes = words[starts] & _LOW_BYTES[np.minimum(lengths, 8)]
    hashes = (hashes ^ lengths.astype(np.uint64)) * _MULTIPLY_1
    hashes ^= hashes >> _SHIFT_1
    rows = np.flatnonzero(lengths > 8)
    for offset in range(8, _HASHED_BYTES, 8):
        if rows.size == 0:
            break
        left = lengths[rows] - offset
        word = words[starts[rows] + offset] & _LOW_BYTES[np.minimum(left, 8)]
        mixed = (hashes[rows] ^ word) * _MULTIPLY_2
        hashes[rows] = mixed ^ (mixed >> _SHIFT_1)
        rows = rows[left > 8]
    return hashes


def _token_bounds(data: npt.NDArray[np.uint8], is_ascii: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where tokens start and end; the last byte of `data` is in no token."""
    classes = _CLASS[data]
    new = np.empty(classes.size, dtype=np.bool_)
    new[0] = classes[0] > 0
    np.not_equal(classes[1:], classes[:-1], out=new[1:])
    if is_ascii:
        edges = np.flatnonzero(new)
        return edges[0::2], edges[1::2]
    new |= data >= _FIRST_LEAD_BYTE
    edges = np.flatnonzero(new)
    inside = classes[edges] > 0
    # A token ends where the next run starts; the zero byte at the end starts one.
    return edges[inside], edges[np.flatnonzero(inside) + 1]


def jaccard(first: Hashes, second: Hashes) -> float:
    """Exact Jaccard similarity of two sorted sets of hashes; 0 when either is empty."""
    if first.size > second.size:
        first, second = second, first
    if first.size == 0:
        return 0.0
    places = np.searchsorted(second, first)
    places[places == second.size] = 0
    shared = int(np.count_nonzero(second[places] == first))
    return shared / (first.size + second.size - shared)

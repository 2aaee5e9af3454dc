"""MinHash signatures of shingle sets: rensa's (Rust), and a NumPy path beside it.

In both, the share of places where two signatures agree estimates the Jaccard similarity of the two sets, with a
standard deviation of at most sqrt(J (1 - J) / permutations): 0.03 at 256. Signatures of the two are not
comparable with each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from codecria.common.random import draw_bits, generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codecria.corpus.shingles import Integers, Shingles, ShingleSets

SignatureMethod = Literal["rensa", "numpy"]
Signatures = npt.NDArray[np.uint32]

_BATCH_DOCUMENTS = 256
"""rensa hands its matrix over as lists of int: small batches stay in the cache and are four times as fast."""

_BATCH_HASHES = 1 << 16
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


def signature_batches(
    sets: ShingleSets, permutations: int, seed: int, method: SignatureMethod
) -> Iterator[tuple[int, Signatures]]:
    """Signatures [documents, permutations] in parts of at most 256 documents, each with the number of its first.

    An empty set's has no meaning. The hashes are read part by part, so they may be a memory map.
    """
    sign = _rensa if method == "rensa" else _numpy
    for first, last in _batches(sets.offsets):
        offsets = sets.offsets[first : last + 1]
        yield first, sign(sets.hashes[offsets[0] : offsets[-1]], offsets - offsets[0], permutations, seed)


def _batches(offsets: Integers) -> Iterator[tuple[int, int]]:
    first, count = 0, offsets.size - 1
    while first < count:
        limit = int(np.searchsorted(offsets, offsets[first] + _BATCH_HASHES, side="right")) - 1
        last = min(max(limit, first + 1), first + _BATCH_DOCUMENTS, count)
        yield first, last
        first = last


def _rensa(hashes: Shingles, offsets: Integers, permutations: int, seed: int) -> Signatures:
    from rensa import RMinHash  # type: ignore[import-untyped]

    key = draw_bits("rensa signatures", seed)
    spread = hashes * _SPREAD
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(spread, offsets.astype(np.uint64), permutations, key)
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(offsets.size - 1, permutations)


def _numpy(hashes: Shingles, offsets: Integers, permutations: int, seed: int) -> Signatures:
    """Minimum of a multiply-add per permutation, modulo 2**32."""
    draws = generator("numpy signatures", seed)
    factors = draws.integers(0, 2**32, size=permutations, dtype=np.uint32) | np.uint32(1)
    terms = draws.integers(0, 2**32, size=permutations, dtype=np.uint32)
    result = np.full((permutations, offsets.size - 1), 2**32 - 1, dtype=np.uint32)
    filled = np.flatnonzero(np.diff(offsets))
    if filled.size:
        starts = offsets[filled]
        for number in range(permutations):
            result[number, filled] = np.minimum.reduceat(hashes * factors[number] + terms[number], starts)
    return result.T

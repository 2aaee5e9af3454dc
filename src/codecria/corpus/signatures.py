"""MinHash signatures of shingle sets: rensa's (Rust), and a NumPy path beside it.

In both, the share of places where two signatures agree estimates the Jaccard similarity of the two sets, with a
standard deviation of at most sqrt(J (1 - J) / permutations): 0.03 at 256. Signatures of the two are not
comparable with each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from codecria.common.random import digest, generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codecria.corpus.shingles import Hashes

SignatureMethod = Literal["rensa", "numpy"]
Signatures = npt.NDArray[np.uint32]

_BATCH_HASHES = 4_000_000
_BATCH_DOCUMENTS = 20_000
_BLOCK_HASHES = 512


def signatures(
    hashes: Hashes,
    offsets: npt.NDArray[np.int64],
    permutations: int = 256,
    seed: int = 0,
    method: SignatureMethod = "rensa",
) -> Signatures:
    """Signatures [documents, permutations] of the sets `hashes[offsets[d]:offsets[d + 1]]`.

    An empty set's signature is all 2**32 - 1; callers leave such documents out. `hashes` may be a memory map: it
    is read in batches.
    """
    count = offsets.size - 1
    result = np.empty((count, permutations), dtype=np.uint32)
    for first, last in _batches(offsets):
        part = np.ascontiguousarray(hashes[offsets[first] : offsets[last]])
        places = offsets[first : last + 1] - offsets[first]
        if method == "rensa":
            result[first:last] = _rensa(part, places, permutations, seed)
        else:
            result[first:last] = _numpy(part, places, permutations, seed)
    return result


def _batches(offsets: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    first, count = 0, offsets.size - 1
    while first < count:
        limit = int(np.searchsorted(offsets, offsets[first] + _BATCH_HASHES, side="right")) - 1
        last = min(max(limit, first + 1), first + _BATCH_DOCUMENTS, count)
        yield first, last
        first = last


def _rensa(hashes: Hashes, offsets: npt.NDArray[np.int64], permutations: int, seed: int) -> Signatures:
    from rensa import RMinHash  # type: ignore[import-untyped]

    key = int.from_bytes(digest("rensa signatures", seed)[:8], "little")
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets.astype(np.uint64), permutations, key)
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(offsets.size - 1, permutations)


def _numpy(hashes: Hashes, offsets: npt.NDArray[np.int64], permutations: int, seed: int) -> Signatures:
    """Minimum of a multiply-add per permutation, modulo 2**32, of the upper half of the hashes."""
    draws = generator("numpy signatures", seed)
    factors = draws.integers(0, 2**32, size=permutations, dtype=np.uint32) | np.uint32(1)
    terms = draws.integers(0, 2**32, size=permutations, dtype=np.uint32)
    upper = (hashes >> np.uint64(32)).astype(np.uint32)
    result = np.full((offsets.size - 1, permutations), 2**32 - 1, dtype=np.uint32)
    for document, (start, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        for block in range(start, end, _BLOCK_HASHES):
            part = upper[block : min(block + _BLOCK_HASHES, end), None] * factors + terms
            np.minimum(result[document], part.min(axis=0), out=result[document])
    return result

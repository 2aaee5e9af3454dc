"""Near-duplicates: MinHash finds candidates, exact Jaccard decides, and every dropped document has a kept one.

The parameters are BigCode's first recipe (256 permutations, 25 bands of 10 rows, threshold 0.7). What is different:

* Each candidate pair is verified by the exact Jaccard similarity of its shingle sets. Without it the recipe
  deletes documents that are like no kept one (measured on 1.1 GB of code: 12.4 % dropped against 8.3 %).
* One pass in rank order compares a document with kept documents only, so clusters are stars: every dropped
  document is at least `threshold` similar to the kept one it is dropped for. Chains (A like B, B like C) delete
  nothing by themselves, and the result does not depend on the order of the input.
* A document of fewer than five tokens has no shingles and is never a near copy; only its exact copies go.
* A bucket costs at most its kept documents, and a document at most `comparisons` of them, smallest buckets
  first, so boilerplate that fills one bucket is not quadratic. `Duplicates.capped` counts documents so limited.

What it does not do: find copies that share no band. At similarity s a pair meets with probability
1 - (1 - s**rows)**bands: 0.51 at 0.7, 0.94 at 0.8, 0.9999 at 0.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from codecria.common.progress import progress_bar
from codecria.common.recipe import Recipe
from codecria.corpus.shingles import Hashes, jaccard
from codecria.corpus.signatures import SignatureMethod, Signatures, signatures

if TYPE_CHECKING:
    from collections.abc import Sequence

Integers = npt.NDArray[np.int64]

_DEVIATIONS = 5.0
"""A candidate whose estimate lies this many standard deviations under the threshold is not worth verifying."""


class NearDuplicateRecipe(Recipe):
    """How near-duplicates are found."""

    enabled: bool = True
    threshold: float = Field(default=0.7, gt=0.0, le=1.0)
    permutations: int = Field(default=256, ge=1)
    bands: int = Field(default=25, ge=1)
    rows: int = Field(default=10, ge=1)
    comparisons: int = Field(default=2048, ge=1, description="most kept documents one document is compared with")
    signatures: SignatureMethod = "rensa"

    @model_validator(mode="after")
    def _bands_fit(self) -> Self:
        if self.bands * self.rows > self.permutations:
            need = self.bands * self.rows
            raise ValueError(
                f"{self.bands} bands of {self.rows} rows need {need} permutations, not {self.permutations}"
            )
        return self


@dataclass(frozen=True)
class ShingleSets:
    """The shingle sets of many documents, one after the other; `hashes` may be a memory map.

    Attributes:
        hashes: sorted distinct hashes of each document, [total].
        offsets: where each document's begin and end, [documents + 1].
    """

    hashes: Hashes
    offsets: Integers

    def __len__(self) -> int:
        return self.offsets.size - 1

    def __getitem__(self, document: int) -> Hashes:
        return self.hashes[self.offsets[document] : self.offsets[document + 1]]

    @classmethod
    def of(cls, sets: Sequence[Hashes]) -> Self:
        """Join sets that lie in memory."""
        offsets = np.zeros(len(sets) + 1, dtype=np.int64)
        np.cumsum([each.size for each in sets], out=offsets[1:])
        return cls(np.concatenate([*sets, np.empty(0, dtype=np.uint64)]), offsets)


@dataclass(frozen=True)
class Duplicates:
    """Which documents are copies of which.

    Attributes:
        kept_for: for each document the kept document it is dropped for, or -1 when it is kept itself, [documents].
        similarity: exact Jaccard similarity to that document, 0 for kept ones, [documents].
        candidates: pairs that shared a bucket.
        verified: pairs whose exact similarity was computed.
        capped: documents that had more than `comparisons` candidates.
    """

    kept_for: Integers
    similarity: npt.NDArray[np.float32]
    candidates: int = 0
    verified: int = 0
    capped: int = 0


def find_exact_copies(content_hashes: list[str], rank: Integers) -> Integers:
    """For each document the best-ranked document of the same content hash, or -1 for that one itself.

    Args:
        content_hashes: one per document.
        rank: document numbers, best first.
    """
    first: dict[str, int] = {}
    kept_for = np.full(len(content_hashes), -1, dtype=np.int64)
    for document in rank.tolist():
        kept = first.setdefault(content_hashes[document], document)
        if kept != document:
            kept_for[document] = kept
    return kept_for


def find_near_duplicates(sets: ShingleSets, rank: Integers, recipe: NearDuplicateRecipe, seed: int = 0) -> Duplicates:
    """Drop each document that is at least `recipe.threshold` similar to a kept one of better rank.

    Args:
        sets: one shingle set per document; empty ones are kept.
        rank: numbers of the documents to consider, best first; documents left out are neither kept nor dropped.
        recipe: threshold, bands and rows.
        seed: of the permutations.
    """
    search = _Search(sets, rank, recipe, seed)
    kept_for = np.full(len(sets), -1, dtype=np.int64)
    similarity = np.zeros(len(sets), dtype=np.float32)
    with progress_bar("near-duplicates", total=rank.size, unit="documents") as bar:
        for place in range(rank.size):
            found = search.visit(place)
            if found is not None:
                document = int(rank[place])
                kept_for[document], similarity[document] = found
            if place % 256 == 255 or place == rank.size - 1:
                bar.set(place + 1)
    return Duplicates(kept_for, similarity, search.candidates, search.verified, search.capped)


class _Search:
    """The pass in rank order. Places are positions in the rank, so a smaller place is a better document."""

    def __init__(self, sets: ShingleSets, rank: Integers, recipe: NearDuplicateRecipe, seed: int) -> None:
        self._sets = sets
        self._rank = rank
        self._recipe = recipe
        self._sizes = np.diff(sets.offsets)[rank]
        self._signatures = signatures(sets.hashes, sets.offsets, recipe.permutations, seed, recipe.signatures)[rank]
        self._buckets_of = _shared_buckets(self._signatures, self._sizes > 0, recipe.bands, recipe.rows)
        self._kept_in: dict[int, list[int]] = {}
        threshold = recipe.threshold
        self._least_agreement = threshold - _DEVIATIONS * (threshold * (1 - threshold) / recipe.permutations) ** 0.5
        self.candidates = self.verified = self.capped = 0

    def visit(self, place: int) -> tuple[int, float] | None:
        """The kept document this one is a copy of, and how similar; None when it is kept from here on."""
        buckets = self._buckets_of[place]
        shared = buckets[buckets >= 0].tolist()
        if not shared:
            return None
        found = self._best(place, self._kept_beside(shared))
        if found is None:
            for bucket in shared:
                self._kept_in.setdefault(bucket, []).append(place)
        return found

    def _kept_beside(self, buckets: list[int]) -> Integers:
        """Kept documents of these buckets, from the smallest bucket on, at most `comparisons`."""
        beside: set[int] = set()
        limit = self._recipe.comparisons
        for kept in sorted((self._kept_in[bucket] for bucket in buckets if bucket in self._kept_in), key=len):
            room = limit - len(beside)
            if len(kept) <= room:
                beside.update(kept)
            else:
                self.capped += 1
                beside.update(kept[:room])
                break
        return np.array(sorted(beside), dtype=np.int64)

    def _best(self, place: int, beside: Integers) -> tuple[int, float] | None:
        """Verify candidates from the likeliest on; the first that is similar enough is the answer."""
        if beside.size == 0:
            return None
        self.candidates += beside.size
        agreement = (self._signatures[beside] == self._signatures[place]).mean(axis=1)
        own, other = self._sizes[place], self._sizes[beside]
        possible = np.minimum(own, other) >= self._recipe.threshold * np.maximum(own, other)
        possible &= agreement >= self._least_agreement
        beside, agreement = beside[possible], agreement[possible]
        shingles = self._sets[int(self._rank[place])]
        for kept in beside[np.argsort(-agreement, kind="stable")].tolist():
            document = int(self._rank[kept])
            self.verified += 1
            similarity = jaccard(shingles, self._sets[document])
            if similarity >= self._recipe.threshold:
                return document, similarity
        return None


def _shared_buckets(signatures: Signatures, usable: npt.NDArray[np.bool_], bands: int, rows: int) -> Integers:
    """Bucket numbers [documents, bands]; -1 where no second document falls into the same bucket."""
    buckets = np.full((signatures.shape[0], bands), -1, dtype=np.int64)
    documents = np.flatnonzero(usable)
    next_bucket = 0
    for band in range(bands):
        part = np.ascontiguousarray(signatures[documents, band * rows : (band + 1) * rows])
        keys = _row_keys(part)
        order = np.argsort(keys, kind="stable")
        same = keys[order][1:] == keys[order][:-1]
        number = np.concatenate([[0], np.cumsum(~same)]) if order.size else order
        shared = np.zeros(order.size, dtype=np.bool_)
        shared[1:] |= same
        shared[:-1] |= same
        buckets[documents[order[shared]], band] = number[shared] + next_bucket
        next_bucket += order.size
    return buckets


def _row_keys(rows: Signatures) -> Hashes:
    """One 64-bit key per row. Two different rows with one key only cost a comparison that fails."""
    keys = np.zeros(rows.shape[0], dtype=np.uint64)
    for column in range(rows.shape[1]):
        keys = (keys + rows[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys

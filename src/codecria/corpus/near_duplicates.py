"""Near-duplicates: MinHash finds candidates, exact Jaccard decides, and every dropped document has a kept one.

* Each candidate pair is verified by the exact Jaccard similarity of its shingle sets. Without it BigCode's recipe
  deletes documents that are like no kept one (measured on 1.1 GB of code: 12.4 % dropped against 8.3 %).
* One pass in rank order compares a document with kept documents only, so clusters are stars: every dropped
  document is at least `threshold` similar to the kept one it is dropped for. Chains (A like B, B like C) delete
  nothing by themselves, and the result does not depend on the order of the input.
* Documents meet through shared buckets alone, so each component of `components.py` can be searched by itself:
  together the results are those of one search over everything.
* A document of fewer than five tokens has no shingles and is never a near copy; only its exact copies go.
* A document is compared with at most `comparisons` kept ones, smallest buckets first, so boilerplate that fills
  one bucket is not quadratic. `Duplicates.capped` counts documents so limited.

What it does not do: find copies that share no band. At similarity s a pair meets with probability
1 - (1 - s**rows)**bands; for 42 bands of 6 rows that is 0.995 at 0.7, 0.9997 at 0.75 and one at 0.8. BigCode's 25
bands of 10 rows have 0.51, 0.77 and 0.94 there, and dropped 3 to 8 % fewer of the documents that are copies, in
three corpora of real files, where these missed at most 0.05 %. 51 bands of 5 rows missed none, with up to 3.6 times
as many candidates, a fifth more keys, and larger components, each of which is one process's work
(benchmarks/near_duplicate_parameters.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from codecria.common.recipe import Recipe
from codecria.corpus.components import NO_KEY, bucket_pairs
from codecria.corpus.shingles import Hashes, Integers, ShingleSets, jaccard
from codecria.corpus.signatures import SignatureMethod, Signatures, signature_batches

if TYPE_CHECKING:
    from collections.abc import Iterator


Sketches = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_DEVIATIONS = 3.5
"""A candidate whose estimate lies this many standard deviations under the threshold is not worth verifying: of
776,000 real pairs at or above 0.7 none was lost so, and at 5 four times as many are verified in vain."""


class NearDuplicateRecipe(Recipe):
    """How near-duplicates are found."""

    enabled: bool = True
    threshold: float = Field(default=0.7, gt=0.0, le=1.0)
    permutations: int = Field(default=256, ge=8, le=2040)
    bands: int = Field(default=42, ge=1)
    rows: int = Field(default=6, ge=1)
    comparisons: int = Field(default=512, ge=1, description="most kept documents one document is compared with")
    signatures: SignatureMethod = "rensa"

    @model_validator(mode="after")
    def _bands_fit(self) -> Self:
        if self.bands * self.rows > self.permutations:
            need = f"{self.bands * self.rows} permutations, not {self.permutations}"
            raise ValueError(f"{self.bands} bands of {self.rows} rows need {need}")
        return self


@dataclass(frozen=True)
class Duplicates:
    """Which documents are copies of which.

    Attributes:
        kept_for: for each document the kept document it is dropped for, or -1 when it is kept itself, [documents].
        similarity: exact Jaccard similarity to that document, 0 for kept ones, [documents].
        candidates: pairs that shared a bucket and were looked at.
        verified: pairs whose exact similarity was computed.
        capped: documents that had more than `comparisons` candidates.
    """

    kept_for: Integers
    similarity: npt.NDArray[np.float32]
    candidates: int = 0
    verified: int = 0
    capped: int = 0


def band_keys(sets: ShingleSets, recipe: NearDuplicateRecipe, seed: int = 0) -> Hashes:
    """Bucket keys [bands, documents]: two documents meet where they have equal keys of one band.

    A document without shingles has `NO_KEY` in every band.
    """
    return _sign(sets, recipe, seed)[0]


def find_near_duplicates(
    sets: ShingleSets, rank: Integers, recipe: NearDuplicateRecipe, seed: int = 0, fixed: Mask | None = None
) -> Duplicates:
    """Drop each document that is at least `recipe.threshold` similar to a kept one of better rank.

    Args:
        sets: one shingle set per document; empty ones are kept.
        rank: numbers of the documents to consider, best first; documents left out are neither kept nor dropped.
        recipe: threshold, bands and rows.
        seed: of the permutations.
        fixed: documents of an earlier corpus, [documents]: never dropped, and better than all others.
    """
    if fixed is not None:
        rank = np.concatenate([rank[fixed[rank]], rank[~fixed[rank]]])
    search = _Search(sets, rank, recipe, seed)
    kept_for = np.full(len(sets), -1, dtype=np.int64)
    similarity = np.zeros(len(sets), dtype=np.float32)
    first_free = 0 if fixed is None else int(fixed[rank].sum())
    for place, buckets in search.meetings():
        found = search.copied(place, buckets) if place >= first_free else None
        if found is None:
            search.keep(place, buckets)
        else:
            kept_for[rank[place]], similarity[rank[place]] = rank[found[0]], found[1]
    return Duplicates(kept_for, similarity, search.candidates, search.verified, search.capped)


class _Search:
    """The pass in rank order. Places are positions in the rank, so a smaller place is a better document."""

    def __init__(self, sets: ShingleSets, rank: Integers, recipe: NearDuplicateRecipe, seed: int) -> None:
        keys, sketches = _sign(sets, recipe, seed)
        self._sets = sets
        self._rank = rank
        self._sizes = np.diff(sets.offsets)[rank]
        self._sketches = sketches[rank]
        self._buckets = _shared_buckets(keys, rank)
        self._kept_in: dict[int, list[int]] = {}
        self._comparisons = recipe.comparisons
        self._threshold = threshold = recipe.threshold
        deviation = (threshold * (1 - threshold) / sketches.shape[1]) ** 0.5
        self._least_agreement = (threshold - _DEVIATIONS * deviation) * sketches.shape[1]
        self.candidates = self.verified = self.capped = 0

    def meetings(self) -> Iterator[tuple[int, list[int]]]:
        """Every place that shares a bucket, best first, and its buckets."""
        for place in np.flatnonzero((self._buckets >= 0).any(axis=1)).tolist():
            buckets = self._buckets[place]
            yield place, buckets[buckets >= 0].tolist()

    def keep(self, place: int, buckets: list[int]) -> None:
        """Compare what comes later in these buckets with this one."""
        for bucket in buckets:
            self._kept_in.setdefault(bucket, []).append(place)

    def copied(self, place: int, buckets: list[int]) -> tuple[int, float] | None:
        """The place of a kept document that this one is a copy of, the likeliest tried first; how similar it is."""
        beside = self._kept_beside(buckets)
        if beside.size == 0:
            return None
        self.candidates += beside.size
        agreement = _agreement(self._sketches[beside], self._sketches[place])
        own, other = self._sizes[place], self._sizes[beside]
        likely = np.minimum(own, other) / np.maximum(own, other) >= self._threshold
        likely &= agreement >= self._least_agreement
        beside = beside[likely][np.argsort(-agreement[likely], kind="stable")]
        shingles = self._sets[int(self._rank[place])]
        for kept, document in zip(beside.tolist(), self._rank[beside].tolist(), strict=True):
            self.verified += 1
            similarity = jaccard(shingles, self._sets[document])
            if similarity >= self._threshold:
                return kept, similarity
        return None

    def _kept_beside(self, buckets: list[int]) -> Integers:
        """Kept places of these buckets; where they are too many, from the smallest bucket on."""
        kept = [self._kept_in[bucket] for bucket in buckets if bucket in self._kept_in]
        if sum(map(len, kept)) <= self._comparisons:
            return np.array(sorted(set().union(*kept)), dtype=np.int64)
        beside: set[int] = set()
        for one in sorted(kept, key=len):
            room = self._comparisons - len(beside)
            if len(one) > room:
                self.capped += 1
                beside.update(one[:room])
                break
            beside.update(one)
        return np.array(sorted(beside), dtype=np.int64)


def _sign(sets: ShingleSets, recipe: NearDuplicateRecipe, seed: int) -> tuple[Hashes, Sketches]:
    """Bucket keys [bands, documents], and the low bytes of the signatures [documents, permutations].

    The sketch is cut to a multiple of eight; a chance agreement of low bytes, 1 in 256, only adds a candidate.
    """
    keys = np.empty((recipe.bands, len(sets)), dtype=np.uint64)
    sketches = np.empty((len(sets), recipe.permutations // 8 * 8), dtype=np.uint8)
    for first, table in signature_batches(sets, recipe.permutations, seed, recipe.signatures):
        documents = slice(first, first + table.shape[0])
        keys[:, documents] = _bucket_keys(table, recipe.bands, recipe.rows)
        sketches[documents] = table[:, : sketches.shape[1]].astype(np.uint8)
    keys[:, np.diff(sets.offsets) == 0] = NO_KEY
    return keys, sketches


def _bucket_keys(table: Signatures, bands: int, rows: int) -> Hashes:
    """One 64-bit key per band and document. Two different rows with one key only cost a comparison that fails."""
    parts = table[:, : bands * rows].reshape(-1, bands, rows)
    keys = np.zeros(parts.shape[:2], dtype=np.uint64)
    for row in range(rows):
        keys = (keys + parts[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return np.maximum(keys, NO_KEY + np.uint64(1)).T


def _shared_buckets(keys: Hashes, rank: Integers) -> Integers:
    """Bucket numbers [places, bands]; -1 where no second document falls into the same bucket."""
    buckets = np.full((rank.size, keys.shape[0]), -1, dtype=np.int64)
    for band in range(keys.shape[0]):
        first, other = bucket_pairs(keys[band, rank])
        buckets[first, band] = buckets[other, band] = first + band * rank.size
    return buckets


def _agreement(sketches: Sketches, sketch: Sketches) -> Integers:
    """How many places of each row agree with one sketch, [rows]: eight at a time, as the bytes of one word."""
    eighths = (sketches == sketch).view(np.uint64).sum(axis=1)
    return eighths.view(np.uint8).reshape(-1, 8).sum(axis=1, dtype=np.int64)

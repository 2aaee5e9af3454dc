"""Stage 2: which documents are copies of which, over all parts.

Exact copies go first, by content hash. The others meet by MinHash bands, one band at a time; documents that share a
bucket, directly or through others, are one component. No document outside a component can be a near copy of one
inside it, so the components are searched apart from each other, on any number of workers, and the result is that
of one pass over everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from codecria.common.files import atomic_file
from codecria.common.progress import progress_bar
from codecria.corpus.components import Components, bucket_pairs, group_components
from codecria.corpus.manifest import Count, DuplicateCounts
from codecria.corpus.near_duplicates import Duplicates, NearDuplicateRecipe, find_near_duplicates
from codecria.corpus.runner import run_in_order
from codecria.corpus.selection import Census, Integers, Mask, rank_documents
from codecria.corpus.shingles import Shingles, ShingleSets, shingle_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codecria.corpus.recipe import CorpusRecipe

_GROUP_SHINGLES = 8_000_000
"""Shingles that one task compares, about: 64 MB. A component is never cut, so one large one is one task."""


@dataclass(frozen=True)
class Copies:
    """Who is dropped for whom.

    Attributes:
        kept_for: the kept document each is a copy of, -1 for kept ones, [documents].
        similarity: exact Jaccard similarity to it; 1 for exact copies, [documents].
        counts: for the manifest.
    """

    kept_for: Integers
    similarity: npt.NDArray[np.float32]
    counts: DuplicateCounts

    @classmethod
    def load(cls, path: Path, key: str) -> Self | None:
        """What an interrupted build had found from the same parts, or None."""
        if not path.is_file():
            return None
        with np.load(path) as arrays:
            if str(arrays["key"]) != key:
                return None
            counts = DuplicateCounts.model_validate_json(str(arrays["counts"]))
            return cls(arrays["kept_for"], arrays["similarity"], counts)

    def save(self, path: Path, key: str) -> None:
        """Keep it for a build that is interrupted later."""
        with atomic_file(path) as file:
            counts = np.array(self.counts.model_dump_json())
            np.savez(file, key=np.array(key), kept_for=self.kept_for, similarity=self.similarity, counts=counts)


def find_copies(census: Census, taken: Mask, held: Mask, recipe: CorpusRecipe) -> Copies:
    """Search all taken documents, across both splits and against earlier corpora."""
    ranked = rank_documents(census, held, np.flatnonzero(taken))
    exact = _exact_copies(census, ranked)
    kept_for, similarity = exact.copy(), np.where(exact >= 0, np.float32(1), np.float32(0))
    searched = ranked[exact[ranked] < 0]
    counts: dict[str, int] = {}
    if recipe.near_duplicates.enabled:
        counts = _near_copies(census, searched, recipe, kept_for, similarity)
    # What an exact copy was kept for may be a near copy itself: then both are copies of the third.
    chained = np.flatnonzero((exact >= 0) & (kept_for[exact] >= 0))
    similarity[chained] = similarity[exact[chained]]
    kept_for[chained] = kept_for[exact[chained]]
    exact[chained] = -1
    dropped = kept_for >= 0
    near = dropped & (exact < 0)
    across = dropped & held & ~held[kept_for]
    stars = np.bincount(kept_for[dropped], minlength=1)
    found = DuplicateCounts(
        exact_copies=_count(census, exact >= 0),
        near_copies=_count(census, near),
        held_out_copies_of_train=int(across.sum()),
        largest_star=int(stars.max()),
        **counts,
    )
    return Copies(kept_for, similarity, found)


def _exact_copies(census: Census, ranked: Integers) -> Integers:
    """The best-ranked document of the same text, -1 for the best itself, [documents]. 128 bits of the hash decide."""
    kept_for = np.full(len(census), -1, dtype=np.int64)
    hashes = census.index["hash"][ranked]
    order = np.lexsort((np.arange(ranked.size), hashes[:, 1], hashes[:, 0]))
    same = np.zeros(order.size, dtype=np.bool_)
    same[1:] = (hashes[order][1:] == hashes[order][:-1]).all(axis=1)
    first = np.maximum.accumulate(np.where(same, 0, np.arange(order.size)))
    kept_for[ranked[order[same]]] = ranked[order[first[same]]]
    # Documents of earlier corpora are never dropped, be they copies of each other.
    kept_for[census.fixed] = -1
    return kept_for


def _near_copies(
    census: Census, ranked: Integers, recipe: CorpusRecipe, kept_for: Integers, similarity: npt.NDArray[np.float32]
) -> dict[str, int]:
    near = recipe.near_duplicates
    labels = _components(census, ranked, recipe)
    groups = group_components(labels, census.index["shingles"][ranked], _GROUP_SHINGLES)
    sizes = np.bincount(labels)
    counts = {"components": int((sizes > 1).sum()), "largest_component": int(sizes.max(initial=0))}
    counts |= {"candidates": 0, "verified": 0, "capped": 0}
    search = _SearchGroup([str(part.folder) for part in census.parts], near, recipe.seed)
    ends = np.cumsum(census.index["shingles"], dtype=np.int64)
    tasks = (_group_task(census, ranked[np.sort(group)], ends) for group in groups)
    total = sum(group.size for group in groups)
    with progress_bar("near copies", total=total, unit="documents") as bar:
        for documents, found in run_in_order(search, tasks, recipe.runner):
            dropped = np.flatnonzero(found.kept_for >= 0)
            kept_for[documents[dropped]] = documents[found.kept_for[dropped]]
            similarity[documents[dropped]] = found.similarity[dropped]
            for name in ("candidates", "verified", "capped"):
                counts[name] += getattr(found, name)
            bar.advance(documents.size)
    return counts


def _components(census: Census, ranked: Integers, recipe: CorpusRecipe) -> Integers:
    """Labels of the connected components over all bands, for places of the rank."""
    places = np.full(len(census), -1, dtype=np.int64)
    places[ranked] = np.arange(ranked.size)
    places[census.index["shingles"] == 0] = -1
    components = Components(ranked.size)
    pairs_of = _PairsOfBand([str(part.folder) for part in census.parts], places)
    with progress_bar("bands", total=recipe.near_duplicates.bands, unit="bands") as bar:
        for first, other in run_in_order(pairs_of, range(recipe.near_duplicates.bands), recipe.runner):
            components.link(first, other)
            bar.advance()
    return components.labels()


@dataclass(frozen=True)
class _PairsOfBand:
    """One band over the whole corpus: pairs of places that share a bucket, k - 1 for a bucket of k."""

    folders: list[str]
    places: Integers

    def __call__(self, band: int) -> tuple[Integers, Integers]:
        keys = [np.load(Path(folder) / "bands.npy", mmap_mode="r")[band] for folder in self.folders]
        searched = self.places >= 0
        places = self.places[searched]
        first, other = bucket_pairs(np.concatenate(keys)[searched])
        return places[first], places[other]


@dataclass(frozen=True)
class _Group:
    """Documents to compare with each other, best first, and where their shingles lie.

    Attributes:
        documents: numbers in the census, [n].
        parts: number of the part of each, [n].
        bounds: where its shingles begin and end in the part's file, [n, 2].
        fixed: documents that cannot be dropped, [n].
    """

    documents: Integers
    parts: Integers
    bounds: Integers
    fixed: Mask


def _group_task(census: Census, documents: Integers, ends: Integers) -> _Group:
    parts = np.searchsorted(census.starts, documents, side="right") - 1
    before = np.concatenate([[0], ends])[census.starts[parts]]
    stops = ends[documents]
    starts = stops - census.index["shingles"][documents]
    bounds = np.stack([starts - before, stops - before], axis=1)
    return _Group(documents, parts, bounds, census.fixed[documents])


@dataclass(frozen=True)
class _SearchGroup:
    """The star pass over whole components, with their shingles read from the parts."""

    folders: list[str]
    recipe: NearDuplicateRecipe
    seed: int

    def __call__(self, group: _Group) -> tuple[Integers, Duplicates]:
        """The group's documents, and what was found among them, by their places."""
        sets = [shingle_hashes("")] * group.documents.size
        for part in np.unique(group.parts).tolist():
            places = np.flatnonzero(group.parts == part)
            for place, shingles in zip(places.tolist(), self._read(part, group.bounds[places]), strict=True):
                sets[place] = shingles
        rank = np.arange(group.documents.size)
        found = find_near_duplicates(ShingleSets.of(sets), rank, self.recipe, self.seed, group.fixed)
        return group.documents, found

    def _read(self, part: int, bounds: Integers) -> Iterator[Shingles]:
        """Shingles of some documents of a part. Read, not mapped: pages of a map count as memory until it is closed."""
        path = Path(self.folders[part]) / "shingles.npy"
        mapped = np.load(path, mmap_mode="r")
        offset, size = mapped.offset, mapped.dtype.itemsize
        with path.open("rb") as file:
            for start, stop in bounds.tolist():
                found = np.empty(stop - start, dtype=np.uint32)
                file.seek(offset + start * size)
                file.readinto(found.data)
                yield found


def _count(census: Census, mask: Mask) -> Count:
    return Count(documents=int(mask.sum()), size_bytes=int(census.index["size_bytes"][mask].sum(dtype=np.int64)))

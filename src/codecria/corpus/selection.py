"""Which accepted documents are taken: packages held out, and samples under the recipe's caps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from codecria.common.random import draw_bits
from codecria.common.recipe import Recipe
from codecria.corpus.document import KINDS, Kind
from codecria.corpus.parts import INDEX, Index, Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Set


HeldOutUnit = Literal["package", "file", "none"]
Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


class HeldOutRecipe(Recipe):
    """What is kept out of training, to measure on."""

    share: float = Field(default=0.05, ge=0, lt=1, description="share of the packages; at least one when above 0")
    packages: int | None = Field(default=None, ge=0, description="number of packages, instead of the share")
    names: tuple[str, ...] = ()
    """Packages held out whatever the draw says."""
    max_package_share: float = Field(default=0.05, gt=0, le=1, description="larger packages are not drawn")
    max_files_per_package: int = Field(default=100, ge=1)
    max_bytes: int = Field(default=5_000_000, ge=1)


@dataclass(frozen=True)
class Census:
    """Every accepted document of all parts, without text: 75 bytes each.

    Attributes:
        parts: in order.
        index: their indices joined, [documents]; `package` counts over all parts.
        starts: where each part's documents begin, [parts + 1].
        fixed: documents of earlier corpora, [documents].
        packages: names by number.
    """

    parts: Sequence[Part]
    index: Index
    starts: Integers
    fixed: Mask
    packages: Sequence[str]

    def __len__(self) -> int:
        return self.index.size

    def by_part(self, documents: Integers) -> Iterator[tuple[Part, Integers, Integers]]:
        """Each part that holds some of these documents (in rising order), with those, and with their rows there."""
        bounds = np.searchsorted(documents, self.starts)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            chosen = documents[bounds[number] : bounds[number + 1]]
            yield self.parts[number], chosen, chosen - self.starts[number]


def take_census(parts: Sequence[Part], earlier: int) -> Census:
    """Join the indices of all parts; the first `earlier` of them are of earlier corpora."""
    numbers: dict[str, int] = {}
    indices: list[Index] = []
    for part in parts:
        index = part.index()
        names = [numbers.setdefault(name, len(numbers)) for name in part.facts.packages]
        if names:
            index["package"] = np.array(names, dtype=np.int32)[index["package"]]
        indices.append(index)
    starts = np.cumsum([0, *(index.size for index in indices)], dtype=np.int64)
    joined: Index = np.concatenate([*indices, np.empty(0, dtype=INDEX)])
    fixed = np.arange(joined.size) < starts[earlier]
    return Census(parts, joined, starts, fixed, list(numbers))


@dataclass(frozen=True)
class HeldOut:
    """What is held out: whole packages, or single files where there is only one package."""

    unit: HeldOutUnit
    packages: frozenset[str]
    share: float

    def of(self, census: Census) -> Mask:
        """Which documents are held out, [documents]."""
        if self.unit == "package":
            chosen = np.array([name in self.packages for name in census.packages], dtype=np.bool_)
            mask = chosen[census.index["package"]]
        elif self.unit == "file":
            mask = census.index["held_out_draw"] < self.share
        else:
            mask = np.zeros(len(census), dtype=np.bool_)
        return np.where(census.fixed, census.index["held_out"], mask)


def choose_held_out(
    census: Census, recipe: HeldOutRecipe, seed: int, kept_out: Set[str] = frozenset(), trained: Set[str] = frozenset()
) -> HeldOut:
    """Draw the packages to hold out: those with the smallest keyed draws among packages that hold code.

    Where no package may be drawn (there is one, or each is larger than `max_package_share`), single files are
    drawn instead, a share of `recipe.share`.

    Args:
        census: all documents, or an even sample of them.
        recipe: how much is held out.
        seed: of the draw.
        kept_out: packages that the corpus which is added to holds out: they stay so.
        trained: packages it trains on: they are not drawn.
    """
    code = ~census.fixed & (census.index["kind"] == KINDS.index("code"))
    sizes = np.bincount(census.index["package"][code], census.index["size_bytes"][code], minlength=len(census.packages))
    holding = np.flatnonzero(sizes).tolist()
    count = max(1, round(recipe.share * len(holding))) if recipe.share else 0
    if recipe.packages is not None:
        count = recipe.packages
    limit = recipe.max_package_share * sizes.sum()
    named = frozenset(recipe.names) | kept_out
    eligible = [census.packages[number] for number in holding if sizes[number] <= limit]
    drawn = sorted(set(eligible) - trained - named, key=lambda name: (draw_bits("held-out package", seed, name), name))
    packages = named | frozenset(drawn[:count])
    if packages:
        return HeldOut("package", packages, recipe.share)
    return HeldOut("file" if count and recipe.share else "none", packages, recipe.share)


def choose_taken(census: Census, held: Mask, max_bytes: Mapping[Kind, int], recipe: HeldOutRecipe) -> Mask:
    """Which documents are taken under the caps, in the order of their draws, [documents].

    A part is full at the first document that would pass its cap. Documents of earlier corpora are all taken.
    """
    index = census.index
    taken = np.ones(len(census), dtype=np.bool_)
    order = np.argsort(index["draw"], kind="stable")
    order = order[~census.fixed[order]]
    for kind, cap in max_bytes.items():
        _cut(taken, order[(index["kind"][order] == KINDS.index(kind)) & ~held[order]], index, cap)
    kept_out = order[held[order]]
    packages = index["package"][kept_out]
    by_package = np.argsort(packages, kind="stable")
    first = np.searchsorted(packages[by_package], packages[by_package], side="left")
    too_many = np.empty(kept_out.size, dtype=np.bool_)
    too_many[by_package] = np.arange(kept_out.size) - first >= recipe.max_files_per_package
    taken[kept_out[too_many]] = False
    _cut(taken, kept_out[~too_many], index, recipe.max_bytes)
    return taken


def _cut(taken: Mask, documents: Integers, index: Index, cap: int) -> None:
    total = np.cumsum(index["size_bytes"][documents], dtype=np.int64)
    taken[documents[total > cap]] = False


def rank_documents(census: Census, held: Mask, documents: Integers) -> Integers:
    """Numbers of the documents, the one that survives its copies first.

    Earlier corpora before new documents, training before held out, permissive licences before others, originals
    before vendored copies, code before prose, the newest, the least nested path; then content hash and path.
    """
    index = census.index[documents]
    keys = (
        index["place"],
        index["hash"][:, 1],
        index["hash"][:, 0],
        index["depth"],
        -index["published_s"],
        index["kind"],
        index["vendored"],
        ~index["permissive"],
        held[documents],
        ~census.fixed[documents],
    )
    return documents[np.lexsort(keys)]

"""Stage 1: every unit of every source becomes a part; in rounds, where caps ask for a sample.

A cap is filled from the documents with the smallest draws. So a sampled build reads the files drawn below a share
of the whole, looks at what that gave, and reads on from there until each cap is reached.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codecria.common.progress import progress_bar, track
from codecria.corpus.document import KINDS
from codecria.corpus.parts import MakePart, Part, Take
from codecria.corpus.runner import run_in_order
from codecria.corpus.selection import Census, HeldOut, Mask, choose_held_out, choose_taken, take_census
from codecria.corpus.sources.earlier import EarlierShard, earlier_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codecria.corpus.examine import Examiner
    from codecria.corpus.manifest import Manifest
    from codecria.corpus.recipe import CorpusRecipe
    from codecria.corpus.sources.source import Source, Unit

_FIRST_SHARE = 3.0
_LEAST_SHARE = 1e-4
"""A sampled build first reads this many times its caps: filters and other kinds of file take their part."""


@dataclass(frozen=True)
class Listing:
    """What the sources hold, without holding it: the units are asked for again when they are worked on.

    Attributes:
        units: how many.
        size_bytes: of all.
        digest: over name and state of each; tells whether the sources changed.
    """

    units: int
    size_bytes: int
    digest: str


def list_units(sources: Iterable[Source]) -> Listing:
    """Count what the sources hold."""
    units = size_bytes = 0
    state = hashlib.sha256()
    for source in sources:
        for unit in track(source.units(), f"listing {source.describe()}", unit="units"):
            units += 1
            size_bytes += unit.size_bytes
            state.update(f"{unit.name}\0{unit.state}\n".encode())
    return Listing(units, size_bytes, state.hexdigest())


@dataclass(frozen=True)
class Intake:
    """What stage 1 gives.

    Attributes:
        census: every accepted document.
        earlier: how many parts, the first ones, are of earlier corpora.
        held_out: which packages or files are held out.
        held: the documents that are held out, [documents].
        taken: the documents under the caps, [documents].
    """

    census: Census
    earlier: int
    held_out: HeldOut
    held: Mask
    taken: Mask


@dataclass
class TakeIn:
    """Stage 1 under way.

    Attributes:
        recipe, sources, listing, examiner: what is read, and who judges it.
        parts: folder of the parts.
        old: manifest of the corpus that is added to, which lies in `folder`.
    """

    recipe: CorpusRecipe
    sources: list[Source]
    listing: Listing
    examiner: Examiner
    parts: Path
    folder: Path
    old: Manifest | None

    def run(self) -> Intake:
        """Make all parts, and choose."""
        caps = self.recipe.max_bytes
        earlier = list(self._round("e", self._earlier_units(), None, Take())) if self.old or self.recipe.earlier else []
        share = 1.0
        if caps.keys() >= set(KINDS):  # a kind without a cap is taken whole
            share = min(1.0, max(_LEAST_SHARE, _FIRST_SHARE * sum(caps.values()) / max(self.listing.size_bytes, 1)))
        parts = [*earlier, *self._round("r0", self._units(), self.examiner, Take(0.0, share))]
        census = take_census(parts, len(earlier))
        trained = frozenset(self.old.splits["train"].by_package) if self.old else frozenset[str]()
        held_out = choose_held_out(census, self.recipe.held_out, self.recipe.seed, self._kept_out(), trained)
        number = 0
        while share < 1.0 and (more := self._missing(census, held_out)) > 1.0:
            number += 1
            low, share = share, min(1.0, share * more)
            parts += self._round(f"r{number}", self._units(), self.examiner, Take(low, share))
            census = take_census(parts, len(earlier))
        if share < 1.0 and held_out.packages:
            parts += self._round("h", self._units(), self.examiner, Take(share, 1.0, held_out.packages))
            census = take_census(parts, len(earlier))
        held = held_out.of(census)
        return Intake(census, len(earlier), held_out, held, choose_taken(census, held, caps, self.recipe.held_out))

    def _round(self, name: str, units: Iterator[Any], examiner: Examiner | None, take: Take) -> Iterator[Part]:
        recipe = self.recipe
        make = MakePart(self.parts, examiner, recipe.near_duplicates, recipe.dropped_samples, recipe.seed)
        tasks = ((f"{name}-{number:06d}", unit, take) for number, unit in enumerate(units))
        what = {"e": "reading earlier corpora", "h": "reading held-out packages"}.get(name, "reading")
        accepted = 0
        with progress_bar(what, total=self.listing.size_bytes if examiner else None, unit="bytes") as bar:
            for part in run_in_order(make, tasks, recipe.runner):
                accepted += part.facts.text_bytes
                bar.advance(part.facts.unit_bytes, f"{accepted / 1e6:.0f} MB accepted")
                yield part

    def _units(self) -> Iterator[Unit]:
        for source in self.sources:
            yield from source.units()

    def _earlier_units(self) -> Iterator[EarlierShard]:
        folders = [Path(name).expanduser() for name in self.recipe.earlier]
        return earlier_units([*folders, *([self.folder] if self.old else [])])

    def _kept_out(self) -> frozenset[str]:
        """Packages that the corpus which is added to holds out: they stay so."""
        if self.old is None or self.old.held_out_unit != "package":
            return frozenset()
        return frozenset(self.old.splits["held_out"].by_package)

    def _missing(self, census: Census, held_out: HeldOut) -> float:
        """By how much the sample must grow so that each cap is reached, about; 1 when it need not."""
        train = ~census.fixed & ~held_out.of(census)
        sizes = census.index["size_bytes"][train]
        found = np.bincount(census.index["kind"][train], sizes, minlength=len(KINDS)).tolist()
        more = 1.0
        for kind, size in zip(KINDS, found, strict=True):
            cap = self.recipe.max_bytes[kind]
            if size < cap:
                more = max(more, min(1.3 * cap / max(size, 1), 8.0))
        return more

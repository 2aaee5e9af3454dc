"""Which candidates are taken: the keyed sample under the caps, and the packages held out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from codecria.common.progress import track
from codecria.common.random import draw_bits, draw_uniform
from codecria.common.recipe import Recipe
from codecria.corpus.sources.source import FORMS, Candidate, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codecria.corpus.document import Kind
    from codecria.corpus.manifest import Split

HeldOutUnit = Literal["package", "file", "none"]


class HeldOutRecipe(Recipe):
    """What is kept out of training, to measure on."""

    share: float = Field(default=0.05, ge=0, lt=1, description="share of the packages; at least one when above 0")
    packages: int | None = Field(default=None, ge=0, description="number of packages, instead of the share")
    names: tuple[str, ...] = ()
    """Packages held out whatever the draw says."""
    max_package_share: float = Field(default=0.05, gt=0, le=1, description="larger packages are not drawn")
    max_files_per_package: int = Field(default=100, ge=1)
    max_bytes: int = Field(default=5_000_000, ge=1)


@dataclass
class Listing:
    """All candidates of the sources.

    Attributes:
        candidates: in the order of the sources.
        digest: over name, size and time of each file; tells whether the sources changed.
    """

    candidates: list[Candidate] = field(default_factory=list[Candidate])
    digest: str = ""


def list_candidates(sources: Iterable[Source]) -> Listing:
    """Ask every source for its candidates. A file that two sources give is taken once, from the first."""
    listing = Listing()
    state = hashlib.sha256()
    seen: set[tuple[str, str]] = set()
    for source in sources:
        for one in track(source.documents(), f"listing {source.describe()}", unit="files"):
            key = (one.file, one.form)
            if key in seen:
                continue
            seen.add(key)
            listing.candidates.append(one)
            state.update(f"{one.origin}\0{one.path}\0{one.size_bytes}\0{one.modified_ns}\n".encode())
    listing.digest = state.hexdigest()
    return listing


@dataclass(frozen=True)
class HeldOut:
    """What is held out: whole packages, or single files where there is only one package."""

    unit: HeldOutUnit
    packages: frozenset[str]
    share: float
    seed: int

    def split(self, candidate: Candidate) -> Split:
        """The split a candidate belongs to."""
        if self.unit == "package" and candidate.package in self.packages:
            return "held_out"
        if self.unit == "file":
            path = candidate.path.partition("#")[0]
            return "held_out" if draw_uniform("held-out file", self.seed, path) < self.share else "train"
        return "train"


def choose_held_out(candidates: list[Candidate], recipe: HeldOutRecipe, seed: int) -> HeldOut:
    """Draw the packages to hold out: those with the smallest keyed draws among packages that hold code.

    Where no package may be drawn (there is one, or each is larger than `max_package_share`), single files are
    drawn instead, a share of `recipe.share`.
    """
    sizes: dict[str, int] = {}
    for one in candidates:
        if one.form == "file" and one.kind == "code":
            sizes[one.package] = sizes.get(one.package, 0) + one.size_bytes
    count = max(1, round(recipe.share * len(sizes))) if recipe.share else 0
    if recipe.packages is not None:
        count = recipe.packages
    limit = recipe.max_package_share * sum(sizes.values())
    eligible = sorted(
        (name for name, size in sizes.items() if size <= limit and name not in recipe.names),
        key=lambda name: (draw_bits("held-out package", seed, name), name),
    )
    packages = frozenset(recipe.names) | frozenset(eligible[:count])
    if packages:
        return HeldOut("package", packages, recipe.share, seed)
    return HeldOut("file" if count and recipe.share else "none", packages, recipe.share, seed)


@dataclass
class Budget:
    """How much has been taken of each part, and whether more may be."""

    max_bytes: dict[Kind, int]
    held_out: HeldOutRecipe
    _taken_bytes: dict[tuple[Split, str], int] = field(default_factory=dict[tuple["Split", str], int])
    _taken_files: dict[str, int] = field(default_factory=dict[str, int])
    _full: set[tuple[Split, str]] = field(default_factory=set[tuple["Split", str]])

    def open_for(self, split: Split, candidate: Candidate) -> bool:
        """Whether a candidate of this part is still wanted."""
        if split == "train":
            return (split, candidate.kind) not in self._full
        files = self._taken_files.get(candidate.package, 0)
        return (split, "") not in self._full and files < self.held_out.max_files_per_package

    def take(self, split: Split, candidate: Candidate, size_bytes: int) -> bool:
        """Count a document in; False, and the part is full, when it would pass the cap."""
        key = (split, candidate.kind if split == "train" else "")
        cap = self.max_bytes.get(candidate.kind) if split == "train" else self.held_out.max_bytes
        taken = self._taken_bytes.get(key, 0) + size_bytes
        if cap is not None and taken > cap:
            self._full.add(key)
            return False
        self._taken_bytes[key] = taken
        if split == "held_out":
            self._taken_files[candidate.package] = self._taken_files.get(candidate.package, 0) + 1
        return True


def order_candidates(
    candidates: list[Candidate], held_out: HeldOut, max_files: int | None, sampled: bool, seed: int
) -> Iterator[tuple[Split, Candidate]]:
    """Candidates to examine with their split: training first, then held out.

    Held-out candidates, and training ones when `sampled`, come in the order of a draw keyed by package and path,
    so that any cap leaves a random sample; the forms of one file stay together. `max_files` cuts training.
    """
    train: list[Candidate] = []
    held: list[Candidate] = []
    for one in candidates:
        (held if held_out.split(one) == "held_out" else train).append(one)
    if sampled or max_files is not None:
        train.sort(key=lambda one: _draw(one, seed))
    files: set[str] = set()
    for one in train:
        files.add(one.file)
        if max_files is not None and len(files) > max_files:
            break
        yield "train", one
    for one in sorted(held, key=lambda one: _draw(one, seed)):
        yield "held_out", one


def _draw(candidate: Candidate, seed: int) -> tuple[int, str, int]:
    path = candidate.path.partition("#")[0]
    return draw_bits("sample", seed, candidate.package, path), candidate.file, FORMS.index(candidate.form)

"""Stage 3: kept documents into shards, one task a shard, and what was dropped into the ledger."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from codecria.common.files import write_atomic
from codecria.common.random import digest
from codecria.corpus.document import Document
from codecria.corpus.manifest import Shard, Split, SplitCounts, Tally
from codecria.corpus.repository_order import RepositoryFile, dependency_order, join_repository
from codecria.corpus.samples import SAMPLES, Samples, read_samples
from codecria.corpus.store import DOCUMENT_FIELDS, LedgerRow, LedgerWriter, ShardWriter, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codecria.corpus.copies import Copies
    from codecria.corpus.recipe import CorpusRecipe
    from codecria.corpus.selection import Census, Integers, Mask


@dataclass(frozen=True)
class ShardPlan:
    """One shard: which rows of which parts, in order."""

    name: str
    split: Split
    rows: list[tuple[str, Integers]]


def plan_shards(census: Census, kept: Mask, split: Split, first: int, recipe: CorpusRecipe) -> list[ShardPlan]:
    """Cut the kept documents of a split into shards of about `shard_bytes`, in the order of the parts.

    A document is never cut, and in repository order no package of one part is.

    Args:
        census: all documents.
        kept: those of this split that are written, [documents].
        split: its name, which the shards' names begin with.
        first: number of the first shard; those before it are there already.
        recipe: the sizes.
    """
    documents = np.flatnonzero(kept)
    cuts: list[int] = []
    place = held_bytes = 0
    for _, chosen, _ in census.by_part(documents):
        sizes, packages = (census.index[field][chosen].tolist() for field in ("size_bytes", "package"))
        last = None
        for size, package in zip(sizes, packages, strict=True):
            if held_bytes >= recipe.shard_bytes and (recipe.order == "source" or package != last):
                cuts.append(place)
                held_bytes = 0
            held_bytes += size
            place, last = place + 1, package
    plans: list[ShardPlan] = []
    for number, shard in enumerate(np.split(documents, cuts) if documents.size else (), start=first):
        rows = [(str(part.folder), rows) for part, _, rows in census.by_part(shard)]
        plans.append(ShardPlan(f"{split}-{number:05d}.parquet", split, rows))
    return plans


class Written(BaseModel):
    """A shard that is written, and what it holds: kept beside it until the build is whole."""

    key: str
    shard: Shard
    counts: SplitCounts


@dataclass(frozen=True)
class WriteShard:
    """Write one shard unless it is there: a function that any worker can run.

    Attributes:
        folder: where shards go.
        notes: where it is kept that they are whole.
        key: of all parts and of who is kept.
        repository_order: place what a file imports before it.
        join_characters: longest document joined from the files of a package; None leaves files apart.
    """

    folder: Path
    notes: Path
    key: bytes
    repository_order: bool
    join_characters: int | None

    def __call__(self, plan: ShardPlan) -> Written:
        """The shard as the manifest tells of it, and what it holds."""
        rows = [(folder, rows.tobytes()) for folder, rows in plan.rows]
        key = digest(self.key, plan.name, *(item for pair in rows for item in pair)).hex()
        note = self.notes / f"{plan.name}.json"
        path = self.folder / plan.name
        if note.is_file() and path.is_file():
            written = Written.model_validate_json(note.read_text())
            if written.key == key:
                return written
        note.unlink(missing_ok=True)  # it would vouch for what another recipe is about to write
        tally = Tally()
        writer = ShardWriter(self.notes / f"{plan.name}.{os.getpid()}.part")
        for package, document in self._documents(plan):
            writer.add(document, document.size_bytes)
            tally.add(document, package, document.size_bytes)
        written = Written(key=key, shard=writer.finish(path, plan.split), counts=tally.counts())
        write_atomic(note, written.model_dump_json())
        return written

    def _documents(self, plan: ShardPlan) -> Iterator[tuple[str, Document]]:
        """Documents, each after the package it is of."""
        for folder, numbers in plan.rows:
            rows = _rows_of(Path(folder), numbers, (*DOCUMENT_FIELDS, "package"))
            documents = ((row.pop("package"), Document(**row)) for row in rows)
            yield from self._in_repository_order(documents) if self.repository_order else documents

    def _in_repository_order(self, documents: Iterable[tuple[str, Document]]) -> Iterator[tuple[str, Document]]:
        for package, group in groupby(documents, lambda pair: pair[0]):
            yield from ((package, one) for one in self._ordered([document for _, document in group]))

    def _ordered(self, documents: list[Document]) -> Iterator[Document]:
        files = [RepositoryFile(one.path, one.language, one.text) for one in documents]
        ordered = [documents[place] for place in dependency_order(files)]
        yield from ordered if self.join_characters is None else join_repository(ordered, self.join_characters)


def _rows_of(part: Path, rows: Integers, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Some documents of a part as mappings, in order."""
    wanted = iter(rows.tolist())
    following = next(wanted, -1)
    for number, row in enumerate(read_rows(part / "documents.parquet", columns)):
        if number == following:
            yield row
            following = next(wanted, -1)
        if following < 0:
            return


def _read(census: Census, documents: Integers, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Some documents by their numbers, which rise."""
    for part, chosen, rows in census.by_part(documents):
        yield from zip(chosen.tolist(), _rows_of(part.folder, rows, columns), strict=True)


def write_ledger(census: Census, copies: Copies, path: Path, samples_path: Path, most_samples: int) -> None:
    """Every part's ledger rows, then a row for each copy; and samples of what was dropped."""
    ledger, samples = LedgerWriter(path), Samples(most_samples)
    for part in census.parts:
        for row in read_rows(part.folder / "ledger.parquet", LedgerRow._fields):
            ledger.add_row(LedgerRow(**row))
        samples.merge(read_samples(part.folder / SAMPLES))
    dropped = np.flatnonzero(copies.kept_for >= 0)
    kept = dict(_read(census, np.unique(copies.kept_for[dropped]), ("origin", "path")))
    for document, one in _read(census, dropped, ("kind", "origin", "path")):
        original, similarity = int(copies.kept_for[document]), float(copies.similarity[document])
        origin, name = kept[original]["origin"], kept[original]["path"]
        exact = bool((census.index["hash"][document] == census.index["hash"][original]).all())
        reason, like = ("exact-copy", "") if exact else ("near-copy", f", {similarity:.2f} similar")
        place = (one["kind"], one["origin"], one["path"], int(census.index["size_bytes"][document]))
        ledger.add_row(LedgerRow(reason, f"of {origin}: {name}{like}", *place, origin, name, similarity))
    ledger.close()
    _sample_copies(census, copies, samples, most_samples)
    samples.write(samples_path)


def _sample_copies(census: Census, copies: Copies, samples: Samples, most: int) -> None:
    """Near copies beside what was kept for them: those with the smallest draws."""
    near = np.flatnonzero((copies.kept_for >= 0) & (copies.similarity < 1))
    chosen = np.sort(near[np.argsort(census.index["draw"][near], kind="stable")[:most]])
    found = dict(_read(census, np.union1d(chosen, copies.kept_for[chosen]), ("origin", "path", "text")))
    for document in chosen.tolist():
        other = {f"other_{name}": value for name, value in found[int(copies.kept_for[document])].items()}
        detail = f"{float(copies.similarity[document]):.2f} similar"
        row = {"reason": "near-copy", "detail": detail, **found[document], "start": None, "stop": None, **other}
        samples.offer_copy(float(census.index["draw"][document]), row)

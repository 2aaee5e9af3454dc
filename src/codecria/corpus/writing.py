"""Stage 3: kept documents into shards, one task a shard, and what was dropped into the ledger."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
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

_FIELDS = (*DOCUMENT_FIELDS, "package")


@dataclass(frozen=True)
class ShardPlan:
    """One shard: which rows of which parts, in order."""

    name: str
    split: Split
    rows: list[tuple[str, Integers]]


@dataclass
class _Cut:
    """The shard being planned."""

    rows: list[tuple[str, list[int]]] = field(default_factory=list[tuple[str, list[int]]])
    size_bytes: int = 0


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
    plans: list[ShardPlan] = []
    cut = _Cut()

    def finish() -> None:
        if cut.rows:
            rows = [(folder, np.array(numbers, dtype=np.int64)) for folder, numbers in cut.rows]
            plans.append(ShardPlan(f"{split}-{first + len(plans):05d}.parquet", split, rows))
        cut.rows, cut.size_bytes = [], 0

    for number, part in enumerate(census.parts):
        start, stop = int(census.starts[number]), int(census.starts[number + 1])
        places = np.flatnonzero(kept[start:stop])
        if not places.size:
            continue
        sizes = census.index["size_bytes"][start:stop][places].tolist()
        packages = census.index["package"][start:stop][places].tolist()
        last, rows = None, None
        for row, size, package in zip(places.tolist(), sizes, packages, strict=True):
            whole = recipe.order == "source" or package != last
            if cut.size_bytes >= recipe.shard_bytes and whole:
                finish()
                rows = None
            if rows is None:
                rows = list[int]()
                cut.rows.append((str(part.folder), rows))
            rows.append(row)
            cut.size_bytes += size
            last = package
    finish()
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
        for document, package in self._documents(plan):
            writer.add(document, document.size_bytes)
            tally.add(document, package, document.size_bytes)
        written = Written(key=key, shard=writer.finish(path, plan.split), counts=tally.counts())
        write_atomic(note, written.model_dump_json())
        return written

    def _documents(self, plan: ShardPlan) -> Iterator[tuple[Document, str]]:
        for folder, rows in plan.rows:
            documents = read_documents(Path(folder), rows)
            yield from self._in_repository_order(documents) if self.repository_order else documents

    def _in_repository_order(self, documents: Iterable[tuple[Document, str]]) -> Iterator[tuple[Document, str]]:
        waiting: list[Document] = []
        package = ""
        for document, owner in documents:
            if waiting and owner != package:
                yield from ((one, package) for one in self._ordered(waiting))
                waiting = []
            package = owner
            waiting.append(document)
        yield from ((one, package) for one in self._ordered(waiting))

    def _ordered(self, documents: list[Document]) -> Iterator[Document]:
        files = [RepositoryFile(one.path, one.language, one.text) for one in documents]
        ordered = [documents[place] for place in dependency_order(files)]
        if self.join_characters is None:
            yield from ordered
            return
        yield from join_repository(ordered, self.join_characters)


def read_documents(part: Path, rows: Integers) -> Iterator[tuple[Document, str]]:
    """Some documents of a part with their packages, in order."""
    wanted = iter(rows.tolist())
    following = next(wanted, -1)
    for number, row in enumerate(read_rows(part / "documents.parquet", _FIELDS)):
        if number == following:
            package = row.pop("package")
            yield Document(**row), package
            following = next(wanted, -1)
        if following < 0:
            return


def write_ledger(census: Census, copies: Copies, path: Path, samples_path: Path, most_samples: int) -> None:
    """Every part's ledger rows, then a row for each copy; and samples of what was dropped."""
    ledger, samples = LedgerWriter(path), Samples(most_samples)
    for part in census.parts:
        for row in read_rows(part.folder / "ledger.parquet", LedgerRow._fields):
            ledger.add(LedgerRow(**row))
        samples.merge(read_samples(part.folder / SAMPLES))
    kept = _places(census, np.unique(copies.kept_for[copies.kept_for >= 0]))
    for number, part in enumerate(census.parts):
        start, stop = int(census.starts[number]), int(census.starts[number + 1])
        rows = np.flatnonzero(copies.kept_for[start:stop] >= 0)
        for row, one in zip(rows.tolist(), _rows_of(part.folder, rows), strict=True):
            document = start + row
            origin, name = kept[int(copies.kept_for[document])]
            similarity = float(copies.similarity[document])
            exact = bool((census.index["hash"][document] == census.index["hash"][copies.kept_for[document]]).all())
            reason, like = ("exact-copy", "") if exact else ("near-copy", f", {similarity:.2f} similar")
            size = int(census.index["size_bytes"][document])
            ledger.add(
                LedgerRow(
                    reason,
                    f"of {origin}: {name}{like}",
                    one["kind"],
                    one["origin"],
                    one["path"],
                    size,
                    origin,
                    name,
                    similarity,
                )
            )
    ledger.close()
    _sample_copies(census, copies, samples, most_samples)
    samples.write(samples_path)


def _places(census: Census, documents: Integers) -> dict[int, tuple[str, str]]:
    """Origin and path of some documents."""
    places: dict[int, tuple[str, str]] = {}
    numbers = np.searchsorted(census.starts, documents, side="right") - 1
    for number in np.unique(numbers).tolist():
        start = int(census.starts[number])
        chosen = documents[numbers == number]
        for document, row in zip(chosen.tolist(), _rows_of(census.parts[number].folder, chosen - start), strict=True):
            places[document] = row["origin"], row["path"]
    return places


def _rows_of(part: Path, rows: Integers) -> Iterator[dict[str, Any]]:
    if not rows.size:
        return
    wanted = set(rows.tolist())
    for number, row in enumerate(read_rows(part / "documents.parquet", ("kind", "origin", "path"))):
        if number in wanted:
            yield row


def _sample_copies(census: Census, copies: Copies, samples: Samples, most: int) -> None:
    """Near copies beside what was kept for them: those with the smallest draws."""
    near = np.flatnonzero((copies.kept_for >= 0) & (copies.similarity < 1))
    chosen = np.sort(near[np.argsort(census.index["draw"][near], kind="stable")[:most]])
    texts = _texts(census, np.union1d(chosen, copies.kept_for[chosen]))
    for document in chosen.tolist():
        one, kept = texts[document], texts[int(copies.kept_for[document])]
        similarity = float(copies.similarity[document])
        row = {"reason": "near-copy", "detail": f"{similarity:.2f} similar", "origin": one.origin, "path": one.path}
        row |= {"text": one.text, "start": None, "stop": None}
        row |= {"other_origin": kept.origin, "other_path": kept.path, "other_text": kept.text}
        samples.offer_copy(float(census.index["draw"][document]), row)


def _texts(census: Census, documents: Integers) -> dict[int, Document]:
    texts: dict[int, Document] = {}
    numbers = np.searchsorted(census.starts, documents, side="right") - 1
    for number in np.unique(numbers).tolist():
        start = int(census.starts[number])
        chosen = documents[numbers == number]
        found = read_documents(census.parts[number].folder, chosen - start)
        texts |= {document: one for document, (one, _) in zip(chosen.tolist(), found, strict=True)}
    return texts

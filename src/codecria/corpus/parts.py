"""Parts: what stage 1 makes of one unit of a source, on disk between the stages.

parts/r0-000012/
  documents.parquet   the accepted documents and their packages, in the unit's order
  index.npy           one fixed-size record a document (`INDEX`): all that the choice and the duplicate search need
  shingles.npy        the documents' shingle hashes, one after the other
  bands.npy           uint64 [bands, documents]: the keys by which near copies meet
  ledger.parquet      a row for each file that became no document
  samples.parquet     a few of the dropped texts for each reason, drawn by key
  part.json           counts, and the key of what the part was made from

A part is written aside and renamed, and is made again only when its key no longer fits: that is all there is to
resuming a build.
"""

from __future__ import annotations

import importlib.metadata
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_folder
from codecria.common.random import digest, draw_uniform
from codecria.corpus.document import KINDS, Document
from codecria.corpus.examine import Examined, Examiner, compared
from codecria.corpus.licence import is_permissive
from codecria.corpus.near_duplicates import NearDuplicateRecipe, band_keys
from codecria.corpus.samples import Samples
from codecria.corpus.shingles import Shingles, ShingleSets, shingle_hashes
from codecria.corpus.sources.earlier import EarlierFile
from codecria.corpus.sources.source import Refused, SourceFile, Unit, UnreadableError, reason_of
from codecria.corpus.store import PART_SCHEMA, LedgerRow, LedgerWriter, TableWriter, document_values

if TYPE_CHECKING:
    from pathlib import Path


INDEX = np.dtype(
    [
        ("hash", "<u8", 2),  # first half of the content hash
        ("place", "<u8"),  # of origin and path: the last tie
        ("draw", "<f8"),  # by which samples are taken
        ("held_out_draw", "<f8"),  # by which single files are held out
        ("published_s", "<i8"),
        ("size_bytes", "<u4"),
        ("shingles", "<u4"),
        ("package", "<i4"),  # number in the part's list of packages
        ("depth", "<u2"),  # folders above the file
        ("kind", "u1"),
        ("permissive", "?"),
        ("vendored", "?"),
        ("held_out", "?"),  # only of earlier corpora: it was held out there
    ]
)
Index = npt.NDArray[Any]

FORMAT = 2
"""Counts up when the same input would give other parts."""


@dataclass(frozen=True)
class Take:
    """Which files of a unit are taken: those drawn in [low, high), of some packages or of all."""

    low: float = 0.0
    high: float = 1.0
    packages: frozenset[str] | None = None

    def wants(self, draw: float, package: str) -> bool:
        """Whether a file with this draw is taken."""
        return self.low <= draw < self.high and (self.packages is None or package in self.packages)


@dataclass
class PartFacts:
    """What is known of a part: `part.json`.

    Attributes:
        key: of what it was made from.
        unit: its name.
        unit_bytes: how much there was to read, about.
        seen_texts, seen_bytes: texts judged (a Python file may hold two), with the sizes of their files.
        passed_by: files of no language we know.
        dropped: (documents, bytes) by reason.
        redacted: what was replaced, by sort.
        packages: names, by number.
        documents, text_bytes: accepted.
    """

    key: str
    unit: str
    unit_bytes: int
    seen_texts: int = 0
    seen_bytes: int = 0
    passed_by: int = 0
    documents: int = 0
    text_bytes: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    redacted: dict[str, int] = field(default_factory=dict[str, int])
    packages: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Part:
    """A finished part."""

    folder: Path
    facts: PartFacts

    def index(self) -> Index:
        """The index, [documents]."""
        return np.load(self.folder / "index.npy")


@dataclass(frozen=True)
class MakePart:
    """Stage 1 for one unit: a function that any worker can run.

    Attributes:
        folder: where parts go.
        examiner: judges the files; None for units of an earlier corpus, whose documents are taken as they are.
        near: how documents are compared.
        samples: dropped texts kept for each reason.
        seed: of draws and signatures.
    """

    folder: Path
    examiner: Examiner | None
    near: NearDuplicateRecipe
    samples: int
    seed: int

    def __call__(self, task: tuple[str, Unit, Take]) -> Part:
        """Make the part called `task[0]` unless it is there."""
        name, unit, take = task
        folder = self.folder / name
        identity = self.examiner.identity if self.examiner else b"earlier"
        wanted = "all" if take.packages is None else " ".join(sorted(take.packages))
        drawn = f"{take.low} {take.high} {wanted}"
        # Another version of rensa may give other signatures, whose keys would never meet.
        near = f"{self.near.model_dump_json()} {importlib.metadata.version('rensa')}"
        key = digest(FORMAT, unit.name, unit.state, identity, near, drawn, self.seed).hex()
        facts = _read_facts(folder)
        if facts is None or facts.key != key:
            facts = PartFacts(key, unit.name, unit.size_bytes)
            with atomic_folder(folder) as aside:
                _PartWriter(aside, facts, self).write(unit, take)
        return Part(folder, facts)


def _read_facts(folder: Path) -> PartFacts | None:
    with suppress(FileNotFoundError):
        return PartFacts(**json.loads((folder / "part.json").read_text()))
    return None


class _PartWriter:
    """One part while it is written."""

    def __init__(self, folder: Path, facts: PartFacts, maker: MakePart) -> None:
        self._folder, self._facts, self._maker = folder, facts, maker
        # Read back in this build only: light compression.
        self._documents = TableWriter(folder / "documents.parquet", PART_SCHEMA, "lz4")
        self._ledger = LedgerWriter(folder / "ledger.parquet")
        self._samples = Samples(maker.samples)
        self._index: list[tuple[Any, ...]] = []
        self._shingles: list[Shingles] = []
        self._numbers: dict[str, int] = {}

    def write(self, unit: Unit, take: Take) -> None:
        """Read the whole unit; what a hostile file does to the reading of it is a line of the ledger."""
        seed = self._maker.seed
        try:
            for file in unit.files():
                draw = draw_uniform("sample", seed, file.package, file.path.partition("#")[0])
                if not take.wants(draw, file.package):
                    continue
                if isinstance(file, Refused):
                    self._drop(LedgerRow(file.reason, file.detail, "code", file.origin, file.path, file.size_bytes))
                elif isinstance(file, EarlierFile):
                    one = file.document
                    self._accept(file, one, file.size_bytes, shingle_hashes(compared(one.text, one.kind)), draw)
                else:
                    self._examine(file, draw)
        except (UnreadableError, OSError) as error:
            # A sample reads the unit once a round, and this is one line of the ledger.
            if take.low == 0 and take.packages is None:
                self._drop(LedgerRow(*reason_of(error), "code", unit.name, ".", unit.size_bytes))
        self._finish()

    def _examine(self, file: SourceFile, draw: float) -> None:
        """Judge one file. An error of ours must not end a run of days: it is a line of the ledger, with its name."""
        assert self._maker.examiner is not None
        try:
            found = list(self._maker.examiner(file))
        except (CodecriaError, MemoryError):
            raise  # the build cannot go on
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            self._drop(LedgerRow("failed", said, "code", file.origin, file.path, file.size_bytes))
            return
        for examined in found:
            self._take(file, examined, draw)
        self._facts.passed_by += not found

    def _take(self, file: SourceFile, examined: Examined, draw: float) -> None:
        if examined.document is not None and examined.shingles is not None:
            self._accept(file, examined.document, examined.size_bytes, examined.shingles, draw)
            for sort, count in (examined.redacted or {}).items():
                self._facts.redacted[sort] = self._facts.redacted.get(sort, 0) + count
        elif examined.dropped is not None:
            reason, detail = examined.dropped
            self._drop(LedgerRow(reason, detail, examined.kind, file.origin, examined.path, examined.size_bytes))
            if examined.text is not None:
                self._samples.offer(draw, reason, detail, file.origin, examined.path, examined.text, examined.hit)

    def _accept(
        self, file: SourceFile | EarlierFile, one: Document, size_bytes: int, shingles: Shingles, draw: float
    ) -> None:
        number = self._numbers.setdefault(file.package, len(self._numbers))
        half = bytes.fromhex(one.content_hash[:32])
        record = (
            (int.from_bytes(half[:8], "big"), int.from_bytes(half[8:], "big")),
            int.from_bytes(digest(one.origin, one.path)[:8], "big"),
            draw,
            draw_uniform("held-out file", self._maker.seed, file.package, file.path),
            file.modified_s,
            size_bytes,
            shingles.size,
            number,
            min(one.path.count("/"), 65_535),
            KINDS.index(one.kind),
            is_permissive(one.licence),
            "vendor" in one.path or "third_party" in one.path,
            isinstance(file, EarlierFile) and file.held_out,
        )
        self._index.append(record)
        self._shingles.append(shingles)
        self._documents.add((*document_values(one), file.package), size_bytes)
        self._facts.seen_texts += 1
        self._facts.seen_bytes += file.size_bytes
        self._facts.documents += 1
        self._facts.text_bytes += size_bytes

    def _drop(self, row: LedgerRow) -> None:
        self._ledger.add_row(row)
        self._facts.seen_texts += 1
        self._facts.seen_bytes += row.size_bytes
        count = self._facts.dropped.setdefault(row.reason, [0, 0])
        count[0] += 1
        count[1] += row.size_bytes

    def _finish(self) -> None:
        self._documents.close()
        self._ledger.close()
        self._samples.write(self._folder / "samples.parquet")
        index = np.array(self._index, dtype=INDEX)
        hashes = np.concatenate([*self._shingles, shingle_hashes("")])
        offsets = np.concatenate([[0], np.cumsum(index["shingles"], dtype=np.int64)])
        np.save(self._folder / "index.npy", index)
        np.save(self._folder / "shingles.npy", hashes)
        np.save(self._folder / "bands.npy", band_keys(ShingleSets(hashes, offsets), self._maker.near, self._maker.seed))
        self._facts.packages = list(self._numbers)
        (self._folder / "part.json").write_text(json.dumps(asdict(self._facts)) + "\n")

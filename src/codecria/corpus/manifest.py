"""The manifest of a corpus: what it holds, what was dropped, and from which recipe it was built."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from codecria.common.errors import CodecriaError, explain_os_error
from codecria.corpus.document import KINDS, Document

if TYPE_CHECKING:
    from pathlib import Path

Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "held_out")

MANIFEST = "manifest.json"
FORMAT = "codecria corpus 1"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Count(_Record):
    """A number of documents and the bytes of their texts in UTF-8."""

    documents: int = 0
    size_bytes: int = 0

    def plus(self, size_bytes: int, documents: int = 1) -> Count:
        """The sum of this and more."""
        return Count(documents=self.documents + documents, size_bytes=self.size_bytes + size_bytes)


class SplitCounts(_Record):
    """What a split holds."""

    total: Count
    by_kind: dict[str, Count]
    by_language: dict[str, Count]
    by_licence: dict[str, Count]
    by_package: dict[str, Count]


class DuplicateCounts(_Record):
    """What the duplicate search found."""

    exact_copies: Count = Count()
    near_copies: Count = Count()
    held_out_copies_of_train: int = 0
    candidates: int = 0
    verified: int = 0
    capped: int = 0
    largest_star: int = 0
    """Most documents dropped for one kept document."""


class Shard(_Record):
    """One file of the corpus."""

    name: str
    split: Split
    documents: int
    text_bytes: int
    file_bytes: int
    sha256: str


class Manifest(_Record):
    """Everything that is known of a corpus; what `manifest.json` holds."""

    format: str = FORMAT
    created: str
    recipe: dict[str, Any]
    sources: list[str]
    sources_digest: str
    """Over name, size and time of every file the sources listed: tells whether they changed since."""
    fingerprint: str
    """Over split and content hash of every document, in order: equal corpora have equal fingerprints."""
    seen: Count
    """Candidates examined, with their sizes on disk."""
    not_taken: Count
    """Candidates left unread, because a cap of the recipe was reached."""
    splits: dict[Split, SplitCounts]
    held_out_unit: Literal["package", "file", "none"]
    dropped: dict[str, Count]
    duplicates: DuplicateCounts
    evaluation_tasks: dict[str, int]
    """Tasks decontaminated against, by set."""
    shards: list[Shard]
    ledger_sha256: str
    versions: dict[str, str]
    seconds: dict[str, float]

    @property
    def total(self) -> Count:
        """Documents and bytes of all splits together."""
        total = Count()
        for split in self.splits.values():
            total = total.plus(split.total.size_bytes, split.total.documents)
        return total


@dataclass
class Tally:
    """Counts of one split while its documents are written."""

    total: Count = field(default_factory=Count)
    kinds: dict[str, Count] = field(default_factory=lambda: dict.fromkeys(KINDS, Count()))
    languages: dict[str, Count] = field(default_factory=dict[str, Count])
    licences: dict[str, Count] = field(default_factory=dict[str, Count])
    packages: dict[str, Count] = field(default_factory=dict[str, Count])

    def add(self, document: Document, package: str, size_bytes: int) -> None:
        """Count one document."""
        self.total = self.total.plus(size_bytes)
        for table, key in (
            (self.kinds, document.kind),
            (self.languages, document.language),
            (self.licences, document.licence),
            (self.packages, package),
        ):
            table[key] = table.get(key, Count()).plus(size_bytes)

    def counts(self) -> SplitCounts:
        """What was counted, the largest first."""
        return SplitCounts(
            total=self.total,
            by_kind=self.kinds,
            by_language=largest_first(self.languages),
            by_licence=largest_first(self.licences),
            by_package=largest_first(self.packages),
        )


def largest_first(table: dict[str, Count]) -> dict[str, Count]:
    """The same counts in falling order of bytes, ties by name."""
    return dict(sorted(table.items(), key=lambda item: (-item[1].size_bytes, item[0])))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished corpus.

    Raises:
        CodecriaError: the folder holds no corpus, or a manifest that is damaged or of another format.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        mend = "build it: codecria corpus build"
        raise CodecriaError("holds no corpus (no manifest.json)", where=folder, mend=mend) from error
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"is damaged or of another version: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
        raise CodecriaError(what, where=path, mend="build the corpus again") from error
    if manifest.format != FORMAT:
        raise CodecriaError(f"is '{manifest.format}', not '{FORMAT}'", where=path, mend="build the corpus again")
    return manifest

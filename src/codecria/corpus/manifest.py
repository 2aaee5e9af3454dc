"""The manifest of a corpus: what it holds, what was dropped, and from which recipe it was built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from codecria.common.errors import CodecriaError, explain_os_error
from codecria.corpus.document import KINDS, Document

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "held_out")

MANIFEST = "manifest.json"
TIMINGS = "timings.json"
FORMAT = "codecria corpus 2"
_TABLES = ("by_kind", "by_language", "by_licence", "by_package")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Count(_Record):
    """A number of documents and the bytes of their texts in UTF-8."""

    documents: int = 0
    size_bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(documents=self.documents + other.documents, size_bytes=self.size_bytes + other.size_bytes)


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
    components: int = 0
    """Groups of documents that share a band; each is searched by itself."""
    largest_component: int = 0


class Shard(_Record):
    """One file of the corpus."""

    name: str
    split: Split
    documents: int
    text_bytes: int
    file_bytes: int
    sha256: str
    contents: str
    """SHA-256 over the content hashes of its documents, a line each: equal texts, whatever the Parquet writer."""


class Manifest(_Record):
    """Everything that is known of a corpus; what `manifest.json` holds."""

    format: str = FORMAT
    recipe: dict[str, Any]
    appended: list[dict[str, Any]] = []
    """Recipes of the builds that added to it, in order."""
    sources: list[str]
    sources_digest: str
    """Over name and state of every unit the sources listed: tells whether they changed since."""
    fingerprint: str
    """Over split and content hash of every document, in order: equal corpora have equal fingerprints."""
    seen: Count
    """Texts judged, with the sizes of their files: a Python file and its docstrings are two."""
    passed_by: int
    """Files that are of no language we know."""
    not_taken: Count
    """Documents that passed everything and were left out, because a cap of the recipe was reached."""
    splits: dict[Split, SplitCounts]
    held_out_unit: Literal["package", "file", "none"]
    dropped: dict[str, Count]
    redacted: dict[str, int] = {}
    """Addresses and secrets replaced, by sort."""
    duplicates: DuplicateCounts
    evaluation_tasks: dict[str, int]
    """Tasks decontaminated against, by set."""
    shards: list[Shard]
    ledgers: dict[str, str]
    """SHA-256 of each ledger, by name."""
    samples: dict[str, str]
    versions: dict[str, str]

    @property
    def total(self) -> Count:
        """Documents and bytes of all splits together."""
        return sum((split.total for split in self.splits.values()), Count())


class Tally:
    """Counts of one split while its documents are written."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, Count]] = {name: {} for name in _TABLES}
        self._tables["by_kind"] = dict.fromkeys(KINDS, Count())

    def add(self, document: Document, package: str, size_bytes: int) -> None:
        """Count one document."""
        one, keys = Count(documents=1, size_bytes=size_bytes), (document.kind, document.language, document.licence)
        for table, key in zip(self._tables.values(), (*keys, package), strict=True):
            table[key] = table[key] + one if key in table else one

    def counts(self) -> SplitCounts:
        """What was counted, the largest first."""
        return _split_counts(sum(self._tables["by_kind"].values(), Count()), self._tables)


def largest_first(table: dict[str, Count]) -> dict[str, Count]:
    """The same counts in falling order of bytes, ties by name."""
    return dict(sorted(table.items(), key=lambda item: (-item[1].size_bytes, item[0])))


def merge_counts(tables: Iterable[Mapping[str, Count]]) -> dict[str, Count]:
    """The sum of tables of counts, names in the order in which they come."""
    merged: dict[str, Count] = {}
    for table in tables:
        for name, count in table.items():
            merged[name] = merged.get(name, Count()) + count
    return merged


def merge_splits(parts: Sequence[SplitCounts]) -> SplitCounts:
    """The sum of what several shards hold."""
    tables = {name: merge_counts(getattr(part, name) for part in parts) for name in _TABLES}
    return _split_counts(sum((part.total for part in parts), Count()), tables)


def _split_counts(total: Count, tables: Mapping[str, dict[str, Count]]) -> SplitCounts:
    ordered = {name: table if name == "by_kind" else largest_first(table) for name, table in tables.items()}
    return SplitCounts(total=total, **ordered)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished corpus.

    Raises:
        CodecriaError: the folder holds no corpus, or a manifest that is damaged or of another format.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        mend = "build it: codecria corpus build"
        raise CodecriaError("holds no corpus (no manifest.json)", where=folder, mend=mend) from error
    except OSError as error:
        raise explain_os_error(error, path) from error
    except ValidationError as error:
        first = error.errors()[0]
        what = f"is damaged or of another version: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
        raise CodecriaError(what, where=path, mend="build the corpus again") from error
    if manifest.format != FORMAT:
        raise CodecriaError(f"is '{manifest.format}', not '{FORMAT}'", where=path, mend="build the corpus again")
    return manifest

"""Corpora built before, as units: their documents rank before all others, and what resembles them is dropped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError
from codecria.corpus.document import Document
from codecria.corpus.manifest import read_manifest
from codecria.corpus.store import DOCUMENT_FIELDS, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class EarlierFile:
    """A document of a corpus built before: kept there, so nothing here may push it out."""

    document: Document
    package: str
    size_bytes: int
    held_out: bool
    modified_s: int = 0

    @property
    def path(self) -> str:
        """Its path."""
        return self.document.path


@dataclass(frozen=True)
class EarlierShard:
    """A shard of a corpus built before, as a unit: its path and its hash."""

    name: str
    state: str
    size_bytes: int
    held_out: bool

    def files(self) -> Iterator[EarlierFile]:
        """Its documents."""
        for row in read_rows(Path(self.name), DOCUMENT_FIELDS):
            document = Document(**row)
            yield EarlierFile(document, document.origin, document.size_bytes, self.held_out)


def earlier_units(folders: Iterable[Path]) -> Iterator[EarlierShard]:
    """The shards of finished corpora."""
    for folder in folders:
        manifest = read_manifest(folder)
        if any(recipe.get("join_characters") for recipe in (manifest.recipe, *manifest.appended)):
            what = "holds joined documents, which resemble none of the files they are made of"
            raise CodecriaError(what, where=folder, mend="compare with a corpus built without join_characters")
        for shard in manifest.shards:
            yield EarlierShard(str(folder / shard.name), shard.sha256, shard.text_bytes, shard.split == "held_out")

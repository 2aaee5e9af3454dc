"""One candidate from file to document: read, decode, judge its licence, filter, decontaminate, shingle."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codecria.corpus.document import Document, content_hash
from codecria.corpus.filters import Dropped, FileText, FilterRecipe, first_reason, generated
from codecria.corpus.licence import UNKNOWN, is_permissive, licence_in_header
from codecria.corpus.reading import decode, description, docstrings
from codecria.corpus.shingles import Hashes, shingle_hashes

if TYPE_CHECKING:
    from codecria.corpus.decontaminate import Decontaminator
    from codecria.corpus.sources.source import Candidate

_NO_SHINGLES: Hashes = np.empty(0, dtype=np.uint64)
_MOST_BYTES_A_CHARACTER = 4


@dataclass(frozen=True, slots=True)
class Examined:
    """What became of a candidate: a document with its shingles, or the reason why it is none.

    Attributes:
        document: the document, or None.
        dropped: the reason, or None.
        size_bytes: UTF-8 bytes of the document's text, or the size of the dropped file.
        shingles: sorted distinct shingle hashes of the document.
    """

    document: Document | None
    dropped: Dropped | None
    size_bytes: int
    shingles: Hashes


@dataclass(frozen=True)
class Examiner:
    """A function of one candidate; picklable, so that worker processes can have it."""

    filters: FilterRecipe
    permissive_only: bool
    decontaminator: Decontaminator

    def __call__(self, candidate: Candidate) -> Examined:
        """Examine a candidate. What cannot be read is dropped with the system's words, never fatal."""
        found = self._document(candidate)
        if isinstance(found, Dropped):
            return Examined(None, found, candidate.size_bytes, _NO_SHINGLES)
        document, data = found
        shingles = shingle_hashes(data)
        if contained := self.decontaminator.find(document.text, shingles):
            return Examined(None, Dropped("contaminated", contained), candidate.size_bytes, _NO_SHINGLES)
        return Examined(document, None, len(data), shingles)

    def _document(self, candidate: Candidate) -> tuple[Document, bytes] | Dropped:
        if candidate.size_bytes > _MOST_BYTES_A_CHARACTER * self.filters.max_characters:
            return Dropped(
                "too-long", f"{candidate.size_bytes:,} bytes; at most {self.filters.max_characters:,} characters"
            )
        source = _read(candidate)
        if isinstance(source, Dropped):
            return source
        licence = candidate.licence
        if candidate.form != "description":
            licence = licence_in_header(source) or licence
        if self.permissive_only and not is_permissive(licence):
            return Dropped("licence-unknown" if licence == UNKNOWN else "licence-not-permissive", licence)
        text = self._form(candidate, source)
        if isinstance(text, Dropped):
            return text
        data = text.encode()
        name = candidate.path.rsplit("/", 1)[-1]
        if unwanted := first_reason(FileText(text, data, candidate.kind, name), self.filters):
            return unwanted
        one = Document(
            text=text,
            kind=candidate.kind,
            language=candidate.language,
            licence=licence,
            origin=candidate.origin,
            path=candidate.path,
            content_hash=content_hash(text),
        )
        return one, data

    def _form(self, candidate: Candidate, source: str) -> str | Dropped:
        if candidate.form == "docstrings":
            name = candidate.path.removesuffix("#docstrings").rsplit("/", 1)[-1]
            if unwanted := generated(FileText(source, b"", "code", name), self.filters):
                return unwanted
            return docstrings(source, _dotted(candidate.path), self.filters.min_docstring_characters)
        if candidate.form == "description":
            return description(source)
        return source


def _read(candidate: Candidate) -> str | Dropped:
    try:
        data = Path(candidate.file).read_bytes()
    except OSError as error:
        return Dropped("unreadable", (error.strerror or str(error)).lower())
    return decode(data)


def _dotted(path: str) -> str:
    """The module name of `src/package/module.py#docstrings`: `package.module`."""
    module = re.sub(r"(?:/__init__)?\.py(?:#docstrings)?$", "", path)
    return re.sub(r"^(?:src|lib)/", "", module).replace("/", ".")

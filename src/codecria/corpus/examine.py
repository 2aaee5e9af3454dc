"""One file from bytes to documents: decode, judge its licence, filter, redact, decontaminate, shingle."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codecria.common.random import digest
from codecria.corpus.decontaminate import Hit, open_decontaminator
from codecria.corpus.document import Document, Kind, content_hash
from codecria.corpus.filters import Dropped, FileText, first_reason, generated
from codecria.corpus.languages import code_language, language_of
from codecria.corpus.licence import UNKNOWN, behind_licence, is_permissive, licence_in_header
from codecria.corpus.man_pages import man_to_text
from codecria.corpus.markup import html_to_markdown
from codecria.corpus.opt_out import OptOut
from codecria.corpus.reading import decode, description, docstrings
from codecria.corpus.redact import redact
from codecria.corpus.shingles import Shingles, shingle_hashes
from codecria.corpus.sources.source import Form, SourceFile, UnreadableError, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codecria.corpus.recipe import CorpusRecipe

_MOST_BYTES_A_CHARACTER = 4


@dataclass(frozen=True, slots=True)
class Examined:
    """What became of a file's text.

    Attributes:
        kind: which part of the mixture it is, or would have been.
        path: of the document.
        document: when it passed everything.
        size_bytes: of the document's text, or of the file where there is none.
        shingles: of the document behind its licence notice.
        redacted: how many addresses and secrets were replaced, by sort.
        dropped: why there is no document.
        text: what was dropped, to look at; None where it was never read.
        hit: the evaluation material that was found.
    """

    kind: Kind
    path: str
    size_bytes: int
    document: Document | None = None
    shingles: Shingles | None = None
    redacted: dict[str, int] | None = None
    dropped: Dropped | None = None
    text: str | None = None
    hit: Hit | None = None


class Examiner:
    """Judges files by a recipe. Picklable: worker processes are given one."""

    def __init__(self, recipe: CorpusRecipe) -> None:
        self._recipe = recipe
        self._decontaminator, self.evaluation_tasks = open_decontaminator(recipe.decontamination)
        self._opt_out = OptOut.load(recipe.opt_out)
        self._accepted = frozenset(recipe.accepted_licences)
        parts = recipe.identity()
        unread = ("sources", "held_out", "max_bytes", "order", "join_characters", "shard_bytes", "earlier")
        read = repr([(key, parts[key]) for key in sorted(parts) if key not in unread])
        self.identity = digest(read, self._decontaminator.identity, self._opt_out.identity)
        """Of everything a verdict depends on beside the file."""

    def __call__(self, file: SourceFile) -> Iterator[Examined]:
        """The file's documents, or the one reason why there is none; nothing for what is no text of interest."""
        kind = file.kind or "code"
        source = self._source(file)
        if source is None or isinstance(source, Dropped):
            if source is not None:
                yield Examined(kind, file.path, file.size_bytes, dropped=source)
            return
        language = self._language(file, source)
        if language is None:
            return
        licence = self._licence(file, source)
        if isinstance(licence, Dropped):
            yield Examined(kind, file.path, file.size_bytes, dropped=licence, text=source)
            return
        yield self._document(file, source, file.form, kind, language, licence)
        if language == "Python" and file.docstrings and file.form == "file":
            yield self._document(file, source, "docstrings", "code-related", "English", licence)

    def _source(self, file: SourceFile) -> str | Dropped | None:
        """The file's text; None where it is binary and nothing said that it was text."""
        if self._opt_out.covers(file.package, file.origin):
            return Dropped("opt-out", f"{file.package} is on the opt-out list")
        most = self._recipe.filters.max_characters
        if file.size_bytes > _MOST_BYTES_A_CHARACTER * most:
            return Dropped("too-long", f"{file.size_bytes:,} bytes; at most {most:,} characters")
        try:
            text = decode(file.read())
        except (UnreadableError, OSError) as error:
            return Dropped(*reason_of(error))
        return None if isinstance(text, Dropped) and file.kind is None else text

    def _language(self, file: SourceFile, source: str) -> str | None:
        if file.form != "file" or (file.kind is not None and file.kind != "code"):
            return file.language or "English"
        return language_of(file.path, source, file.language or code_language(file.path.rsplit("/", 1)[-1]))

    def _licence(self, file: SourceFile, source: str) -> str | Dropped:
        licence = file.licence
        if not file.licence_is_for_file and file.form != "description":
            licence = licence_in_header(source) or licence
        if self._recipe.permissive_only and not is_permissive(licence, self._accepted):
            return Dropped("licence-unknown" if licence == UNKNOWN else "licence-not-permissive", licence)
        return licence

    def _document(self, file: SourceFile, source: str, form: Form, kind: Kind, language: str, licence: str) -> Examined:
        path = f"{file.path}#docstrings" if form == "docstrings" else file.path
        text = self._text(form, source, file.path)
        if isinstance(text, Dropped):
            return Examined(kind, path, file.size_bytes, dropped=text)
        data = text.encode()
        if unwanted := first_reason(FileText(text, data, kind, file.path), self._recipe.filters):
            return Examined(kind, path, file.size_bytes, dropped=unwanted, text=text)
        clean = redact(text, self._recipe.redact)
        if clean.text != text:
            text, data = clean.text, clean.text.encode()
        shingles = shingle_hashes(data)
        if hit := self._decontaminator.find(text, shingles):
            dropped = Dropped("contaminated", f"{hit.piece} ({hit.how}, {hit.share:.0%} of it)")
            return Examined(kind, path, file.size_bytes, dropped=dropped, text=text, hit=hit)
        if (behind := compared(text, kind)) is not text:
            shingles = shingle_hashes(behind)
        document = Document(text, kind, language, licence, file.origin, path, content_hash(text))
        return Examined(kind, path, len(data), document, shingles, clean.counts)

    def _text(self, form: Form, source: str, path: str) -> str | Dropped:
        if form == "docstrings":
            if unwanted := generated(FileText(source, b"", "code", path), self._recipe.filters):
                return unwanted
            return docstrings(source, _dotted(path), self._recipe.filters.min_docstring_characters)
        readers = {"description": description, "html": html_to_markdown, "man": man_to_text}
        return readers[form](source) if form in readers else source


def compared(text: str, kind: Kind) -> str:
    """What of a text is compared with others: code behind its licence notice."""
    return behind_licence(text) if kind == "code" else text


def _dotted(path: str) -> str:
    """The module name of `src/package/module.py`: `package.module`."""
    module = re.sub(r"(?:/__init__)?\.py$", "", path)
    return re.sub(r"^(?:src|lib)/", "", module).replace("/", ".")

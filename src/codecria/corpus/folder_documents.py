"""A folder tree as documents, unfiltered: for what is read once and not trained on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from codecria.common.progress import track
from codecria.corpus.document import Document, content_hash
from codecria.corpus.languages import code_language, language_of
from codecria.corpus.reading import decode
from codecria.corpus.sources.folder import FolderRecipe
from codecria.corpus.sources.source import Refused, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def folder_documents(folder: Path) -> Iterator[Document]:
    """Code and documentation below a folder. `origin` is the repository, as `sources/folder.py` finds it.

    Nothing is filtered, redacted or taken for a copy. What is no text is passed over.

    Raises:
        CodecriaError: the folder does not exist.
    """
    source = FolderRecipe(path=str(folder), docstrings=False).open()
    for unit in track(source.units(), f"reading {folder}", unit="units"):
        for file in unit.files():
            if isinstance(file, Refused):
                continue
            text: object = None
            with suppress(UnreadableError, OSError):
                text = decode(file.read())
            if not isinstance(text, str) or not text:
                continue
            kind = file.kind or "code"
            language = file.language
            if kind == "code":
                language = language_of(file.path, text, language or code_language(file.path.rsplit("/", 1)[-1]))
            if language is not None:
                yield Document(text, kind, language, file.licence, file.origin, file.path, content_hash(text))

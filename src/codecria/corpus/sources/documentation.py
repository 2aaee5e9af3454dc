"""A tree of documentation: web pages, manual pages, Markdown and its like. All of it is prose about code."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from codecria.common.recipe import Recipe
from codecria.corpus.languages import prose_language
from codecria.corpus.licence import UNKNOWN
from codecria.corpus.licence_files import is_licence_file
from codecria.corpus.sources.folder import DiskUnit, Listed, ListedFile, Places, runs
from codecria.corpus.sources.source import Form, Refused, UnreadableError
from codecria.corpus.sources.walk import existing_folder, printable, read_listed, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST_BYTES = 16_000_000
_HTML = re.compile(r".+\.x?html?", re.IGNORECASE)
_MAN = re.compile(r".+(?<!\.so)\.[1-9](?:\.gz|[a-z]+\.gz)?")  # ls.1, printf.3.gz, CA.pl.1ssl.gz
_TRANSLATED = re.compile(r"(?:^|/)(?!en)[a-z]{2}(?:[_.@][^/]+)?/man[1-9]/")  # manual pages in other languages


class DocumentationRecipe(Recipe):
    """A tree of documentation to take documents from."""

    type: Literal["documentation"] = "documentation"
    path: str
    licence: str | None = Field(default=None, description="SPDX expression for everything that states none itself")

    def open(self) -> DocumentationSource:
        """The source this recipe describes."""
        return DocumentationSource(self)


class DocumentationSource:
    """Pages of a folder tree; the package is the top-level folder a page lies in.

    Raises:
        CodecriaError: the folder does not exist.
    """

    def __init__(self, recipe: DocumentationRecipe) -> None:
        self._recipe, self._root = recipe, existing_folder(recipe.path)

    def describe(self) -> str:
        """One line: what and where."""
        return f"documentation {printable(self._recipe.path)}"

    def units(self) -> Iterator[DocumentationUnit]:
        """Runs of the walk."""
        return (DocumentationUnit(run, docstrings=False) for run in runs(self._entries()))

    def _entries(self) -> Iterator[Listed]:
        places = Places(self._root)
        for file, path, size, modified_ns, error in walk(str(self._root)):
            top, below, _ = path.partition("/")
            package = top if below else printable(self._root.resolve().name)
            if error:
                yield Refused(path, package, package, size, "unreadable", error)
            elif page := _page(path):
                licence = places.of(file).licence or self._recipe.licence or UNKNOWN
                yield ListedFile(file, modified_ns, path, package, package, licence, size, "code-related", *page)


def _page(path: str) -> tuple[str, Form] | None:
    name = path.rpartition("/")[2]
    if is_licence_file(name) or _TRANSLATED.search(path):
        return None
    if language := prose_language(name):
        return language, "file"
    return ("English", "html") if _HTML.fullmatch(name) else ("English", "man") if _MAN.fullmatch(name) else None


class DocumentationUnit(DiskUnit):
    """Some pages on a disk; those that are packed are unpacked."""

    def _reader(self) -> AbstractContextManager[Callable[[str, int], bytes]]:
        return nullcontext(_unpacked)


def _unpacked(file: str, size_bytes: int) -> bytes:
    data = read_listed(file, size_bytes)
    try:
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(_MOST_BYTES + 1) if file.endswith(".gz") else data
    except (EOFError, OSError, zlib.error) as error:
        raise UnreadableError("cut-short" if isinstance(error, EOFError) else "damaged", str(error).lower()) from error
    if len(data) > max(_MOST_BYTES, size_bytes):
        raise UnreadableError("archive-bomb", f"unpacks to over {_MOST_BYTES:,} bytes")
    return data

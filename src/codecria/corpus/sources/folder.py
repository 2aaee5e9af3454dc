"""Any folder tree: a person's own code. Each repository under it is a package of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from codecria.common.errors import CodecriaError
from codecria.common.recipe import Recipe
from codecria.corpus.languages import code_language, prose_language
from codecria.corpus.licence import UNKNOWN, is_licence_file, licence_of_text
from codecria.corpus.reading import decode
from codecria.corpus.sources.source import Candidate, docstrings_of
from codecria.corpus.sources.walk import printable, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codecria.corpus.document import Kind

_MARKS_OF_A_PACKAGE_NAMES = """
pyproject.toml setup.py setup.cfg package.json Cargo.toml go.mod pom.xml build.gradle build.gradle.kts
composer.json Gemfile CMakeLists.txt Package.swift mix.exs stack.yaml
"""
_MARKS_OF_A_PACKAGE = frozenset(_MARKS_OF_A_PACKAGE_NAMES.split())
_LICENCE_BYTES = 200_000


class FolderRecipe(Recipe):
    """A folder tree to take documents from."""

    type: Literal["folder"] = "folder"
    path: str
    languages: tuple[str, ...] | None = None
    """Programming languages to take (names as in `languages.py`); None takes all."""
    licence: str | None = None
    """SPDX expression for everything that states none itself: a person knows their own code."""
    prose: Literal["code-related", "natural"] = "code-related"
    """What documentation and text files are: about code, or natural language."""
    docstrings: bool = True

    def open(self) -> FolderSource:
        """The source this recipe describes."""
        return FolderSource(self)


class FolderSource:
    """Files of a folder tree; `.git`, caches, `node_modules` and virtual environments are passed by.

    A package is the nearest folder at or above a file that holds `.git` or a build file (`pyproject.toml`,
    `package.json`, ...); failing that, the top-level folder the file lies in.

    Raises:
        CodecriaError: the folder does not exist.
    """

    def __init__(self, recipe: FolderRecipe) -> None:
        self._recipe = recipe
        self._root = Path(recipe.path).expanduser()
        if not self._root.is_dir():
            raise CodecriaError("no such folder", where=recipe.path, mend="check the path of the source")
        self._packages: dict[Path, str] = {}
        self._licences: dict[Path, str | None] = {}

    def describe(self) -> str:
        """One line: what and where."""
        return f"folder {printable(str(self._root))}"

    def documents(self) -> Iterator[Candidate]:
        """Candidates in name order."""
        for found in walk(str(self._root)):
            folder = Path(found.file).parent
            taken = self._kind_and_language(found.path.rsplit("/", 1)[-1])
            if taken is None and found.readable:
                continue
            kind, language = taken or ("code", UNKNOWN)
            package = self._package(folder)
            one = Candidate(
                file=found.file,
                form="file",
                kind=kind,
                language=language,
                licence=self._licence(folder) or self._recipe.licence or UNKNOWN,
                package=package,
                origin=package,
                path=found.path,
                size_bytes=found.size_bytes,
                modified_ns=found.modified_ns,
            )
            yield one
            if language == "Python" and self._recipe.docstrings:
                yield docstrings_of(one)

    def _kind_and_language(self, name: str) -> tuple[Kind, str] | None:
        if is_licence_file(name):
            return None
        if language := code_language(name):
            wanted = self._recipe.languages is None or language in self._recipe.languages
            return ("code", language) if wanted else None
        if language := prose_language(name):
            return self._recipe.prose, language
        return None

    def _package(self, folder: Path) -> str:
        if folder not in self._packages:
            self._packages[folder] = self._find_package(folder)
        return self._packages[folder]

    def _find_package(self, folder: Path) -> str:
        if (folder / ".git").exists() or any((folder / mark).is_file() for mark in _MARKS_OF_A_PACKAGE):
            return self._name(folder)
        if folder == self._root or folder.parent == self._root:
            return self._name(folder)
        return self._package(folder.parent)

    def _name(self, folder: Path) -> str:
        if folder == self._root:
            return printable(self._root.resolve().name)
        return printable(folder.relative_to(self._root).as_posix())

    def _licence(self, folder: Path) -> str | None:
        """What the nearest licence file at or above the folder says."""
        if folder not in self._licences:
            stated = licence_of_folder(folder)
            if stated is None and folder != self._root:
                stated = self._licence(folder.parent)
            self._licences[folder] = stated
        return self._licences[folder]


def licence_of_folder(folder: Path) -> str | None:
    """What the licence files directly in a folder say: the first in name order that can be told, or None."""
    try:
        files = sorted(file for file in folder.iterdir() if is_licence_file(file.name) and file.is_file())
    except OSError:
        return None
    for file in files:
        try:
            with file.open("rb") as opened:
                text = decode(opened.read(_LICENCE_BYTES))
        except OSError:
            continue
        if isinstance(text, str) and (stated := licence_of_text(text)):
            return stated
    return None

"""Any folder tree: a person's own code. Each repository under it is a package of its own."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from codecria.corpus.licence import UNKNOWN
from codecria.corpus.licence_files import is_licence_file, licence_of_bytes
from codecria.corpus.sources.files import FilesRecipe, wanted
from codecria.corpus.sources.source import Form, Refused, SourceFile, UnreadableError
from codecria.corpus.sources.walk import existing_folder, open_regular, printable, read_listed, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from codecria.corpus.document import Kind

_MARKS_OF_A_PACKAGE_NAMES = """
.git pyproject.toml setup.py setup.cfg package.json Cargo.toml go.mod pom.xml build.gradle build.gradle.kts
composer.json Gemfile CMakeLists.txt Package.swift mix.exs stack.yaml
"""
_MARKS_OF_A_PACKAGE = frozenset(_MARKS_OF_A_PACKAGE_NAMES.split())
_UNIT_FILES = 2_000
_UNIT_BYTES = 64_000_000
LICENCE_BYTES = 200_000
"""How much of a licence file is read."""


class ListedFile(NamedTuple):
    """A file with all that is known of it before it is read: see `SourceFile`.

    Attributes:
        file: by what it is read: its path on this machine, or the name of an object.
        stamp: what changes when the content does, beside the size: the time of the last change, or a hash.
    """

    file: str
    stamp: int | str
    path: str
    package: str
    origin: str
    licence: str
    size_bytes: int
    kind: Kind | None
    language: str | None
    form: Form = "file"
    modified_s: int = 0


Listed = ListedFile | Refused


@dataclass(frozen=True)
class DiskUnit:
    """Some files on a disk, those of one package together where that is possible."""

    entries: tuple[Listed, ...]
    docstrings: bool

    @property
    def name(self) -> str:
        """The first file, and how many follow."""
        return f"{self.entries[0].origin}: {self.entries[0].path} and {len(self.entries) - 1:,} more"

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def state(self) -> str:
        """Of all that is known of its files, but not of where on the machine they lie."""
        facts = [entry if isinstance(entry, Refused) else entry[1:] for entry in self.entries]
        return hashlib.sha256(repr((facts, self.docstrings)).encode()).hexdigest()

    def files(self) -> Iterator[SourceFile | Refused]:
        """Its files as they were listed."""
        with self._reader() as read:
            for entry in self.entries:
                if isinstance(entry, Refused):
                    yield entry
                    continue
                yield SourceFile(
                    path=entry.path,
                    package=entry.package,
                    origin=entry.origin,
                    size_bytes=entry.size_bytes,
                    read=partial(_read, read, entry),
                    licence=entry.licence,
                    kind=entry.kind,
                    language=entry.language,
                    form=entry.form,
                    docstrings=self.docstrings,
                    modified_s=entry.modified_s,
                )

    def _reader(self) -> AbstractContextManager[Callable[[str, int], bytes]]:
        """Gives what reads a file by its name and size."""
        return nullcontext(read_listed)


def _read(read: Callable[[str, int], bytes], entry: ListedFile) -> bytes:
    data = read(entry.file, entry.size_bytes)
    if data.startswith(b"version https://git-lfs.github.com/spec/v1\n") and len(data) < 1_024:
        raise UnreadableError("lfs-pointer", "only says where Git LFS keeps the file")
    return data


class FolderRecipe(FilesRecipe):
    """A folder tree to take documents from."""

    type: Literal["folder"] = "folder"
    path: str

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
        self._recipe, self._root = recipe, existing_folder(recipe.path)

    def describe(self) -> str:
        """One line: what and where."""
        return f"folder {printable(self._recipe.path)}"

    def units(self) -> Iterator[DiskUnit]:
        """Runs of the walk."""
        return (DiskUnit(run, self._recipe.docstrings) for run in runs(self._entries()))

    def _entries(self) -> Iterator[Listed]:
        places = Places(self._root)
        for file, path, size_bytes, modified_ns, error in walk(str(self._root)):
            taken = wanted(path, self._recipe)
            if taken is None and not error:
                continue
            place = places.of(file)
            if error:
                yield Refused(path, place.package, place.package, size_bytes, "unreadable", error)
            elif taken is not None:
                licence = place.licence or self._recipe.licence or UNKNOWN
                yield ListedFile(file, modified_ns, path, place.package, place.package, licence, size_bytes, *taken)


class Place(NamedTuple):
    """What holds in a folder: the package its files belong to, and the licence stated at or above it.

    A folder's licence files say what the first in name order says that can be told. Where none can, that is unknown:
    what lies above them does not hold in `ee/`.
    """

    folder: str
    package: str
    in_package: bool
    licence: str | None


class Places:
    """What holds where, for files in the order of a walk: only the path down to the present folder is kept."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        top = Place("", printable(root.resolve().name), False, None)
        self._path = [self._entered("", top)._replace(package=top.package)]

    def of(self, file: str) -> Place:
        """The place a file lies in."""
        folder = file[len(self._root) :].lstrip("/").rpartition("/")[0]
        while self._path[-1].folder and not f"{folder}/".startswith(f"{self._path[-1].folder}/"):
            self._path.pop()
        while (above := self._path[-1]).folder != folder:
            end = folder.find("/", len(above.folder) + 1 if above.folder else 0)
            self._path.append(self._entered(folder if end < 0 else folder[:end], above))
        return self._path[-1]

    def _entered(self, folder: str, above: Place) -> Place:
        there = Path(self._root, folder)
        names: list[str] = []
        with suppress(OSError):
            names = [each.name for each in there.iterdir()]
        is_package = not _MARKS_OF_A_PACKAGE.isdisjoint(names)
        is_named = is_package or (not above.folder and not above.in_package)
        package = printable(folder) if is_named else above.package
        return Place(folder, package, is_package or above.in_package, _stated(there, names) or above.licence)


def runs(entries: Iterable[Listed]) -> Iterator[tuple[Listed, ...]]:
    """Cut a stream into runs of about 2,000 files or 64 MB, at a package's border if one comes past the half."""
    run: list[Listed] = []
    run_bytes = 0
    for entry in entries:
        fullness = max(len(run) / _UNIT_FILES, run_bytes / _UNIT_BYTES)
        if run and (fullness >= 1 or (fullness >= 0.5 and entry.package != run[-1].package)):
            yield tuple(run)
            run, run_bytes = [], 0
        run.append(entry)
        run_bytes += entry.size_bytes
    if run:
        yield tuple(run)


def licence_of_folder(folder: Path) -> str | None:
    """What the licence files directly in a folder say: see `Place`."""
    with suppress(OSError):
        return _stated(folder, [each.name for each in folder.iterdir()])
    return None


def _stated(folder: Path, names: list[str]) -> str | None:
    stated = None
    for name in sorted(filter(is_licence_file, names)):
        # A licence may be a link: the packages of one repository often share theirs.
        with suppress(OSError, UnreadableError), open_regular(str(folder / name), follow_links=True) as opened:
            stated = licence_of_bytes(opened.read(LICENCE_BYTES)) or stated
            if stated not in (None, UNKNOWN):
                break
    return stated

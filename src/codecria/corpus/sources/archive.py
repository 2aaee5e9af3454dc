"""Archives of source code: sdists, wheels, npm and other tarballs, zips, .deb, and Debian source packages.

Each is read twice: for what it says of itself and of its licences, then for its files.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import unquote

from codecria.common.errors import CodecriaError
from codecria.common.files import sha256_of_file
from codecria.corpus.debian_copyright import CopyrightFile
from codecria.corpus.licence import UNKNOWN, licence_of_text
from codecria.corpus.licence_files import is_licence_file, licence_of_file
from codecria.corpus.licence_metadata import is_package_file, licence_of_package_file
from codecria.corpus.reading import decode
from codecria.corpus.sources.files import FilesRecipe, Wanted, nearest_licence, wanted
from codecria.corpus.sources.folder import LICENCE_BYTES
from codecria.corpus.sources.members import Problem, members
from codecria.corpus.sources.source import Refused, SourceFile, UnreadableError
from codecria.corpus.sources.walk import SKIPPED_FOLDERS, Found, open_regular, printable, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ENDING = re.compile(r"(?:\.orig|-sources)?\.(?:tar(?:\.\w+)?|t[gbx]z2?|zip|whl|egg|jar|nupkg|deb|crate|gem|dsc)$")
_NAME = re.compile(r"[@\w][\w./+~:!@-]{0,199}")
_ABOUT = re.compile(r"(?:EGG-INFO/)?PKG-INFO|[^/]+\.dist-info/METADATA|package\.json|debian/(?:changelog|copyright)")
"""What is kept of a package's words, by path below its root; of all others only the licence that they state."""
_KEPT = re.compile(rf"(?:[^/]+/)?(?:{_ABOUT.pattern})")
_MOST_KEPT = 100
_OF_THE_ROOT = re.compile(
    r"(?:(?:src/|lib/)?[^/]+\.(?:dist|egg)-info|EGG-INFO|META-INF)(?:/.*)?|debian|usr/share/doc/[^/]+"
)
"""Folders whose licences and metadata speak for the whole package."""
_NOT_TAKEN = re.compile(
    rf"(?:^|/)(?:{'|'.join(map(re.escape, sorted(SKIPPED_FOLDERS)))}|[^/]+\.(?:dist|egg)-info|EGG-INFO)/|^debian/"
)
_NO_TOP = re.compile(r"debian|usr|EGG-INFO|META-INF|.*-info")
"""Never a folder around the package."""
_DESCRIPTION = re.compile(r"[^/]+\.dist-info/METADATA")
_DIFF_BYTES = 16_000_000


class ArchiveRecipe(FilesRecipe):
    """Archives to take documents from."""

    type: Literal["archive"] = "archive"
    path: str
    """An archive, a folder with archives somewhere below, or a pattern (`wheels/*.whl`)."""

    def open(self) -> ArchiveSource:
        """The source this recipe describes."""
        return ArchiveSource(self)


class ArchiveSource:
    """Each archive a unit; a `.dsc` and the archives it names are one.

    Raises:
        CodecriaError: there is no such file.
    """

    def __init__(self, recipe: ArchiveRecipe) -> None:
        self._recipe = recipe
        path = Path(recipe.path).expanduser()
        pattern = str(path.relative_to(path.anchor))
        self._paths = [path] if path.exists() else sorted(Path(path.anchor).glob(pattern))
        if not self._paths:
            raise CodecriaError("no such archive", where=recipe.path, mend="check the path of the source")

    def describe(self) -> str:
        """One line: what and where."""
        return f"archives {printable(self._recipe.path)}"

    def units(self) -> Iterator[ArchiveUnit]:
        """In name order."""
        return archive_units(self._files(), self._recipe)

    def _files(self) -> Iterator[Found]:
        for path in self._paths:
            if path.is_dir():
                yield from (found for found in walk(str(path)) if found.error or _ENDING.search(found.path))
            else:
                yield Found(str(path), printable(path.name), *_state(str(path)))


def archive_units(files: Iterable[Found], recipe: FilesRecipe) -> Iterator[ArchiveUnit]:
    """A unit for each archive, less those that a `.dsc` beside them names.

    Args:
        files: archives, those of one folder one after the other.
        recipe: which of their files are taken.
    """
    settings = recipe.model_dump_json(include=set(FilesRecipe.model_fields))
    for _, group in groupby(files, lambda found: found.file.rpartition("/")[0]):
        there = {found.file: found.path for found in group}
        parts = {file: [part.file for part in _read_dsc(file)[2]] for file in there if file.endswith(".dsc")}
        named = {part for each in parts.values() for part in each}
        for file, path in there.items():
            if file not in named:
                states = [_state(each) for each in (file, *parts.get(file, ()))]
                state = hashlib.sha256(repr((states, settings)).encode()).hexdigest()
                yield ArchiveUnit(path, sum(size for size, _ in states), state, file, recipe)


def _state(file: str) -> tuple[int, int]:
    """Its size, and when it was changed."""
    with suppress(OSError):
        state = Path(file).stat()
        return state.st_size, state.st_mtime_ns
    return 0, 0


@dataclass(frozen=True)
class ArchiveUnit:
    """An archive, or a `.dsc` and all that it names."""

    name: str
    size_bytes: int
    state: str
    file: str
    recipe: FilesRecipe

    def files(self) -> Iterator[SourceFile | Refused]:
        """In the order of the archive; of a source package, one archive after the other."""
        if not self.file.endswith(".dsc"):
            package = _Package(self.recipe)
            package.look_at(_Part(self.file))
        else:
            name, version, parts = _read_dsc(self.file)
            package = _Package(self.recipe, name, version)
            if not parts:
                said = "names no archives with their SHA-256"
                yield package.refused(_Part(self.file).name, self.size_bytes, "damaged", said)
            for part in parts:
                if wrong := part.wrong():
                    yield package.refused(part.name, part.size_bytes, *wrong)
                else:
                    package.look_at(part)
        yield from package.files()


class _Part(NamedTuple):
    """An archive of a package: a file on this machine, and what its .dsc says of it."""

    file: str
    below: str = ""  # the folder of the package in which it is unpacked, with a slash
    size_bytes: int = 0
    sha256: str = ""
    top: str = ""  # the one folder in which all lies that it holds, with a slash

    @property
    def name(self) -> str:
        """Of the file, without its folder."""
        return printable(Path(self.file).name)

    def inside(self, path: str) -> str:
        """The path in the package, of a path in the archive."""
        return self.below + path.removeprefix(self.top)

    def wrong(self) -> tuple[str, str] | None:
        """What differs from the .dsc."""
        path = Path(self.file)
        if not path.is_file():
            return "missing-file", "the .dsc names it, and it is not there"
        size_bytes, sha256 = path.stat().st_size, sha256_of_file(path)
        if (size_bytes, sha256) == (self.size_bytes, self.sha256):
            return None
        return "wrong-hash", f"{size_bytes:,} bytes, {sha256}; the .dsc says {self.size_bytes:,} bytes, {self.sha256}"


def _read_dsc(file: str) -> tuple[str, str, list[_Part]]:
    """Package, version and archives that a .dsc names, signed or not; of archives none where it is no .dsc."""
    text = ""
    with suppress(OSError, UnreadableError), open_regular(file, follow_links=True) as opened:
        text = opened.read(LICENCE_BYTES).decode("utf-8", "replace")
    name, version = (re.search(rf"^{field}: *(\S+)", text, re.MULTILINE) for field in ("Source", "Version"))
    parts: list[_Part] = []
    for sha256, size, archive in re.findall(r"^ ([0-9a-f]{64}) +(\d{1,15}) +([^\s/]+)$", text, re.MULTILINE):
        component = re.search(r"\.orig-([a-zA-Z0-9-]+)\.tar\.", archive)
        if not archive.endswith(".asc"):
            below = f"{component[1]}/" if component else ""
            parts.append(_Part(file[: file.rfind("/") + 1] + archive, below, int(size), sha256))
    return name[1] if name else printable(Path(file).stem), version[1] if version else "", parts


class _Package:
    """A package, its archives one after the other: all are looked at, then all give their files."""

    def __init__(self, recipe: FilesRecipe, name: str = "", version: str = "") -> None:
        self._recipe, self._name, self._version = recipe, name, version
        self._parts: list[_Part] = []
        self._stated: dict[str, str] = {}
        self._about: dict[str, str] = {}

    @property
    def _origin(self) -> str:
        return f"{self._name} {self._version}".strip()

    def look_at(self, part: _Part) -> None:
        """Read what an archive says of itself."""
        if part.file.endswith(".diff.gz"):
            self._about["debian/copyright"] = _copyright_in_diff(part.file)
            return
        tops: set[str] = set()

        def wants(path: str) -> bool:
            if len(tops) < 2:
                tops.add(path.partition("/")[0] if "/" in path else "")
            name = path.rpartition("/")[2]
            return is_licence_file(name) or is_package_file(name) or bool(_KEPT.fullmatch(path))

        stated: dict[str, str] = {}
        about: dict[str, str] = {}
        for member in members(part.file, wants):
            if isinstance(member, Problem):
                continue
            text = decode(member.data[:LICENCE_BYTES])
            text = text if isinstance(text, str) else ""
            if licence := _licence(member.path.rpartition("/")[2], text):
                stated[member.path] = licence
            if len(about) < _MOST_KEPT and _KEPT.fullmatch(member.path):
                about[member.path] = text
        if len(tops) == 1 and not _NO_TOP.fullmatch(top := tops.pop()):
            part = part._replace(top=f"{top}/")
        self._parts.append(part)
        self._stated |= {part.inside(path): licence for path, licence in stated.items()}
        self._about |= {part.inside(path): text for path, text in about.items()}
        if not self._name:
            self._name, self._version = _named(self._about, part.name, part.top)

    def files(self) -> Iterator[SourceFile | Refused]:
        """What is taken of all archives."""
        stated = self._licences()
        by_file = CopyrightFile.parse(self._about.get("debian/copyright", ""))
        for part in self._parts:
            for member in members(part.file, lambda path, part=part: self._taken(part.inside(path)) is not None):
                path = part.inside(member.path)
                if isinstance(member, Problem):
                    yield self.refused(part.name if member.path == "." else path, *member[1:])
                elif taken := self._taken(path):
                    licence = by_file.licence_of(path)
                    yield SourceFile(
                        path=path,
                        package=self._name,
                        origin=self._origin,
                        size_bytes=len(member.data),
                        read=partial(bytes, member.data),
                        licence=licence or nearest_licence(stated, path) or self._recipe.licence or UNKNOWN,
                        licence_is_for_file=licence not in (None, UNKNOWN),
                        kind=taken.kind,
                        language=taken.language,
                        form="description" if _DESCRIPTION.fullmatch(path) else "file",
                        docstrings=self._recipe.docstrings,
                        modified_s=member.modified_s,
                    )

    def refused(self, path: str, size_bytes: int, reason: str, detail: str) -> Refused:
        """Its line of the ledger."""
        return Refused(path, self._name, self._origin, size_bytes, reason, detail)

    def _taken(self, path: str) -> Wanted | None:
        if _DESCRIPTION.fullmatch(path) and self._recipe.prose != "none":
            written = re.search(r"^Description-Content-Type: *text/([\w-]+)", self._about.get(path, ""), re.MULTILINE)
            language = {"markdown": "Markdown", "x-rst": "reStructuredText"}.get(written[1] if written else "", "Text")
            return Wanted("code-related", language)
        return None if _NOT_TAKEN.search(path) else wanted(path, self._recipe)

    def _licences(self) -> dict[str, str]:
        """By folder: what its metadata says, or else its licence file; unknown where it has one that cannot be told."""
        ranked: list[tuple[int, str, str, str]] = []
        for path, licence in self._stated.items():
            folder, _, name = path.rpartition("/")
            # Metadata that says BSD and not which says less than a licence file.
            rank = 3 if licence == UNKNOWN else 1 if is_licence_file(name) else 2 * (licence == "LicenseRef-BSD")
            ranked.append((rank, path, "" if _OF_THE_ROOT.fullmatch(folder) else folder, licence))
        return {folder: licence for *_, folder, licence in sorted(ranked, reverse=True)}


def _licence(name: str, text: str) -> str | None:
    if name == "copyright":  # Debian's: of all files that it does not name
        return CopyrightFile.parse(text).licence_of("usr") or licence_of_text(text) or UNKNOWN
    return licence_of_file(text) if is_licence_file(name) else licence_of_package_file(name, text)


def _copyright_in_diff(file: str) -> str:
    """The one file that is read of Debian's changes to a package of its first format."""
    diff = ""
    with suppress(OSError, EOFError, zlib.error), gzip.open(file) as opened:
        diff = opened.read(_DIFF_BYTES).decode("utf-8", "replace")
    added = re.search(r"^\+\+\+ \S*/debian/copyright(?:\t.*)?\n@@ -0,0 .*\n((?:\+.*\n)*)", diff, re.MULTILINE)
    return re.sub(r"^\+", "", added[1], flags=re.MULTILINE) if added else ""


def _named(about: dict[str, str], file: str, top: str) -> tuple[str, str]:
    """Name and version: as the package states them, else as its archive or the folder in it is called."""
    for path, text in sorted(about.items()):
        stated = _stated_name(path, text) if _ABOUT.fullmatch(path) else ()
        if len(stated) == 2 and all(map(_NAME.fullmatch, stated)):
            return stated[0], stated[1]
    bare = _ENDING.sub("", file)
    between = "[-_.]" if file.endswith(".nupkg") else "_" if file.endswith(".deb") else "[-_]"
    for called in (unquote(bare), top.rstrip("/")):
        if found := re.fullmatch(rf"(.+?){between}v?(\d+(?:[.:_-]\d.*)?)", called):
            return found[1], found[2].partition("_")[0] if between == "_" else found[2]
    return bare, ""


def _stated_name(path: str, text: str) -> list[str]:
    if path == "package.json":
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            said = json.loads(text)
            return [str(said["name"]), str(said["version"])]
    patterns = (r"^Name: *(\S+)", r"^Version: *(\S+)")
    if path == "debian/changelog":
        patterns = (r"\A(\S+) \(", r"\A\S+ \(([^)\s]+)\)")
    return [found[1] for pattern in patterns if (found := re.search(pattern, text, re.MULTILINE))]

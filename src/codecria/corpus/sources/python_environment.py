"""The standard library and the installed packages of a Python environment: real code that every machine has."""

from __future__ import annotations

import platform
import re
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from codecria.common.errors import CodecriaError
from codecria.corpus.licence import UNKNOWN, licence_of_text
from codecria.corpus.licence_files import is_licence_file
from codecria.corpus.licence_metadata import licence_of_metadata
from codecria.corpus.sources.files import FilesRecipe, Wanted, wanted
from codecria.corpus.sources.folder import DiskUnit, Listed, ListedFile, licence_of_folder, runs
from codecria.corpus.sources.source import Form, Refused
from codecria.corpus.sources.walk import SKIPPED_FOLDERS, Found, printable, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

_STANDARD_LIBRARY_LICENCE = "PSF-2.0"
_NOT_STANDARD_LIBRARY = SKIPPED_FOLDERS | {"site-packages", "dist-packages", "__phello__"}
_NO_PROSE = re.compile(
    r"(?:top_level|entry_points|sources|dependency_links|requires|namespace_packages|installed-files|vendor|authors)\.txt"
    r"|requirements.*\.txt|constraints.*\.txt",
    re.IGNORECASE,
)
_VENDORED = re.compile(r".*/(?:_?vendor|_?vendored|extern|_?third_party)/([^/]+?)(?:\.py|/.*)$")
_METADATA_FOLDER = re.compile(r"\.(?:dist|egg)-info$")


class PythonEnvironmentRecipe(FilesRecipe):
    """A Python environment to take documents from."""

    type: Literal["python-environment"] = "python-environment"
    path: str | None = None
    """The environment's folder (a virtual environment or an installation); None is the running one."""
    standard_library: bool = True
    packages: tuple[str, ...] | None = None
    """Distributions to take; None takes all, an empty list none."""
    languages: tuple[str, ...] | None = ("Python",)

    def open(self) -> PythonEnvironmentSource:
        """The source this recipe describes."""
        return PythonEnvironmentSource(self)


@dataclass(frozen=True)
class _Environment:
    """Where an environment keeps what."""

    version: str
    standard_library: Path
    sites: tuple[Path, ...]


class _Package(NamedTuple):
    name: str
    origin: str
    licence: str


class PythonEnvironmentSource:
    """Python files, documentation files, docstrings and package descriptions of an environment.

    Which package a file belongs to is read from the packages' RECORD; metadata of vendored packages
    (`setuptools/_vendor/*.dist-info`) speaks for the vendored files. A vendored copy of an installed package
    (`pip/_vendor/rich`) belongs to that package and has its licence, so that both are held out or neither.

    Raises:
        CodecriaError: the path is no Python environment.
    """

    def __init__(self, recipe: PythonEnvironmentRecipe) -> None:
        self._recipe = recipe
        self._environment = _running() if recipe.path is None else _at(Path(recipe.path).expanduser().absolute())
        self._wanted = None if recipe.packages is None else {_normal(name) for name in recipe.packages}
        self._licences: dict[Path, str | None] = {}

    def describe(self) -> str:
        """One line: what and where."""
        sites = ", ".join(printable(str(site)) for site in self._environment.sites)
        return f"python {self._environment.version} ({printable(str(self._environment.standard_library))}; {sites})"

    def units(self) -> Iterator[DiskUnit]:
        """The standard library in name order, then each site folder in name order."""
        return (DiskUnit(run, self._recipe.docstrings) for run in runs(self._files()))

    def _files(self) -> Iterator[Listed]:
        if self._recipe.standard_library:
            root = str(self._environment.standard_library)
            python = _Package("python", f"python {self._environment.version}", _STANDARD_LIBRARY_LICENCE)
            for found in walk(root, _NOT_STANDARD_LIBRARY, skip_marked=False):
                yield from self._listed(found, python)
        for site in self._environment.sites:
            yield from self._site(site)

    def _site(self, site: Path) -> Iterator[Listed]:
        owners: dict[str, _Package] = {}
        descriptions: dict[str, str] = {}
        self._read_distributions(site, "", owners, descriptions)
        installed = {path.partition("/")[0]: owner for path, owner in owners.items() if path.count("/") == 1}
        for found in walk(str(site), skip_marked=False):
            top, slash, _ = found.path.partition("/")
            language = descriptions.get(found.path)
            if language is None and any(_METADATA_FOLDER.search(each) for each in found.path.split("/")[:-1]):
                continue
            owner = owners.get(found.path) or _Package(top.removesuffix(".py"), top.removesuffix(".py"), UNKNOWN)
            vendored = _VENDORED.match(found.path)
            if language is None and vendored and (original := installed.get(vendored.group(1))):
                owner = _Package(original.name, owner.origin, original.licence)
            if self._wanted is not None and _normal(owner.name) not in self._wanted:
                continue
            licence = self._licence_below_root(Path(found.file).parent, site) if slash and language is None else None
            if owner.licence == UNKNOWN and self._recipe.licence:
                owner = owner._replace(licence=self._recipe.licence)
            yield from self._listed(found, owner._replace(licence=licence or owner.licence), language)

    def _listed(self, found: Found, package: _Package, described_in: str | None = None) -> Iterator[Listed]:
        """The file if it is taken; a package's metadata is, with the language of its description."""
        if described_in is not None:
            taken = None if self._recipe.prose == "none" else Wanted("code-related", described_in)
        else:
            taken = None if _NO_PROSE.fullmatch(found.path.rpartition("/")[2]) else wanted(found.path, self._recipe)
        if found.error:
            yield Refused(found.path, package.name, package.origin, 0, "unreadable", found.error)
        elif taken:
            form: Form = "file" if described_in is None else "description"
            yield ListedFile(found.file, found.modified_ns, found.path, *package, found.size_bytes, *taken, form=form)

    def _read_distributions(
        self, site: Path, below: str, owners: dict[str, _Package], descriptions: dict[str, str]
    ) -> None:
        """Fill in who owns which file, and the descriptions' languages; vendored packages after their hosts."""
        nested: set[str] = set()
        for one in sorted(distributions(path=[str(site / below)]), key=lambda each: str(each.metadata["Name"])):
            package = _package(one)
            for file in (file for file in map(str, one.files or ()) if not file.startswith("../")):
                owners[below + file] = package
                inner = re.fullmatch(r"(.+/)[^/]+\.dist-info/METADATA", file)
                if inner:
                    nested.add(below + inner.group(1))
                elif re.fullmatch(r"[^/]+\.dist-info/METADATA|[^/]+\.egg-info/PKG-INFO", file):
                    descriptions[below + file] = _language_of_description(one)
        for folder in sorted(nested):
            if folder != below and (site / folder).is_dir():
                self._read_distributions(site, folder, owners, descriptions)

    def _licence_below_root(self, folder: Path, site: Path) -> str | None:
        """What a licence file in a sub-folder of the package says: vendored code has its own."""
        if folder.parent == site:
            return None
        if folder not in self._licences:
            self._licences[folder] = licence_of_folder(folder) or self._licence_below_root(folder.parent, site)
        return self._licences[folder]


def _package(distribution: Distribution) -> _Package:
    metadata = distribution.metadata
    name, version = str(metadata["Name"]), str(metadata["Version"])
    expression, field = _first(distribution, "License-Expression"), _first(distribution, "License")
    stated = licence_of_metadata(expression, metadata.get_all("Classifier") or (), field)
    if stated is None or stated == "LicenseRef-BSD":
        stated = _licence_of_files(distribution) or stated
    return _Package(name, f"{name} {version}", stated or UNKNOWN)


def _first(distribution: Distribution, field: str) -> str | None:
    values = distribution.metadata.get_all(field)
    return str(values[0]) if values else None


def _licence_of_files(distribution: Distribution) -> str | None:
    """What the package's own licence files say, `LICENSE` before `LICENSE.third-party`."""
    files = [file for file in distribution.files or () if is_licence_file(file.name) and ".dist-info" in str(file)]
    for file in sorted(files, key=lambda each: (len(each.parts), each.name)):
        with suppress(OSError):
            if stated := licence_of_text(Path(str(file.locate())).read_text("utf-8", "replace")):
                return stated
    return None


def _language_of_description(distribution: Distribution) -> str:
    written = (_first(distribution, "Description-Content-Type") or "").lower()
    return "Markdown" if "markdown" in written else "reStructuredText" if "rst" in written else "Text"


def _normal(name: str) -> str:
    """PEP 503's one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _running() -> _Environment:
    sites = dict.fromkeys(Path(sysconfig.get_path(which)).resolve() for which in ("purelib", "platlib"))
    return _Environment(platform.python_version(), Path(sysconfig.get_path("stdlib")), tuple(sites))


def _at(folder: Path) -> _Environment:
    """An environment that is not running, by the layout of its folder."""
    settings: dict[str, str] = {}
    if (folder / "pyvenv.cfg").is_file():
        for line in (folder / "pyvenv.cfg").read_text("utf-8", "replace").splitlines():
            key, _, value = line.partition("=")
            settings[key.strip().lower()] = value.strip()
    libraries = sorted([*folder.glob("lib/python3.*"), *folder.glob("Lib")])
    if not libraries:
        mend = "name the folder of a virtual environment or of a Python installation"
        raise CodecriaError("is no Python environment: it holds no lib/python3.*", where=folder, mend=mend)
    library = libraries[-1]
    base = Path(settings["home"]).parent / library.relative_to(folder) if "home" in settings else library
    version = settings.get("version") or settings.get("version_info") or library.name.removeprefix("python")
    sites = tuple(site for site in (library / "site-packages", library / "dist-packages") if site.is_dir())
    return _Environment(version, base, sites)

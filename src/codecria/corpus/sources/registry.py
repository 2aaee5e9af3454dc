"""Packages by name from PyPI, npm and Debian, through the pip, npm and apt of this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import StringConstraints

from codecria.common.files import cache_folder
from codecria.corpus.fetch_packages import PackageLock, fetch_packages, read_lock
from codecria.corpus.sources.archive import ArchiveUnit
from codecria.corpus.sources.files import FilesRecipe
from codecria.corpus.sources.source import Refused, RefusedUnit, Unit

if TYPE_CHECKING:
    from collections.abc import Iterator


_SHIPPED = Path(__file__).parents[2] / "recipes"

# What the clients take, less the addresses, folders and options that they would take too.
PythonName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*(==[\w.!+]+)?$")]
NpmName = Annotated[str, StringConstraints(pattern=r"^(@\w[\w.-]*/)?[A-Za-z0-9][\w.-]*(@[\w.+-]+)?$")]
DebianName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]+(=[\w.+:~-]+)?$")]


class RegistryRecipe(FilesRecipe):
    """Packages to take documents from: the newest, or the versions that a lock or a name says."""

    type: Literal["registry"] = "registry"
    pypi: tuple[PythonName, ...] = ()
    """`name` or `name==version`: the sdist, which has tests and documentation, or else a wheel."""
    npm: tuple[NpmName, ...] = ()
    """`name` or `name@version`."""
    debian: tuple[DebianName, ...] = ()
    """Source packages, `name` or `name=version`."""
    debian_binary: tuple[DebianName, ...] = ()
    """Packages (.deb), written as above."""
    lock: str | None = None
    """A file that says which versions and bytes packages must be; or the name of one that ships with the recipes."""
    folder: str | None = None
    """Where packages are kept, with a lock of what was fetched; None is `registry` in the cache folder."""

    def open(self) -> RegistrySource:
        """The source this recipe describes."""
        return RegistrySource(self)


class RegistrySource:
    """Each package's archive is a unit; what no registry has is a line of the ledger.

    Raises:
        CodecriaError: the lock cannot be read; while listing units: a registry does not answer.
    """

    def __init__(self, recipe: RegistryRecipe) -> None:
        self._recipe = recipe
        self._folder = (Path(recipe.folder) if recipe.folder else cache_folder() / "registry").expanduser().resolve()
        asked = {"pypi": recipe.pypi, "npm": recipe.npm, "debian": recipe.debian, "debian-binary": recipe.debian_binary}
        self._names = [f"{registry}/{name}" for registry, names in asked.items() for name in dict.fromkeys(names)]
        self._lock = PackageLock()
        if recipe.lock is not None:
            named = Path(recipe.lock).expanduser()
            shipped = _SHIPPED / recipe.lock
            self._lock = read_lock(shipped if shipped.is_file() and not named.exists() else named)

    def describe(self) -> str:
        """One line: what and how many."""
        registries = [name.partition("/")[0] for name in self._names]
        counts = (f"{registries.count(name)} of {name}" for name in dict.fromkeys(registries))
        return f"packages by name: {', '.join(counts)}"

    def units(self) -> Iterator[Unit]:
        """Fetches what is not here; then one unit a package, in the recipe's order."""
        fetched = fetch_packages(self._names, self._folder, self._lock)
        recipe = FilesRecipe.model_validate(self._recipe.model_dump(include=set(FilesRecipe.model_fields)))
        for name in self._names:
            if name in fetched.missing:
                package, reason = name.partition("/")[2], fetched.missing[name]
                yield RefusedUnit(name, 0, reason, Refused(name, package, package, 0, "not-in-registry", reason))
                continue
            files = fetched.packages[name].files
            archive = next((file.name for file in files if file.name.endswith(".dsc")), files[0].name)
            held = repr(([file.sha256 for file in files], recipe.model_dump_json()))
            state, size_bytes = hashlib.sha256(held.encode()).hexdigest(), sum(file.size_bytes for file in files)
            yield ArchiveUnit(f"{name}/{archive}", size_bytes, state, str(self._folder / name / archive), recipe)

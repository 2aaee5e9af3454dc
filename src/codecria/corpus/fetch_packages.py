"""Packages by name, downloaded once, and the lock that says which bytes they are.

A package lies whole in `FOLDER/REGISTRY/NAME`, or is not there. `FOLDER/registry.lock.json` keeps what names without a
version came to, and what no registry has, so a second run has the same bytes; take a line out of it to ask again.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import shutil
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_folder, read_bytes, sha256_of_file, write_atomic
from codecria.common.lock import alone
from codecria.common.progress import console, progress_bar
from codecria.common.recipe import Recipe
from codecria.corpus.registries.clients import Apt, MissingError, fetch_with_npm, fetch_with_pip

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LOCK_NAME = "registry.lock.json"
_AT_ONCE = 4
_LOOK_EVERY_S = 0.5


class LockedFile(Recipe):
    """A file of a package, and which bytes it is."""

    name: str
    sha256: str
    size_bytes: int


class LockedPackage(Recipe):
    """One version of a package: its files in name order."""

    version: str
    files: tuple[LockedFile, ...]


class PackageLock(Recipe):
    """Packages by `REGISTRY/NAME` as asked for; and why those are missing that no registry has."""

    packages: dict[str, LockedPackage] = Field(default_factory=dict[str, LockedPackage])
    missing: dict[str, str] = Field(default_factory=dict[str, str])


def read_lock(path: Path) -> PackageLock:
    """The lock in a file.

    Raises:
        CodecriaError: there is no such file, or it holds something else.
    """
    try:
        return PackageLock.model_validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CodecriaError(f"is no lock of packages: {place} {first['msg'].lower()}", where=path) from error


def fetch_packages(names: Sequence[str], folder: Path, given: PackageLock) -> PackageLock:
    """Have every package in `folder`; what lies there with the right hash is not asked for again.

    Args:
        names: `REGISTRY/NAME`, registries being `pypi`, `npm`, `debian` (source packages) and `debian-binary`.
        folder: where packages are kept.
        given: which versions and bytes they must be; a package it does not name is taken in its newest version.

    Returns:
        These packages as they lie in the folder, and those that are missing.

    Raises:
        CodecriaError: a registry does not answer, or gives other bytes than locked; what arrived is kept.
    """
    own = read_lock(folder / LOCK_NAME) if (folder / LOCK_NAME).exists() else PackageLock()
    locked, missing = own.packages | given.packages, own.missing | given.missing

    def is_whole(name: str) -> bool:
        paths = {folder / name / file.name: file.sha256 for file in locked[name].files} if name in locked else {}
        return name in locked and all(path.is_file() and sha256_of_file(path) == paths[path] for path in paths)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        absent = [name for name, whole in zip(names, pool.map(is_whole, names), strict=True) if not whole]
    failures: list[CodecriaError] = []
    if wanted := [name for name in absent if name not in missing]:
        with alone(folder):
            for name, result in _fetched(wanted, folder, locked):
                if isinstance(result, CodecriaError):
                    failures.append(result)
                elif isinstance(result, MissingError):
                    missing[name] = result.reason
                    if result.final:
                        own.missing[name] = result.reason
                else:
                    locked[name] = result
                    if name not in given.packages:
                        own.packages[name] = result
                write_atomic(folder / LOCK_NAME, own.model_dump_json(indent=1) + "\n")
    if failures:
        raise CodecriaError(f"{len(failures)} of {len(wanted)} packages did not arrive, the first: {failures[0]}")
    gone = {name: missing[name] for name in absent if name in missing}
    for name, reason in gone.items():
        console.print(f"passed over {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    return PackageLock(packages={name: locked[name] for name in names if name not in gone}, missing=gone)


def _fetched(
    names: Sequence[str], folder: Path, locked: dict[str, LockedPackage]
) -> Iterator[tuple[str, LockedPackage | MissingError | CodecriaError]]:
    """Several downloads at once: each package as soon as it is there, or known to be missing."""
    apt_folder = folder / ".apt"
    for left in (apt_folder, *folder.rglob(".*.part")):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    sizes = [sum(file.size_bytes for file in locked[name].files) for name in names if name in locked]
    arrived = 0
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        apt = pool.submit(Apt, apt_folder) if any(name.startswith("debian") for name in names) else Future[Apt]()
        running = {pool.submit(_fetch, name, folder, locked.get(name), apt): name for name in names}
        with progress_bar("fetching packages", sum(sizes) if len(sizes) == len(names) else None, "B") as bar:
            while running:
                for future in wait(running, _LOOK_EVERY_S, FIRST_COMPLETED).done:
                    name = running.pop(future)
                    try:
                        package = future.result()
                    except (MissingError, CodecriaError) as error:
                        yield name, error
                    else:
                        arrived += sum(file.size_bytes for file in package.files)
                        yield name, package
                # Not Path.rglob: it fails where a folder is renamed while it looks.
                parts = glob.iglob("**/.*.part/*", root_dir=folder, recursive=True)  # noqa: PTH207
                under_way = sum(_size(folder / path) for path in parts)
                bar.set(arrived + under_way, f"{len(names) - len(running)} of {len(names)} packages")
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(apt_folder, ignore_errors=True)


def _fetch(name: str, folder: Path, locked: LockedPackage | None, apt: Future[Apt]) -> LockedPackage:
    registry, _, package = name.partition("/")
    wanted = locked.version if locked else None
    with atomic_folder(folder / name) as part:
        match registry:
            case "pypi":
                version = fetch_with_pip(package, part, wanted, locked.files[0].name if locked else "")
            case "npm":
                version = fetch_with_npm(package, part, wanted)
            case "debian":
                version = apt.result().fetch_source(package, part, wanted)
            case _:
                version = apt.result().fetch_binary(package, part, wanted)
        files = tuple(
            LockedFile(name=path.name, sha256=sha256_of_file(path), size_bytes=path.stat().st_size)
            for path in sorted(part.iterdir())
        )
        if locked and files != locked.files:
            pairs = itertools.zip_longest(files, locked.files)
            got, expected = next((got, expected) for got, expected in pairs if got != expected)
            mend = "take it out of the lock to accept it"
            raise CodecriaError(f"got {_in_words(got)}, the lock says {_in_words(expected)}", where=name, mend=mend)
    return LockedPackage(version=version, files=files)


def _in_words(file: LockedFile | None) -> str:
    return "no more files" if file is None else f"{file.name} ({file.size_bytes:,} bytes, SHA-256 {file.sha256})"


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):  # the clients remove and rename files while we look
        return path.stat().st_size if path.is_file() else 0
    return 0

"""Published data: where a file is found, whether its content is the published one, and under which licence.

Nothing of it is part of the project. A file is looked for under its usual name in the folder given, in the one that
`CODECRIA_DATA` names, in the installed package that carries it and in the cache; then on a hub, where there is a
network and huggingface_hub is installed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_file, cache_folder, sha256_of_file
from codecria.corpus.evaluation_sets import read_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

VARIABLE = "CODECRIA_DATA"


@dataclass(frozen=True)
class DataFile:
    """A published file.

    Attributes:
        path: its usual name below a folder of data (`mbpp/mbpp.jsonl`); it is also accepted without the folder.
        title: what it is.
        licence: an SPDX name, or its terms in words.
        sha256: of the published content; several where there are several releases, none where no hash is known.
        package: an importable package that carries it, and the file's path inside.
        hub: a data set on a hub, and the file's path inside.
        stand_in: whether it is there in place of a file that cannot be had.
    """

    path: str
    title: str
    licence: str
    sha256: tuple[str, ...] = ()
    package: tuple[str, str] | None = None
    hub: tuple[str, str] | None = None
    stand_in: bool = False


@dataclass(frozen=True)
class Found:
    """A file that is here. `verified` says whether its content is a published one."""

    file: DataFile
    path: Path
    sha256: str
    verified: bool

    def told(self) -> dict[str, Any]:
        """Title, licence and content, for results and report."""
        told: dict[str, Any] = {"title": self.file.title, "licence": self.file.licence, "sha256": self.sha256}
        return {**told, "verified": self.verified, "stand_in": self.file.stand_in}


class MissingDataError(CodecriaError):
    """A file that cannot be found: the task is not run and says so."""


@dataclass
class Data:
    """Finds files, each once.

    Attributes:
        folder: where to look first.
        allowed: files (their `path`) whose content may be other than the published one.
        found: what was found, by its `path`.
    """

    folder: Path | None = None
    allowed: tuple[str, ...] = ()
    found: dict[str, Found] = field(default_factory=dict[str, Found])

    def find(self, file: DataFile) -> Found:
        """The file, verified.

        Raises:
            MissingDataError: it is nowhere.
            CodecriaError: its content is not the published one, and it is not allowed by name.
        """
        if file.path not in self.found:
            path = next((each for each in self._places(file) if each.is_file()), None) or _from_hub(file)
            self.found[file.path] = self._verified(file, path)
        return self.found[file.path]

    def paths(self, files: Iterable[DataFile]) -> list[Path]:
        """Where those of the files lie that were found."""
        return [self.found[file.path].path for file in files if file.path in self.found]

    def _places(self, file: DataFile) -> Iterator[Path]:
        for folder in (self.folder, os.environ.get(VARIABLE)):
            if folder:
                yield Path(folder) / file.path
                yield Path(folder) / Path(file.path).name
        if file.package is not None:
            # The package is found, not imported: none of its code runs.
            spec = importlib.util.find_spec(file.package[0])
            for folder in (spec.submodule_search_locations if spec else None) or ():
                yield Path(folder) / file.package[1]
        yield _cached(file)

    def _verified(self, file: DataFile, path: Path) -> Found:
        sha256 = sha256_of_file(path)
        if file.sha256 and sha256 not in file.sha256 and file.path not in self.allowed:
            mend = f"fetch it again, or allow it: --allow-data {file.path}"
            raise CodecriaError(f"is not {file.title} as published (SHA-256 {sha256[:16]}…)", where=path, mend=mend)
        return Found(file, path, sha256, sha256 in file.sha256)


def _cached(file: DataFile) -> Path:
    return cache_folder() / "data" / file.path


def _from_hub(file: DataFile) -> Path:
    """Fetch a file into the cache."""
    ways = [f"put {file.path} into a folder and name that with --data or {VARIABLE}"]
    if file.package is not None:
        ways.append(f"install {file.package[0].replace('_', '-')}")
    missing = MissingDataError(f"{file.title} is not here", where=file.path, mend=", or ".join(ways))
    if file.hub is None:
        raise missing
    try:
        import huggingface_hub

        fetched = huggingface_hub.hf_hub_download(*file.hub, repo_type="dataset", etag_timeout=5)
    except Exception as error:  # not installed, no network, or the transport's many errors
        raise missing from error
    with Path(fetched).open("rb") as source, atomic_file(_cached(file)) as target:
        shutil.copyfileobj(source, target)
    return _cached(file)


def complete_rows(path: Path, fields: Collection[str], kind: str) -> Iterator[tuple[str, Any]]:
    """A published file's rows, each with its place (`file:row`), checked to have these fields.

    Raises:
        CodecriaError: no such file, or a row that lacks a field: "a `kind` without 'field'".
    """
    for number, row in enumerate(read_rows(path), start=1):
        where = f"{path}:{number}"
        check_fields(row, fields, kind, where)
        yield where, row


def check_fields(row: Any, fields: Collection[str], kind: str, where: str, mend: str | None = None) -> None:
    """Raise a CodecriaError that names the first of the fields that a row lacks."""
    missing = [field for field in fields if field not in row]
    if missing:
        raise CodecriaError(f"a {kind} without '{missing[0]}'", where=where, mend=mend)


def read_table(path: Path, columns: Collection[str]) -> list[dict[str, Any]]:
    """A table's rows: CSV or Parquet.

    Raises:
        CodecriaError: no such file, or a table that lacks one of the columns.
    """
    rows = list(read_rows(path))
    if not rows or not set(columns) <= rows[0].keys():
        raise CodecriaError(f"no table with the columns {', '.join(columns)}", where=path)
    return rows

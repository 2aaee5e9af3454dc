"""Tables of files: Parquet and JSON lines, as The Stack, The Stack v2 and StarCoder's data set are laid out.

A row is a file, or a repository with a list of its files. Where the table only names the bytes, as The Stack v2 does,
they are fetched.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from codecria.corpus.document import Kind  # noqa: TC001 - pydantic reads it
from codecria.corpus.sources.addresses import Listed, lines, list_files, open_bytes, open_unpacked
from codecria.corpus.sources.files import FilesRecipe
from codecria.corpus.sources.folder import DiskUnit
from codecria.corpus.sources.source import Refused, SourceFile, UnreadableError
from codecria.corpus.sources.table_rows import COLUMNS, Column, Row, columns_of, fetched, first_line, in_braces
from codecria.corpus.sources.walk import printable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

Layout = Literal["auto", "stack-v1", "stack-v2", "starcoder", "plain"]
_NEEDED: dict[Layout, tuple[Column, ...]] = {
    "auto": (),
    "plain": (),
    "starcoder": ("path", "package"),
    "stack-v1": ("path", "package", "licences"),
    "stack-v2": ("path", "package", "licences", "licence_type"),
}
_ENDINGS = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst")
_UNIT_BYTES, _BATCH_BYTES, _BUFFER_BYTES, _MOST_LINE = 64_000_000, 8_000_000, 1 << 20, 64_000_000
_FETCHED_BYTES = 10_000
"""Of a file that a table only names, about."""


class TableRecipe(FilesRecipe):
    """Tables to take documents from."""

    type: Literal["table"] = "table"
    path: str
    """A file, a folder, a pattern, or the address of one (`s3://`, `gs://`, `hf://datasets/...`)."""
    layout: Layout = "auto"
    """Says which columns must be there; `auto` takes what it finds."""
    columns: dict[Column, str] = Field(default_factory=dict[Column, str])
    """Columns with other names."""
    content: str = "s3://softwareheritage/content/{blob_id}"
    """Where the bytes of a row without content are, as gzip or plain; columns in braces."""
    kind: Kind | None = None
    """What all rows are; None goes by their language."""
    language: str | None = None
    """Of rows that state none."""

    def open(self) -> TableSource:
        """The source this recipe describes."""
        return TableSource(self)


class TableSource:
    """Rows of tables as files; a unit is some row groups, a range of JSON lines, or a packed file.

    A row's licence is all that were found for it, joined by AND: the lists name what the licence files that cover the
    file hold, and nothing says that one may choose. So what The Stack v2 calls permissive because GitHub named a
    permissive licence is not so here where another lies beside it. Traces that ScanCode could not name are left out;
    `no_license` is unknown.

    Raises:
        CodecriaError: no table there, or fsspec, or what it needs for the address, is not installed.
    """

    def __init__(self, recipe: TableRecipe) -> None:
        self._recipe = recipe
        self._files = list_files(recipe.path, _ENDINGS)

    def describe(self) -> str:
        """One line: what and where."""
        return f"table {printable(self._recipe.path)}"

    def units(self) -> Iterator[TableUnit | DiskUnit]:
        """The tables in name order; one that cannot be read is one line."""
        for file in self._files:
            try:
                for start, stop, size in self._parts(file):
                    yield TableUnit(file, start, stop, size, self._recipe)
            except UnreadableError as error:
                refused = Refused(file.label, file.label, file.label, file.size_bytes, error.reason, error.detail)
                yield DiskUnit((refused,), docstrings=False)

    def _parts(self, file: Listed) -> Iterator[tuple[int, int, int]]:
        """Where each unit starts and stops, and its size."""
        if not file.label.endswith(".parquet"):
            step = _UNIT_BYTES if file.label.endswith((".jsonl", ".json")) else file.size_bytes + 1
            for start in range(0, file.size_bytes, step):
                stop = min(start + step, file.size_bytes)
                yield start, stop, stop - start
            return
        with _parquet(file, self._recipe) as (table, columns):
            start, size = 0, 0
            for group in range(table.metadata.num_row_groups):
                size += _bytes_to_read(table, group, columns)
                if size >= _UNIT_BYTES or group + 1 == table.metadata.num_row_groups:
                    yield start, group + 1, size
                    start, size = group + 1, 0


@contextmanager
def _parquet(file: Listed, recipe: TableRecipe) -> Generator[tuple[Any, list[str]]]:
    """An open Parquet file, and which of its columns say something of a file."""
    try:
        with open_bytes(file.address) as opened:
            # Buffered, or a whole row group, of whatever size, is read before its first row is given.
            table = pq.ParquetFile(opened, pre_buffer=False, buffer_size=_BUFFER_BYTES)
            schema = table.schema_arrow
            lists = [each.type.value_type for each in schema if pa.types.is_list(each.type)]
            names = {*schema.names, *(part.name for one in lists if pa.types.is_struct(one) for part in one)}
            if missing := _missing(names, recipe):
                raise UnreadableError("missing-column", f"{file.label} has no column {missing}")
            known = in_braces(recipe.content).union(*(columns_of(column, recipe) for column in COLUMNS))
            yield table, [name for name in schema.names if name in known]
    except (pa.ArrowException, ValueError, OSError) as error:
        raise UnreadableError("damaged-table", first_line(error)) from error


def _missing(names: set[str], recipe: TableRecipe) -> str | None:
    """A column that must be there and is not."""
    if absent := set(recipe.columns.values()) - names:
        return min(absent)
    needed = _NEEDED[recipe.layout] if in_braces(recipe.content) <= names else ("content", *_NEEDED[recipe.layout])
    lacking = (columns_of(column, recipe) for column in needed)
    return next((called[0] for called in lacking if names.isdisjoint(called)), None)


def _bytes_to_read(table: Any, group: int, columns: list[str]) -> int:
    """What a row group holds, unpacked; with the files it names, about."""
    facts = table.metadata.row_group(group)
    leaves = [facts.column(number) for number in range(facts.num_columns)]
    size = sum(leaf.total_uncompressed_size for leaf in leaves if leaf.path_in_schema.split(".")[0] in columns)
    names = {leaf.path_in_schema.split(".")[-1]: leaf.num_values for leaf in leaves}
    return size if "content" in names else size + _FETCHED_BYTES * names.get("blob_id", 0)


@dataclass(frozen=True)
class TableUnit:
    """Row groups of a Parquet file, or the JSON lines that begin in a range of bytes: from `start` until `stop`."""

    file: Listed
    start: int
    stop: int
    size_bytes: int
    recipe: TableRecipe

    @property
    def name(self) -> str:
        """The file, and which part of it."""
        return f"{self.file.label} [{self.start}, {self.stop})"

    @property
    def state(self) -> str:
        """Of the file, and of how it is read."""
        facts = (self.file.stamp, self.start, self.stop, self.recipe.model_dump_json(exclude={"path"}))
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def files(self) -> Iterator[SourceFile | Refused]:
        """A file for each row, or for each in a row's list."""
        rows = self._parquet_rows() if self.file.label.endswith(".parquet") else self._json_rows()
        return fetched(one for place, row in rows for one in self._files_of(place, row))

    def _parquet_rows(self) -> Iterator[tuple[str, dict[str, Any] | Refused]]:
        with _parquet(self.file, self.recipe) as (table, columns):
            groups = [table.metadata.row_group(group) for group in range(self.stop)]
            number = sum(group.num_rows for group in groups[: self.start])
            at_once = _BATCH_BYTES * sum(group.num_rows for group in groups[self.start :]) // max(self.size_bytes, 1)
            chosen = {"row_groups": range(self.start, self.stop), "columns": columns, "use_threads": False}
            for batch in table.iter_batches(min(max(at_once, 1), 1_000), **chosen):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{self.file.label}:{number}", row

    def _json_rows(self) -> Iterator[tuple[str, dict[str, Any] | Refused]]:
        packed = not self.file.label.endswith((".jsonl", ".json"))
        with open_unpacked(self.file.address) as opened:
            # A line that the border cuts belongs to the range it begins in.
            place = 0 if packed else opened.seek(max(self.start - 1, 0))
            for number, (size, line) in enumerate(lines(opened, _MOST_LINE)):
                begin, place = place, place + size
                if begin >= self.stop and not packed:
                    return
                if number or not self.start:
                    called = f"{self.file.label}@{begin}" if self.start else f"{self.file.label}:{number + 1}"
                    yield called, _parsed(line, size, called, self.file.label)

    def _files_of(self, place: str, row: dict[str, Any] | Refused) -> Iterator[SourceFile | Refused]:
        if isinstance(row, Refused):
            yield row
            return
        inside: Any = row.get(self.recipe.columns.get("files", "files"))
        for number, one in enumerate(inside if isinstance(inside, list) else [{}]):
            called = f"{place}#{number + 1}" if isinstance(inside, list) else place
            said = Row({**row, **one} if isinstance(one, dict) else {}, called, self.file.label, self.recipe)
            if (taken := said.taken()) is not None:
                yield said.file(*taken)


def _parsed(line: bytes | None, size: int, place: str, table: str) -> dict[str, Any] | Refused:
    if line is None:
        return Refused(place, table, table, size, "line-too-long", f"{size:,} bytes; at most {_MOST_LINE:,}")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Refused(place, table, table, size, "not-json", first_line(error))
    return row if isinstance(row, dict) else Refused(place, table, table, size, "not-json", "no object")

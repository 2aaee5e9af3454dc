"""Parquet and JSON Lines as streams of rows, on this machine or at an address that fsspec knows."""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
import time
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from glob import glob
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from codecria.common.errors import CodecriaError
from codecria.corpus.sources.source import UnreadableError
from codecria.corpus.sources.table_layouts import said
from codecria.corpus.sources.walk import open_regular, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz")
BROKEN = (EOFError, OSError, ValueError, ArithmeticError, pa.ArrowException)
"""What reading a damaged table raises; an OSError may also be one of the disk or the network: see `is_damage`."""

PART_BYTES = 64_000_000
LINE_BYTES = 64_000_000  # longest line of JSON: a repository with 100,000 files takes as much
_BUFFER_BYTES = 1_000_000
_CONTENT_BYTES = 32_000_000  # longest content fetched, eight times the longest document
_ROWS = 32  # rows in memory
_THREADS = 8

Row = dict[str, Any]


class Table(NamedTuple):
    """A file of rows.

    Attributes:
        file: what it is opened by.
        path: under the folder that was asked for, valid UTF-8.
        size_bytes: of the file.
        stamp: changes when the content does.
    """

    file: str
    path: str
    size_bytes: int
    stamp: str


def open_filesystem(address: str, options: Mapping[str, str]) -> tuple[Any, str]:
    """The fsspec filesystem of an address, and the path there.

    Raises:
        CodecriaError: fsspec or its part for this sort of address is missing, or there is no such sort.
    """
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(address, **options)
    except (ImportError, ValueError) as error:
        install = "pip install 'codecria[remote]', and the package it names"
        mend = install if isinstance(error, ImportError) else "check how it begins"
        raise CodecriaError(f"this address cannot be read: {error}", where=address, mend=mend) from error


def open_table(address: str, options: Mapping[str, str], file: str) -> BinaryIO:
    """A file of those listed at `address`. Links are followed: the hub's cache keeps its files behind them."""
    if "://" in address:
        return open_filesystem(address, options)[0].open(file, "rb")
    return open_regular(file, follow_links=True)


def list_tables(address: str, options: Mapping[str, str]) -> list[Table]:
    """The tables of a folder or a glob, or the one that is named, in name order.

    Raises:
        CodecriaError: the address does not answer, or there are none.
    """
    try:
        tables = list(_remote(address, options) if "://" in address else _local(address))
    except CodecriaError:
        raise
    except Exception as error:  # each of fsspec's parts has errors of its own
        mend = "check the address and the options"
        raise CodecriaError(f"cannot be listed: {error}", where=address, mend=mend) from error
    if not tables:
        raise CodecriaError("no tables there", where=address, mend=f"they end in one of {', '.join(ENDINGS)}")
    return tables


def _local(address: str) -> Iterator[Table]:
    path = Path(address).expanduser()
    named = [path] if path.is_file() else map(Path, glob(str(path), recursive=True))  # noqa: PTH207 (Path wants a folder)
    found = path.rglob("*") if path.is_dir() else named
    for file in sorted(found):
        if file.name.endswith(ENDINGS) and file.is_file():
            state = file.stat()
            below = str(file.relative_to(path)) if path.is_dir() else file.name
            yield Table(str(file), printable(below), state.st_size, str(state.st_mtime_ns))


def _remote(address: str, options: Mapping[str, str]) -> Iterator[Table]:
    filesystem, path = open_filesystem(address, options)
    found = filesystem.glob(path) if any(mark in path for mark in "*?[") else filesystem.find(path)
    for file in sorted(found):
        if file.endswith(ENDINGS):
            below = file.removeprefix(path).strip("/") if file != path else file.rpartition("/")[2]
            yield Table(file, printable(below), filesystem.size(file) or 0, str(filesystem.ukey(file)))


def is_damage(error: Exception) -> bool:
    """Whether it is the table's fault, not the disk's or the network's."""
    return not isinstance(error, OSError) or (error.errno is None and type(error) is OSError)


def look_into(file: BinaryIO, table: Table) -> tuple[frozenset[str], list[tuple[int, int, int]]]:
    """Names of the columns, those of rows listed in a row (`files`) too; and the parts: begin, end, bytes.

    A part of Parquet is row groups of 64 MB together, or one that is larger; of JSONL a range of 64 MB, which has
    the lines that begin in it; a compressed file is one part.
    """
    if table.path.endswith(".parquet"):
        metadata = pq.ParquetFile(file).metadata
        paths = [metadata.schema.column(n).path.split(".") for n in range(metadata.num_columns)]
        names = {path[0] for path in paths} | {path[3] for path in paths if path[0] == "files" and len(path) > 3}
        sizes = [metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups)]
        return frozenset(names), list(_runs(sizes))
    names = set[str]()
    for _, row in islice(_json_rows(file, table.path, 0, sys.maxsize), 100):  # what is null may be left out of some
        if isinstance(row, dict):
            below = row.get("files")
            names.update(row, *(each for each in (below if isinstance(below, list) else ()) if isinstance(each, dict)))
    if not table.path.endswith(".jsonl"):
        return frozenset(names), [(0, sys.maxsize, table.size_bytes)]
    ends = [*range(PART_BYTES, table.size_bytes, PART_BYTES), table.size_bytes]
    return frozenset(names), [(begin, end, end - begin) for begin, end in zip([0, *ends], ends, strict=False)]


def _runs(sizes: list[int]) -> Iterator[tuple[int, int, int]]:
    begin = run_bytes = 0
    for n, size_bytes in enumerate(sizes):
        if n > begin and run_bytes + size_bytes > PART_BYTES:
            yield begin, n, run_bytes
            begin, run_bytes = n, 0
        run_bytes += size_bytes
    if sizes:
        yield begin, len(sizes), run_bytes


def rows(file: BinaryIO, path: str, begin: int, end: int, columns: set[str]) -> Iterator[tuple[int, Row | str]]:
    """Rows of a part, or what is wrong with one, each with its number (Parquet) or its first byte (JSONL).

    Text of a Parquet file comes as bytes, its times as seconds since 1970. `columns` may name some that are not there.

    Raises:
        OSError, EOFError, ValueError, ArrowException: `BROKEN`.
    """
    if not path.endswith(".parquet"):
        yield from _json_rows(file, path, begin, end)
        return
    # Without these two each column of a row group is read whole.
    buffers: dict[str, Any] = {"buffer_size": _BUFFER_BYTES, "pre_buffer": False}
    parquet = pq.ParquetFile(file, coerce_int96_timestamp_unit="us", **buffers)
    number = sum(parquet.metadata.row_group(n).num_rows for n in range(begin))
    names = [name for name in parquet.schema_arrow.names if name in columns]
    groups = list(range(begin, end))
    for batch in parquet.iter_batches(_ROWS, row_groups=groups, columns=names, use_threads=False):
        for values in zip(*(_plain(column).to_pylist() for column in batch.columns), strict=True):
            yield number, dict(zip(batch.schema.names, values, strict=True))
            number += 1


def _plain(column: Any) -> Any:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.cast(pa.large_binary())  # whatever the bytes are, they are the examiner's to judge
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("s", column.type.tz), safe=False).cast(pa.int64())
    return column


def _json_rows(file: BinaryIO, path: str, begin: int, end: int) -> Iterator[tuple[int, Row | str]]:
    if path.endswith(".gz"):
        file = cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb"))
    elif path.endswith(".zst"):
        file = cast("BinaryIO", pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd"))
    for at, line in lines(cast("BinaryIO", io.BufferedReader(cast("Any", file), _BUFFER_BYTES)), begin, end):
        if line is None:
            yield at, f"a line of more than {LINE_BYTES:,} bytes at byte {at:,}"
        elif line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield at, cast("Row", row) if isinstance(row, dict) else f"no JSON object at byte {at:,}"


def lines(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, bytes | None]]:
    """The lines that begin in a range of bytes, each with its place; None for one of more than 64 MB."""
    at = begin
    if begin:
        file.seek(begin - 1)
        at += _pass_line(file) - 1
    while at < end and (line := file.readline(LINE_BYTES)):
        is_whole = len(line) < LINE_BYTES or line.endswith(b"\n")
        yield at, line if is_whole else None
        at += len(line) + (0 if is_whole else _pass_line(file))


def _pass_line(file: BinaryIO) -> int:
    """How many bytes there were to the end of the line."""
    passed = 0
    while piece := file.readline(LINE_BYTES):
        passed += len(piece)
        if piece.endswith(b"\n"):
            break
    return passed


def fetch(template: str, options: Mapping[str, str], blob_id: str, encoding: str) -> bytes:
    """A content by its hash, unpacked, in UTF-8 where its encoding is known.

    Raises:
        UnreadableError: this content is "unreachable" (there is none), "too-long" or "damaged".
        CodecriaError: contents cannot be fetched at all, after three tries: the build stops, and goes on later.
    """
    if not re.fullmatch(r"[\w-]+", blob_id):  # it becomes part of an address
        raise UnreadableError("unreachable", f"{blob_id[:80]} is no hash of a content")
    address = template.replace("{blob_id}", blob_id)
    data = b""
    for wait_s in (1.0, 4.0, None):
        try:
            path = open_filesystem(address, options)[1] if "://" in address else address
            with open_table(address, options, path) as file:
                data = file.read(_CONTENT_BYTES)
            break
        except CodecriaError:
            raise
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise UnreadableError("unreachable", f"{address}: {said(error)}") from error
        except Exception as error:  # each of fsspec's parts has errors of its own
            if wait_s is None:
                mend = "when the network is back, give the same command: the build goes on from here"
                raise CodecriaError(f"contents cannot be fetched: {said(error)}", where=address, mend=mend) from error
            time.sleep(wait_s)
    if data.startswith(b"\x1f\x8b"):
        unpacker = zlib.decompressobj(31)
        try:
            data = unpacker.decompress(data, _CONTENT_BYTES)
        except zlib.error as error:
            raise UnreadableError("damaged", f"{address}: {said(error)}") from error
        if not unpacker.eof and len(data) < _CONTENT_BYTES:
            raise UnreadableError("damaged", f"{address}: the end is missing")
    if len(data) >= _CONTENT_BYTES:
        raise UnreadableError("too-long", f"{address}: at least {_CONTENT_BYTES:,} bytes")
    try:
        return data.decode(encoding).encode() if encoding else data
    except (LookupError, ValueError):
        return data  # the examiner finds out


T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What is made of each item, in order, by eight threads that are at most eight items ahead."""
    pool, waiting = ThreadPoolExecutor(_THREADS), deque[Future[R]]()
    failed: Exception | None = None
    try:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > _THREADS:
                    yield waiting.popleft().result()
        except (OSError, UnreadableError) as error:
            failed = error  # what came before it is good
        while waiting:
            yield waiting.popleft().result()
        if failed is not None:
            raise failed
    finally:
        pool.shutdown(cancel_futures=True)

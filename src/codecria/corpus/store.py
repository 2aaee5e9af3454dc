"""A corpus on disk: Parquet shards by split, a ledger of what was dropped, and a manifest.

corpus/
  train-00000.parquet      columns: the fields of `Document`; zstd
  held_out-00000.parquet   documents of packages that are never trained on
  ledger-00000.parquet     one row per file that is not in the corpus, with the reason; one ledger a build
  samples-00000.parquet    some of the dropped texts, to look at
  manifest.json            counts, recipe, versions, and the SHA-256 of every file above
  timings.json             when it was built and how long each step took; all else is equal when it is built again
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from codecria.common.errors import CodecriaError
from codecria.common.files import sha256_of_file
from codecria.corpus.document import Document
from codecria.corpus.manifest import Manifest, Shard, Split, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DOCUMENT_FIELDS = tuple(field.name for field in fields(Document))
DOCUMENT_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in DOCUMENT_FIELDS])
PART_SCHEMA = DOCUMENT_SCHEMA.append(pa.field("package", pa.string(), nullable=False))
_COPY_FIELDS = [("kept_origin", pa.string()), ("kept_path", pa.string()), ("similarity", pa.float32())]
LEDGER_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("reason", "detail", "kind", "origin", "path")),
        pa.field("size_bytes", pa.int64(), nullable=False),
        *(pa.field(name, kind) for name, kind in _COPY_FIELDS),
    ]
)

_ROW_GROUP_BYTES = 8_000_000
_READ_ROWS = 256
_AGAIN = "build the corpus again"


class TableWriter:
    """Rows into one Parquet file, a row group at a time."""

    def __init__(self, path: Path, schema: Any, compression: str = "zstd") -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression=compression, write_statistics=False)
        self._rows: list[tuple[Any, ...]] = []
        self._held_bytes = 0

    def add(self, row: tuple[Any, ...], size_bytes: int) -> None:
        """Append a row, which takes `size_bytes` bytes, about."""
        self._rows.append(row)
        self._held_bytes += size_bytes
        if self._held_bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = [list(column) for column in zip(*self._rows, strict=True)]
            arrays = [pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows.clear()
        self._held_bytes = 0

    def close(self) -> None:
        """Finish the file."""
        self._flush()
        self._writer.close()


class ShardWriter:
    """Documents into one shard, which takes its name only when it is whole."""

    def __init__(self, aside: Path) -> None:
        self._aside = aside
        self._writer = TableWriter(aside, DOCUMENT_SCHEMA)
        self._documents = self._text_bytes = 0
        self._hashes = hashlib.sha256()

    def add(self, document: Document, size_bytes: int) -> None:
        """Append a document whose text has `size_bytes` bytes."""
        self._writer.add(document_values(document), size_bytes)
        self._documents += 1
        self._text_bytes += size_bytes
        self._hashes.update(f"{document.content_hash}\n".encode())

    def finish(self, path: Path, split: Split) -> Shard:
        """Sync and rename the file; what the manifest says of it."""
        self._writer.close()
        with self._aside.open("rb") as file:
            os.fsync(file.fileno())
        shard = Shard(
            name=path.name,
            split=split,
            documents=self._documents,
            text_bytes=self._text_bytes,
            file_bytes=self._aside.stat().st_size,
            sha256=sha256_of_file(self._aside),
            contents=self._hashes.hexdigest(),
        )
        self._aside.replace(path)
        return shard


class LedgerRow(NamedTuple):
    """A file that is not in the corpus. `kept_…` and `similarity` tell what a copy is a copy of."""

    reason: str
    detail: str
    kind: str
    origin: str
    path: str
    size_bytes: int
    kept_origin: str | None = None
    kept_path: str | None = None
    similarity: float | None = None


class LedgerWriter(TableWriter):
    """The ledger: a row for each file that was examined and is not in the corpus."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, LEDGER_SCHEMA)

    def add_row(self, row: LedgerRow) -> None:
        """Record a dropped file."""
        self.add(row, 200 + len(row.path))


def document_values(document: Document) -> tuple[str, ...]:
    """A document as a row of `DOCUMENT_SCHEMA`."""
    return tuple(getattr(document, name) for name in DOCUMENT_FIELDS)


def iterate_documents(
    folder: Path, split: Split = "train", columns: Sequence[str] | None = None, *, verify: bool = False
) -> Iterator[Document]:
    """The documents of a split, in the order they were written.

    Args:
        folder: a finished corpus.
        split: "train" or "held_out".
        columns: fields to read; the others are empty strings. None reads all.
        verify: compare each shard with its SHA-256 before it is read.

    Raises:
        CodecriaError: a shard is missing or damaged, or a column does not exist.
    """
    chosen = tuple(DOCUMENT_FIELDS if columns is None else columns)
    if unknown := [name for name in chosen if name not in DOCUMENT_FIELDS]:
        raise CodecriaError(f"no column '{unknown[0]}'", where=folder, mend=f"columns: {', '.join(DOCUMENT_FIELDS)}")
    empty: dict[str, Any] = dict.fromkeys(DOCUMENT_FIELDS, "")
    for shard in read_manifest(folder).shards:
        if shard.split == split:
            if verify:
                verify_shard(folder, shard)
            for row in read_rows(folder / shard.name, chosen):
                yield Document(**{**empty, **row})


def verify_shard(folder: Path, shard: Shard) -> None:
    """Raise CodecriaError unless the shard is there and has the bytes the manifest names."""
    _verify(folder / shard.name, shard.sha256, shard.file_bytes)


def verify_corpus(folder: Path) -> Manifest:
    """Check every shard and the ledger against the manifest, and return it.

    Raises:
        CodecriaError: a file is missing or damaged.
    """
    manifest = read_manifest(folder)
    for shard in manifest.shards:
        verify_shard(folder, shard)
    for name, sha256 in (manifest.ledgers | manifest.samples).items():
        _verify(folder / name, sha256)
    return manifest


def iterate_ledger(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of the ledger: reason, detail, kind, origin, path, size_bytes, kept_origin, kept_path, similarity."""
    for name in read_manifest(folder).ledgers:
        yield from read_rows(folder / name, tuple(LEDGER_SCHEMA.names))


def _verify(path: Path, sha256: str, file_bytes: int | None = None) -> None:
    _require(path)
    if sha256_of_file(path) != sha256:
        sizes = f" ({path.stat().st_size:,} bytes; {file_bytes:,} were written)" if file_bytes is not None else ""
        what = f"is damaged: its SHA-256 is not the manifest's{sizes}"
        raise CodecriaError(what, where=path, mend=_AGAIN)


def _require(path: Path) -> None:
    if not path.is_file():
        raise CodecriaError("is missing: the manifest names it", where=path, mend=_AGAIN)


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file as mappings, in order.

    Raises:
        CodecriaError: the file is missing or damaged.
    """
    _require(path)
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_READ_ROWS, columns=list(columns), use_threads=False):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise CodecriaError("is damaged: it cannot be read as Parquet", where=path, mend=_AGAIN) from error

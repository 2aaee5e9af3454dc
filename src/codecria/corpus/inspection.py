"""Looking into a corpus: documents that hold a text or lie under a path, and what was dropped, with its text."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from codecria.corpus.manifest import Split, read_manifest
from codecria.corpus.samples import read_samples
from codecria.corpus.store import iterate_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_COLUMNS = ["text", "kind", "language", "licence", "origin", "path"]


@dataclass(frozen=True)
class Match:
    """A document found. `line` is the number of the first line that holds the text, counted from 1; 0 without one."""

    split: Split
    kind: str
    language: str
    licence: str
    origin: str
    path: str
    line: int
    excerpt: str


def search_documents(folder: Path, text: str | None = None, path: str | None = None) -> Iterator[Match]:
    """Documents that hold `text`, in any case of its letters, and whose origin and path fit the pattern `path`.

    Args:
        folder: a finished corpus.
        text: any text, line ends too.
        path: a pattern with `*` and `?`; without them it may stand anywhere in "origin/path".
    """
    for shard in read_manifest(folder).shards:
        with pq.ParquetFile(folder / shard.name) as file:
            for batch in file.iter_batches(batch_size=1_024, columns=_COLUMNS, use_threads=False):
                found = batch
                if text is not None:
                    found = batch.filter(pc.match_substring(batch["text"], text, ignore_case=True))  # pyright: ignore[reportAttributeAccessIssue]
                for row in found.to_pylist():
                    if _fits(row, path):
                        yield _match(shard.split, row, text)


def _fits(row: dict[str, Any], path: str | None) -> bool:
    if path is None:
        return True
    pattern = path if any(mark in path for mark in "*?[") else f"*{path}*"
    return fnmatch.fnmatch(f"{row['origin']}/{row['path']}", pattern)


def _match(split: Split, row: dict[str, Any], text: str | None) -> Match:
    body: str = row.pop("text")
    at = -1 if text is None else body.lower().find(text.lower())
    start = body.rfind("\n", 0, max(at, 0)) + 1
    stop = body.find("\n", max(at, 0))
    excerpt = body[start : stop if stop >= 0 else None]
    return Match(split=split, line=0 if at < 0 else body.count("\n", 0, at) + 1, excerpt=excerpt[:200], **row)


def search_ledger(folder: Path, reason: str | None = None, path: str | None = None) -> Iterator[dict[str, Any]]:
    """Ledger rows of a reason, whose origin and path fit a pattern as in `search_documents`."""
    return (row for row in iterate_ledger(folder) if _fits(row, path) and reason in (None, row["reason"]))


def dropped_samples(folder: Path) -> list[dict[str, Any]]:
    """The dropped texts that were kept to be looked at, of all builds."""
    return [row for name in read_manifest(folder).samples for row in read_samples(folder / name)]

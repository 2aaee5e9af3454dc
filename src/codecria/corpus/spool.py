"""Accepted documents and their shingles on disk, between the intake and the last pass."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from codecria.corpus.document import Document
from codecria.corpus.near_duplicates import ShingleSets
from codecria.corpus.store import DOCUMENT_FIELDS, ShardWriter, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from codecria.corpus.shingles import Hashes

_SPOOL_SHARD_BYTES = 1_000_000_000


class Spool:
    """Written once in order, then read in order; shingles are read as a memory map."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._texts = ShardWriter(folder, "train", _SPOOL_SHARD_BYTES, "lz4")
        self._shingles_path = folder / "shingles.u64"
        self._shingles = self._shingles_path.open("wb")
        self._counts: list[int] = []
        self.text_bytes = 0

    def add(self, document: Document, size_bytes: int, shingles: Hashes) -> None:
        """Append a document."""
        self._texts.add(document, size_bytes)
        self._shingles.write(shingles.astype("<u8").data)
        self._counts.append(shingles.size)
        self.text_bytes += size_bytes

    def finish(self) -> None:
        """No more documents come."""
        self._texts.close()
        self._shingles.close()

    def shingle_sets(self) -> ShingleSets:
        """The shingles of all documents, in their order."""
        offsets = np.zeros(len(self._counts) + 1, dtype=np.int64)
        np.cumsum(self._counts, out=offsets[1:])
        if offsets[-1] == 0:
            return ShingleSets(np.empty(0, dtype=np.uint64), offsets)
        return ShingleSets(np.memmap(self._shingles_path, dtype="<u8", mode="r"), offsets)

    def documents(self) -> Iterator[Document]:
        """All documents, in their order."""
        for shard in self._texts.shards:
            for row in read_rows(self._folder / shard.name, DOCUMENT_FIELDS):
                yield Document(**row)

    def remove(self) -> None:
        """Delete the spool."""
        shutil.rmtree(self._folder)

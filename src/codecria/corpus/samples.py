"""Dropped texts that are kept to be looked at: a few for each reason, drawn by key, so order does not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from codecria.corpus.decontaminate import Hit

SAMPLES = "samples.parquet"
_SCHEMA = pa.schema(
    [
        pa.field("reason", pa.string(), nullable=False),
        pa.field("draw", pa.float64(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in ("detail", "origin", "path", "text")),
        *(pa.field(f"other_{name}", pa.string()) for name in ("origin", "path", "text")),
        *(pa.field(name, pa.int64()) for name in ("start", "stop")),
    ]
)
_MOST_CHARACTERS = 20_000
_Key = tuple[float, str, str, str]


class Samples:
    """The `most` dropped texts with the smallest draws of each reason."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[str, dict[_Key, dict[str, Any]]] = {}

    def offer(
        self, draw: float, reason: str, detail: str, origin: str, path: str, text: str, hit: Hit | None = None
    ) -> None:
        """Keep this text if its draw is among the smallest. Only its start is kept when it is long."""
        row: dict[str, Any] = {"reason": reason, "draw": draw, "detail": detail, "origin": origin, "path": path}
        shown = 0 if hit is None else max(0, min(hit.start, len(text) - _MOST_CHARACTERS))
        row["text"] = text[shown : shown + _MOST_CHARACTERS]
        if hit is not None:
            row |= {"other_origin": hit.set_name, "other_path": hit.piece, "other_text": hit.piece_text}
            row |= {"start": hit.start - shown, "stop": hit.stop - shown}
        self._keep(row)

    def offer_copy(self, draw: float, row: dict[str, Any]) -> None:
        """Keep a copy beside what was kept for it."""
        self._keep({**row, "draw": draw, "text": row["text"][:_MOST_CHARACTERS]})

    def merge(self, rows: Iterable[dict[str, Any]]) -> None:
        """Samples of another part."""
        for row in rows:
            self._keep(row)

    def _keep(self, row: dict[str, Any]) -> None:
        kept = self._kept.setdefault(row["reason"], {})
        kept[row["draw"], row["origin"], row["path"], row["text"]] = row
        if len(kept) > 2 * self._most:
            self._kept[row["reason"]] = dict(self._smallest(kept))

    def _smallest(self, kept: dict[_Key, dict[str, Any]]) -> list[tuple[_Key, dict[str, Any]]]:
        return sorted(kept.items(), key=lambda item: item[0])[: self._most]

    def rows(self) -> list[dict[str, Any]]:
        """What is kept, by reason, then by draw."""
        return [row for reason in sorted(self._kept) for _, row in self._smallest(self._kept[reason])]

    def write(self, path: Path) -> None:
        """Write what is kept; a file without rows where there is nothing."""
        pq.write_table(pa.Table.from_pylist(self.rows(), _SCHEMA), path, compression="zstd", write_statistics=False)


def read_samples(path: Path) -> list[dict[str, Any]]:
    """Rows of a samples file."""
    return pq.read_table(path).to_pylist()

"""The figures of a corpus as rows, for a table in the terminal or in the HTML report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from codecria.corpus.manifest import Count, Manifest, largest_first

if TYPE_CHECKING:
    from collections.abc import Iterable

Section = Literal["outcome", "dropped", "kind", "language", "licence", "package"]

_MOST_ROWS = 12


@dataclass(frozen=True)
class SummaryRow:
    """One row of the summary.

    Attributes:
        section: the table the row belongs to.
        name: what is counted; "others (17)" gathers the small ones.
        documents: how many.
        size_bytes: their bytes (of dropped files on disk, of documents as UTF-8 text).
        share: of the section's bytes, 0 to 1.
    """

    section: Section
    name: str
    documents: int
    size_bytes: int
    share: float


def corpus_summary(manifest: Manifest) -> list[SummaryRow]:
    """What became of the files, what was dropped and why, and what the corpus holds.

    Kinds, languages, licences and packages are counted over both splits; the largest come first.
    """
    outcome: dict[str, Count] = {
        "train": manifest.splits["train"].total,
        "held out": manifest.splits["held_out"].total,
        "dropped": _sum(manifest.dropped.values()),
        "not taken": manifest.not_taken,
    }
    rows = _rows("outcome", outcome)
    rows += _rows("dropped", manifest.dropped)
    splits = manifest.splits.values()
    rows += _rows("kind", _merged([split.by_kind for split in splits]))
    rows += _rows("language", _merged([split.by_language for split in splits]))
    rows += _rows("licence", _merged([split.by_licence for split in splits]))
    rows += _rows("package", _merged([split.by_package for split in splits]))
    return rows


def _rows(section: Section, counts: dict[str, Count]) -> list[SummaryRow]:
    """The counts that are not zero, the small ones gathered in a last row."""
    filled = {name: count for name, count in counts.items() if count.documents}
    if section != "outcome":
        filled = largest_first(filled)
    names = list(filled)
    if len(names) > _MOST_ROWS:
        small = names[_MOST_ROWS - 1 :]
        others = _sum(filled[name] for name in small)
        filled = {name: filled[name] for name in names[: _MOST_ROWS - 1]} | {f"others ({len(small)})": others}
    total = max(sum(count.size_bytes for count in filled.values()), 1)
    return [
        SummaryRow(section, name, count.documents, count.size_bytes, count.size_bytes / total)
        for name, count in filled.items()
    ]


def _sum(counts: Iterable[Count]) -> Count:
    total = Count()
    for count in counts:
        total = total.plus(count.size_bytes, count.documents)
    return total


def _merged(tables: list[dict[str, Count]]) -> dict[str, Count]:
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: _sum(table[name] for table in tables if name in table) for name in names}

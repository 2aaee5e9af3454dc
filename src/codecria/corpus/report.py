"""The figures of a corpus as rows, for a table in the terminal or in the HTML report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codecria.corpus.manifest import Count, Manifest, largest_first, merge_counts

Section = Literal["outcome", "dropped", "redacted", "kind", "language", "licence", "package"]
SECTIONS: dict[Section, str] = {
    "outcome": "What became of the files",
    "dropped": "Why files were dropped",
    "redacted": "What was replaced",
    "kind": "Kinds",
    "language": "Languages",
    "licence": "Licences",
    "package": "Packages",
}
"""What a page calls them, in its order."""


@dataclass(frozen=True)
class SummaryRow:
    """One row of the summary.

    Attributes:
        section: the table the row belongs to.
        name: what is counted; "others (17)" gathers the small ones.
        documents: how many.
        size_bytes: their bytes (of dropped files on disk, of documents as UTF-8 text).
        share: of the section's bytes, 0 to 1 (of replacements: of their number).
    """

    section: Section
    name: str
    documents: int
    size_bytes: int
    share: float


def corpus_summary(manifest: Manifest, most_rows: int = 12) -> list[SummaryRow]:
    """What became of the files, what was dropped and why, and what the corpus holds.

    Kinds, languages, licences and packages are counted over both splits; the largest come first, and what is
    beyond `most_rows` is gathered in a last row.
    """
    outcome: dict[str, Count] = {
        "train": manifest.splits["train"].total,
        "held out": manifest.splits["held_out"].total,
        "dropped": sum(manifest.dropped.values(), Count()),
        "not taken": manifest.not_taken,
    }
    redacted = {sort: Count(documents=count) for sort, count in manifest.redacted.items()}
    tables = {"outcome": outcome, "dropped": manifest.dropped, "redacted": redacted}
    for section in list(SECTIONS)[len(tables) :]:
        tables[section] = merge_counts(getattr(split, f"by_{section}") for split in manifest.splits.values())
    return [row for section in SECTIONS for row in _rows(section, tables[section], most_rows)]


def _rows(section: Section, counts: dict[str, Count], most_rows: int) -> list[SummaryRow]:
    """The counts that are not zero, the small ones gathered in a last row."""
    filled = {name: count for name, count in counts.items() if count.documents}
    if section != "outcome":
        filled = largest_first(filled)
    names = list(filled)
    if len(names) > most_rows:
        small = names[most_rows - 1 :]
        others = sum((filled[name] for name in small), Count())
        filled = {name: filled[name] for name in names[: most_rows - 1]} | {f"others ({len(small)})": others}
    # Replacements have no size: their shares are of their number.
    weights = {name: count.size_bytes if section != "redacted" else count.documents for name, count in filled.items()}
    total = max(sum(weights.values()), 1)
    return [
        SummaryRow(section, name, count.documents, count.size_bytes, weights[name] / total)
        for name, count in filled.items()
    ]

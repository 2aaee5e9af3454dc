"""What `codecria corpus inspect` prints."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from codecria.corpus.inspection import dropped_samples, search_documents, search_ledger
from codecria.corpus.page import side_by_side
from codecria.corpus.report import corpus_summary

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.corpus.manifest import Manifest

_COPIES_SHOWN = 3


def show_summary(manifest: Manifest) -> None:
    """The figures of the manifest."""
    table = Table("", "", "texts", "MB", "share", box=None, pad_edge=False, header_style="bold")
    for column in table.columns[2:]:
        column.justify = "right"
    section = ""
    for row in corpus_summary(manifest):
        first = row.section if row.section != section else ""
        section = row.section
        table.add_row(first, row.name, f"{row.documents:,}", f"{row.size_bytes / 1e6:.1f}", f"{100 * row.share:.0f} %")
    Console().print(table)


def show_matches(corpus: Path, text: str | None, path: str | None, most: int) -> None:
    """Documents found, a line each."""
    found = search_documents(corpus, text, path)
    console = Console(soft_wrap=True)
    for one in itertools.islice(found, most):
        line = f":{one.line}" if one.line else ""
        facts = f"{one.language}, {one.licence}, {one.split}"
        console.print(f"[bold]{escape(one.origin)}[/]: {escape(one.path)}{line}  [dim]{facts}[/]")
        if text is not None:
            console.print(f"    {escape(one.excerpt.strip())}", highlight=False)
    if next(found, None) is not None:
        console.print(f"[dim]and more: --most {10 * most} shows them[/]")


def show_dropped(corpus: Path, reason: str | None, path: str | None, most: int) -> None:
    """Rows of the ledger."""
    found = search_ledger(corpus, reason, path)
    console = Console(soft_wrap=True)
    for row in itertools.islice(found, most):
        console.print(
            f"[bold]{row['reason']}[/] {escape(row['origin'])}: {escape(row['path'])}  [dim]{escape(row['detail'])}[/]"
        )
    if next(found, None) is not None:
        console.print(f"[dim]and more: --most {10 * most} shows them[/]")


def show_copies(corpus: Path, path: str | None, most: int) -> None:
    """Near copies beside what was kept for them, a few lines of each."""
    rows = [row for row in dropped_samples(corpus) if row["reason"] == "near-copy"]
    chosen = [row for row in rows if path is None or path in f"{row['origin']}/{row['path']}"]
    for row in chosen[: min(most, _COPIES_SHOWN)]:
        table = Table(
            f"kept: {row['other_origin']}: {row['other_path']}",
            f"dropped: {row['origin']}: {row['path']}",
            title=f"{row['detail']}",
            expand=True,
        )
        for tag, left, right in side_by_side(row)[:most]:
            style = "" if tag == "same" else "bold yellow"
            table.add_row(escape(left), escape(right), style=style)
        Console().print(table)

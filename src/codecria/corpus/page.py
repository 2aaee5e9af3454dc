"""A corpus as one HTML page that opens offline: what it holds, what was dropped and why, copies side by side."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from markupsafe import Markup
from matplotlib.ticker import StrMethodFormatter

from codecria.common.files import write_atomic
from codecria.common.pages import COLOURS, new_figure, render_page, svg_of, themed
from codecria.corpus.inspection import dropped_samples
from codecria.corpus.manifest import Manifest, read_manifest
from codecria.corpus.report import SECTIONS, corpus_summary
from codecria.corpus.store import iterate_ledger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


_SHOWN_ROWS = 30
_SHOWN_COPIES = 12
_SHOWN_STARS = 15
_SHOWN_SAMPLES = 8
_SHOWN_LINES = 60


def write_corpus_page(folder: Path, path: Path) -> None:
    """Draw the page of a finished corpus."""
    manifest = read_manifest(folder)
    sections: dict[str, list[Any]] = {}
    for row in corpus_summary(manifest, _SHOWN_ROWS):
        sections.setdefault(row.section, []).append(row)
    samples = dropped_samples(folder)
    similarities, stars = _copies(folder)
    page = render_page(
        "codecria.corpus",
        "page.html",
        name=folder.resolve().name,
        manifest=manifest,
        sections=sections,
        section_names=SECTIONS,
        sizes=Markup(_size_plot(folder, manifest)),
        similarities=Markup(_similarity_plot(similarities)),
        copies=[{**row, "lines": side_by_side(row)} for row in samples if row["reason"] == "near-copy"][:_SHOWN_COPIES],
        stars=stars,
        hits=[_hit(row) for row in samples if row["reason"] == "contaminated"],
        samples=_by_reason(samples),
    )
    write_atomic(path, page)


def _copies(folder: Path) -> tuple[list[float], list[dict[str, Any]]]:
    """Similarities of near copies, and the kept documents for which most were dropped."""
    similarities: list[float] = []
    counts: Counter[tuple[str, str]] = Counter()
    members: dict[tuple[str, str], list[str]] = {}
    for row in iterate_ledger(folder):
        if row["kept_path"] is None:
            continue
        if row["reason"] == "near-copy":
            similarities.append(row["similarity"])
        kept = row["kept_origin"], row["kept_path"]
        counts[kept] += 1
        some = members.setdefault(kept, [])
        if len(some) < _SHOWN_SAMPLES:
            some.append(f"{row['origin']}: {row['path']} ({row['similarity']:.2f})")
    stars = [
        {"origin": kept[0], "path": kept[1], "count": count, "members": members[kept]}
        for kept, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_STARS]
    ]
    return similarities, stars


def _size_plot(folder: Path, manifest: Manifest) -> str:
    """Bytes of text by size of the document: where the corpus's mass lies."""
    sizes: list[int] = []
    for shard in manifest.shards:
        with pq.ParquetFile(folder / shard.name) as file:
            for batch in file.iter_batches(columns=["text"], use_threads=False):
                sizes += [len(text.as_py()) for text in batch["text"]]
    edges = np.geomspace(100, 2_000_000, 44)
    return _histogram(np.array(sizes), edges, np.array(sizes) / 1e6, "characters of a document", "MB")


def _similarity_plot(similarities: Sequence[float]) -> str:
    values = np.array(similarities, dtype=np.float64)
    if not values.size:
        return ""
    low = min(0.7, float(values.min()))
    return _histogram(values, np.linspace(low, 1.0, 31), None, "similarity to the kept document", "near copies")


def _histogram(values: Any, edges: Any, weights: Any, x_label: str, y_label: str) -> str:
    with themed(x_label):
        figure, axes = new_figure(7.0, 2.6)
        axes.hist(values, bins=edges, weights=weights, color=COLOURS["accent"], rwidth=0.92)
        if edges[-1] > 1:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        return svg_of(figure, f"{y_label} by {x_label}")


def side_by_side(row: dict[str, Any]) -> list[tuple[str, str, str]]:
    """A dropped copy and what was kept for it, line beside line; equal stretches are folded to three lines."""
    left, right = (row["other_text"] or "").split("\n"), row["text"].split("\n")
    lines: list[tuple[str, str, str]] = []
    for tag, start, stop, other, until in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag == "equal":
            same = list(zip(left[start:stop], right[other:until], strict=True))
            if len(same) > 7:
                same = [*same[:3], (f"… {len(same) - 6} equal lines …", ""), *same[-3:]]
            lines += [("same", one, two) for one, two in same]
        else:
            count = max(stop - start, until - other)
            ones = left[start:stop] + [""] * (count - (stop - start))
            twos = right[other:until] + [""] * (count - (until - other))
            lines += [("differ", one, two) for one, two in zip(ones, twos, strict=True)]
        if len(lines) > _SHOWN_LINES:
            break
    return lines[:_SHOWN_LINES]


def _hit(row: dict[str, Any]) -> dict[str, Any]:
    """The passage of a document that is evaluation material, marked."""
    text, start, stop = row["text"], row["start"], row["stop"]
    before = text[max(0, start - 300) : start]
    passage, after = text[start : min(stop, start + 2_000)], text[stop : stop + 200]
    return {**row, "marked": Markup("{}<mark>{}</mark>{}").format(before, passage, after)}


def _by_reason(samples: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    by_reason: dict[str, list[dict[str, Any]]] = {}
    for row in samples:
        if row["reason"] not in ("near-copy", "contaminated"):
            by_reason.setdefault(row["reason"], []).append({**row, "text": row["text"][:1_500]})
    return {reason: rows[:_SHOWN_SAMPLES] for reason, rows in by_reason.items()}

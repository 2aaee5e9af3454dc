"""One page with everything a run shows: a single HTML file that opens offline, on a phone, in light and in dark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from codecria.common.files import write_atomic
from codecria.common.pages import render_page
from codecria.corpus.report import SECTIONS, SummaryRow
from codecria.evaluation.plots import loss_curve
from codecria.evaluation.tasks.registry import find_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from codecria.evaluation.comparison import Table

_METHODS = {
    "psm": "infilling, prefix first",
    "spm": "infilling, suffix first",
    "left_to_right": "left to right",
    "greedy": "greedy",
    "windows": "every token scored once",
}


@dataclass(frozen=True)
class InfillExample:
    """A line as the model filled it, with what stood around it. `figures` are names and values beside it."""

    title: str
    prefix: str
    generated: str
    truth: str
    suffix: str
    figures: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Report:
    """Everything the page shows. Empty parts are left out of it.

    Attributes:
        title, lead: the heading, and a sentence under it.
        tables: results, from `comparison.compare`.
        loss: lines of training's `metrics.jsonl`: `step`, `loss`, `tokens`.
        corpus: what was kept and what was dropped, from `corpus.report.corpus_summary`.
        examples: infilled lines; `examples_note` says how they were chosen.
        environment: versions, machine, seed.
        commands: exact command lines.
    """

    title: str
    lead: str = ""
    tables: Sequence[Table] = ()
    loss: Sequence[Mapping[str, Any]] = ()
    corpus: Sequence[SummaryRow] = ()
    examples: Sequence[InfillExample] = ()
    examples_note: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    commands: Sequence[str] = ()


def render_report(report: Report) -> str:
    """The page as HTML. Every text is escaped; the only markup taken as it is is the plot's own."""
    measures = {row.measure.name: row.measure for table in report.tables for row in table.rows}
    return render_page(
        "codecria.evaluation",
        "report_page.html",
        report=report,
        measures=list(measures.values()),
        task_name=_task_name,
        method_name=_method_name,
        curve=Markup(loss_curve(report.loss, 11.0)),
        narrow_curve=Markup(loss_curve(report.loss, 5.0)),
        corpus=_by_section(report.corpus),
        section_name=SECTIONS.__getitem__,
    )


def write_report(path: Path, report: Report) -> None:
    """Write the page to a file, atomically."""
    write_atomic(path, render_report(report))


def _task_name(task: str) -> str:
    return find_task(task).titles.get(task, task)


def _method_name(method: str) -> str:
    return _METHODS.get(method, method)


def _by_section(rows: Sequence[SummaryRow]) -> list[tuple[str, list[SummaryRow]]]:
    sections = dict.fromkeys(row.section for row in rows)
    return [(section, [row for row in rows if row.section == section]) for section in sections]

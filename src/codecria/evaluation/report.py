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
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from codecria.evaluation.comparison import Table

_METHODS = {
    "psm": "infilling, prefix first",
    "spm": "infilling, suffix first",
    "left_to_right": "left to right",
    "greedy": "greedy",
    "windows": "every token scored once",
    "whole": "read from the start",
    "cross_file": "with other files' definitions",
    "file_alone": "the file alone",
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
class ProgramExample:
    """A program as the model wrote it behind its prompt, and what the sandbox found."""

    title: str
    prompt: str
    output: str
    status: str
    detail: str


@dataclass(frozen=True)
class Notes:
    """What stands under a task's table.

    Attributes:
        protocols: names of runs, and the protocol they followed, as words by heading.
        lines: sentences: data and their licences, contamination, time.
        plot: draws a figure of the task for a width in inches; None for none.
        programs: some that passed and some that failed.
    """

    protocols: Sequence[tuple[str, Mapping[str, str]]] = ()
    lines: Sequence[str] = ()
    plot: Callable[[float], str] | None = None
    programs: Sequence[ProgramExample] = ()


@dataclass(frozen=True)
class Overview:
    """A line of the first table: a task's headline figure, run by run. `figures` are pairs: a figure, its interval."""

    title: str
    protocol: str
    measure: str
    figures: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Report:
    """Everything the page shows. Empty parts are left out of it.

    Attributes:
        title, lead: the heading, and a sentence under it.
        overview: a line a task; `runs` are the columns' names.
        tables: results, from `comparison.compare`.
        notes: by the tables' `task`.
        loss: lines of training's `metrics.jsonl`: `step`, `loss`, `tokens`.
        corpus: what was kept and what was dropped, from `corpus.report.corpus_summary`.
        examples: infilled lines; `examples_note` says how they were chosen.
        environment: versions, machine, seed.
        commands: exact command lines.
    """

    title: str
    lead: str = ""
    runs: Sequence[str] = ()
    overview: Sequence[Overview] = ()
    tables: Sequence[Table] = ()
    notes: Mapping[str, Notes] = field(default_factory=dict[str, Notes])
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
        plots={task: _drawn(notes.plot) for task, notes in report.notes.items()},
        show_p=show_p,
        curve=Markup(loss_curve(report.loss, 11.0)),
        narrow_curve=Markup(loss_curve(report.loss, 5.0)),
        corpus=_by_section(report.corpus),
        section_name=SECTIONS.__getitem__,
    )


def write_report(path: Path, report: Report) -> None:
    """Write the page to a file, atomically."""
    write_atomic(path, render_report(report))


def show_p(p: float) -> str:
    """A chance as the page prints it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _drawn(plot: Callable[[float], str] | None) -> tuple[Markup, Markup]:
    """A figure for wide pages and one for narrow ones."""
    return (Markup(plot(11.0)), Markup(plot(5.0))) if plot is not None else (Markup(), Markup())


def _task_name(task: str) -> str:
    return find_task(task).titles.get(task, task)


def _method_name(method: str) -> str:
    return _METHODS.get(method, method)


def _by_section(rows: Sequence[SummaryRow]) -> list[tuple[str, list[SummaryRow]]]:
    sections = dict.fromkeys(row.section for row in rows)
    return [(section, [row for row in rows if row.section == section]) for section in sections]

"""A finished pipeline as one page, as a table in the terminal, and as infills shown in their context."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table as TerminalTable

from codecria.corpus.report import corpus_summary
from codecria.corpus.store import read_manifest
from codecria.evaluation.comparison import Run, compare
from codecria.evaluation.examples import NOTE, choose_examples
from codecria.evaluation.report import Report, write_report
from codecria.evaluation.run import environment, read_run
from codecria.training.metrics import read_metrics

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.evaluation.comparison import Cell, Row, Table
    from codecria.evaluation.report import InfillExample
    from codecria.pipeline.run import Finished

BEFORE, AFTER = "before", "after"
_METHODS = {"psm": "infill, PSM", "spm": "infill, SPM", "left_to_right": "left to right"}


def tables(finished: Finished) -> list[Table]:
    """Before against after, a table a task; empty when nothing was measured."""
    if finished.before is None or finished.after is None:
        return []
    parts = {BEFORE: finished.before, AFTER: finished.after, **finished.beside}
    runs = [Run(label, read_run(path)[1]) for label, path in parts.items()]
    return compare(runs, finished.recipe.seed)


def examples(finished: Finished) -> list[InfillExample]:
    """Three infilled lines after the last stage; how they are chosen stands in `evaluation.examples`."""
    if finished.after is None:
        return []
    samples = [sample for sample in read_run(finished.after)[1] if sample.task.startswith("single_line_")]
    methods = [sample.method for sample in samples if sample.method != "left_to_right"]
    return choose_examples(samples, methods[0], finished.recipe.seed) if methods else []


def write_page(finished: Finished, commands: list[str]) -> Path:
    """Write `report.html` into the pipeline's folder."""
    loss = [line for path in finished.metrics for line in read_metrics(path) if "loss" in line]
    stages = ", ".join(f"{stage.name} ({stage.steps} steps)" for stage in finished.recipe.stages)
    tokens = sum(read_metrics(path)[-1]["tokens"] for path in finished.metrics)
    measured = environment(read_run(finished.after)[0]) if finished.after else {}
    report = Report(
        title=finished.recipe.title,
        lead=f"{finished.recipe.foundation} through {stages}: {tokens:,} training tokens.",
        tables=tables(finished),
        loss=loss,
        corpus=corpus_summary(read_manifest(finished.corpus)),
        examples=examples(finished),
        examples_note=NOTE,
        environment={**measured, "system": platform.platform(), "cores": str(len(os.sched_getaffinity(0)))},
        commands=commands,
    )
    page = finished.folder / "report.html"
    write_report(page, report)
    return page


def terminal_table(table: Table) -> TerminalTable:
    """One task's results for a terminal: a column a model and method, with the change against the first column."""
    shown = TerminalTable(title=f"{table.task} · {table.items} items", title_justify="left", box=None, pad_edge=False)
    shown.add_column("")
    for column in table.columns:
        shown.add_column(f"{column.label}\n{_METHODS.get(column.method, column.method)}", justify="right")
    for row in table.rows:
        shown.add_row(row.measure.title, *[_cell(row, cell) for cell in row.cells])
    return shown


def _cell(row: Row, cell: Cell) -> str:
    if cell.estimate is None:
        return "not run"
    figure = row.measure.show(cell.estimate.value)
    colour = {"better": "green", "worse": "red", "same": ""}[row.verdict(cell)]
    return f"[{colour}]{figure}[/{colour}]" if colour else figure


def terminal_example(example: InfillExample, lines: int = 6) -> str:
    """An infill in its context, the middle in reverse, the truth below when it differs."""
    prefix = "\n".join(example.prefix.split("\n")[-lines:])
    suffix = "\n".join(example.suffix.split("\n")[:lines])
    text = f"[dim]{escape(prefix)}[/dim][reverse]{escape(example.generated)}[/reverse][dim]{escape(suffix)}[/dim]"
    verdict = "the true line" if example.generated.rstrip() == example.truth.rstrip() else "the true line was"
    truth = "" if verdict == "the true line" else f" [green]{escape(example.truth.strip())}[/green]"
    return f"[bold]{escape(example.title)}[/bold]\n{text}\n[italic]{verdict}[/italic]{truth}"

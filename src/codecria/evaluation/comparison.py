"""Runs side by side: for each task a table of measures, every cell with its change against the first column."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codecria.evaluation.intervals import Estimate, difference_interval, mean_interval
from codecria.evaluation.measures import SHOWN_CHANGE, Measure, find_measure
from codecria.evaluation.samples import Sample, columns, coverage
from codecria.evaluation.significance import sign_test

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Run:
    """One evaluated model: a label for the report, and its samples."""

    label: str
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Column:
    """A model asked in one way."""

    label: str
    method: str


@dataclass(frozen=True)
class Cell:
    """A figure with its interval, and the reason there is none or how few items it covers; and its paired change
    against the first column.

    `change` covers the items that both columns have. None in the first column and where there is nothing to pair. `p`
    is the exact sign test's, where items are counted: each has 0 or 1, or a pass@k.
    """

    estimate: Estimate | None
    change: Estimate | None
    reason: str = ""
    p: float | None = None


@dataclass(frozen=True)
class Row:
    """One measure over the columns."""

    measure: Measure
    cells: list[Cell]

    def verdict(self, cell: Cell) -> str:
        """`better`, `worse`, or `same` when the change's interval holds 0, it would be shown as 0, or neither is."""
        if cell.change is None or not cell.change.excludes_zero() or abs(cell.change.value) < SHOWN_CHANGE:
            return "same"
        if self.measure.better == "neither":
            return "same"
        return "better" if (cell.change.value > 0) == (self.measure.better == "higher") else "worse"


@dataclass(frozen=True)
class Table:
    """One task: columns in the order of the runs, rows in the order of the measures.

    `missing` holds the columns that have no figure at all, each with the reason; they stand in the table only when
    none has one.
    """

    task: str
    items: int
    columns: list[Column]
    rows: list[Row]
    missing: list[tuple[Column, str]]


def compare(runs: Sequence[Run], seed: int) -> list[Table]:
    """One table a task, in order of first appearance. Changes are against the first column that has figures."""
    tasks = list(dict.fromkeys(sample.task for run in runs for sample in run.samples))
    return [_table(task, runs, seed) for task in tasks]


def _table(task: str, runs: Sequence[Run], seed: int) -> Table:
    groups: dict[Column, dict[str, Sample]] = {}
    for run in runs:
        for sample in run.samples:
            if sample.task == task:
                groups.setdefault(Column(run.label, sample.method), {})[sample.id] = sample
    samples = [sample for rows in groups.values() for sample in rows.values()]
    names = list(dict.fromkeys(name for sample in samples for name in (*sample.measures, *sample.not_run)))
    missing = {
        column: "; ".join(dict.fromkeys(reason for sample in rows.values() for reason in sample.not_run.values()))
        for column, rows in groups.items()
        if not any(sample.measures for sample in rows.values())
    }
    if len(missing) == len(groups):
        missing = {}
    shown = {column: rows for column, rows in groups.items() if column not in missing}
    first = next(iter(shown.values()))
    rows = [
        Row(find_measure(name), [_cell(name, task, group, first, seed) for group in shown.values()]) for name in names
    ]
    return Table(task, len({sample.id for sample in samples}), list(shown), rows, list(missing.items()))


def _cell(name: str, task: str, group: dict[str, Sample], first: dict[str, Sample], seed: int) -> Cell:
    having = {id: sample for id, sample in group.items() if name in sample.measures}
    reasons = Counter(sample.not_run[name] for sample in group.values() if name in sample.not_run)
    if not having:
        return Cell(None, None, "; ".join(reasons))
    reason = coverage(len(having), len(group), reasons) if len(having) < len(group) else ""
    estimate = mean_interval(*columns(having.values(), name), seed, task, name)
    paired = [id for id in having if id in first and name in first[id].measures]
    if group is first or not paired:
        return Cell(estimate, None, reason)
    after = columns([having[id] for id in paired], name)
    before = columns([first[id] for id in paired], name)
    counted = name.startswith("pass@") or {*after[0], *before[0]} <= {0.0, 1.0}
    p = sign_test(after[0], before[0]) if counted else None
    return Cell(estimate, difference_interval(after, before, seed, task, name), reason, p)

"""Which infilled lines the report shows: one that is right, one that is near and one that is not, drawn by key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from codecria.common.random import digest
from codecria.evaluation.measures import find_measure
from codecria.evaluation.report import InfillExample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.evaluation.samples import Sample

NOTE = "One exact line, one of the nearer half of the others and one of the further half, each drawn by key."
_PUBLISHED = re.compile(r"SingleLineInfilling/(HumanEval/\d+)/L(\d+)")


def choose_examples(samples: Sequence[Sample], method: str, seed: int) -> list[InfillExample]:
    """Up to three lines of one method's samples. `NOTE` says how, for the page.

    Fewer where a part is empty: a model that writes every line exactly has nothing near, one that writes none no exact.
    """
    rows = [sample for sample in samples if sample.method == method and sample.context and sample.outputs]
    rows.sort(key=lambda sample: digest("example", seed, sample.task, sample.id))
    exact = [row for row in rows if row.measures["exact_match"]]
    others = sorted(
        (row for row in rows if not row.measures["exact_match"]), key=lambda row: -row.measures["edit_similarity"]
    )
    half = (len(others) + 1) // 2
    parts = (exact, _in_order(rows, others[:half]), _in_order(rows, others[half:]))
    return [_example(part[0]) for part in parts if part]


def _in_order(rows: Sequence[Sample], chosen: Sequence[Sample]) -> list[Sample]:
    names = {(row.task, row.id) for row in chosen}
    return [row for row in rows if (row.task, row.id) in names]


def _example(row: Sample) -> InfillExample:
    figures = [("exact match", "yes" if row.measures["exact_match"] else "no")]
    if row.verdicts:
        figures.append(("tests", row.verdicts[0]["status"]))
    # An endpoint scores no given text, so its rows have no bits.
    for measure in map(find_measure, ("edit_similarity", "bits_per_character")):
        if measure.name in row.measures:
            figures.append((measure.title, measure.show(row.measures[measure.name])))
    if not row.measures["ended"]:
        figures.append(("ended", "by the limit of tokens"))
    context = row.context
    return InfillExample(_title(row), context["prefix"], row.outputs[0], context["truth"], context["suffix"], figures)


def _title(row: Sample) -> str:
    published = _PUBLISHED.fullmatch(row.id)
    if published:
        return f"{published[1]}, line {int(published[2]) + 1} of the solution"
    file, _, number = row.id.partition("/L")
    return f"Held-out file {file}, line {int(number) + 1}"

"""One row an item: what was asked, what came out, how it was judged. And the sums of the rows."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError
from codecria.common.files import read_bytes
from codecria.evaluation.intervals import Estimate, mean_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """The result of one item under one method.

    Attributes:
        task: `human_eval`, `single_line/human_eval`, `perplexity/code`, …
        method: how the model was asked: `psm`, `spm`, `left_to_right`, `greedy`, `sampled`, `windows`.
        id: the item's name within the task; the same for every model and method, so that results can be paired.
        prompt_sha256: of the prompt's ids, each as 4 bytes, little end first; "" where there was no prompt.
        outputs: generated texts.
        near_ties: one an output: at how many steps the two best scores were so near that another batch could choose
            otherwise.
        verdicts: one an output that was run: `status` and `detail`.
        measures: the item's figures by measure.
        weights: what a measure's figure is weighed by in the mean; 1 where absent.
        not_run: measures that have no figure, each with the reason.
        context: the end of the prefix, the truth and the start of the suffix, for showing.
    """

    task: str
    method: str
    id: str
    prompt_sha256: str = ""
    outputs: list[str] = field(default_factory=list[str])
    near_ties: list[int] = field(default_factory=list[int])
    verdicts: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    measures: dict[str, float] = field(default_factory=dict[str, float])
    weights: dict[str, float] = field(default_factory=dict[str, float])
    not_run: dict[str, str] = field(default_factory=dict[str, str])
    context: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Summary:
    """The figures of one task under one method.

    `not_run` gives for each measure the reasons and how many items each kept from a figure; `near_ties` counts the
    outputs with a step at which another batch could have chosen another token.
    """

    task: str
    method: str
    items: int
    near_ties: int
    measures: dict[str, Estimate]
    not_run: dict[str, dict[str, int]]


def to_jsonl(samples: Iterable[Sample]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in samples)


def read_samples(path: Path) -> list[Sample]:
    """Read what `to_jsonl` wrote.

    Raises:
        CodecriaError: no file, or a line that is no sample.
    """
    samples: list[Sample] = []
    for number, line in enumerate(read_bytes(path).decode().split("\n"), start=1):
        try:
            samples += [Sample(**json.loads(line))] if line else []
        except (ValueError, TypeError) as error:
            mend = "remove the file and run the evaluation again"
            raise CodecriaError("not a sample's row", where=f"{path}:{number}", mend=mend) from error
    return samples


def summarise(samples: Sequence[Sample], seed: int) -> list[Summary]:
    """Means with their intervals for each task and method, in order of first appearance."""
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.task, sample.method), []).append(sample)
    return [_summary(task, method, rows, seed) for (task, method), rows in groups.items()]


def columns(rows: Iterable[Sample], measure: str) -> tuple[list[float], list[float]]:
    """A measure's values and weights over the rows that have it."""
    having = [row for row in rows if measure in row.measures]
    return [row.measures[measure] for row in having], [row.weights.get(measure, 1.0) for row in having]


def coverage(items: int, rows: int, reasons: Mapping[str, int]) -> str:
    """How many of the rows a figure covers, and why not the others: `10 of 100 items, not run: …`.

    Args:
        items: behind the figure.
        rows: that were asked.
        reasons: how many rows each kept from a figure; the two that kept most are named.
    """
    if items >= rows:
        return f"{items:,} items"
    told = sorted(reasons, key=lambda reason: -reasons[reason])
    shown = "; ".join([*told[:2], *(["…"] if told[2:] else [])])
    return f"{items:,} of {rows:,} items{f', not run: {shown}' if shown else ''}"


def _summary(task: str, method: str, rows: list[Sample], seed: int) -> Summary:
    names = list(dict.fromkeys(name for row in rows for name in row.measures))
    # The key holds no method: two methods resample the same items.
    measures = {name: mean_interval(*columns(rows, name), seed, task, name) for name in names}
    reasons: dict[str, Counter[str]] = {}
    for row in rows:
        for name, reason in row.not_run.items():
            reasons.setdefault(name, Counter())[reason] += 1
    near_ties = sum(steps > 0 for row in rows for steps in row.near_ties)
    not_run = {name: dict(count) for name, count in reasons.items()}
    return Summary(task, method, len(rows), near_ties, measures, not_run)

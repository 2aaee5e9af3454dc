"""Texts that are written and measured one by one, without being run."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 a dataclass's types
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from codecria.evaluation.samples import Sample
from codecria.evaluation.task import Group, in_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from codecria.evaluation.judge import Judge
    from codecria.evaluation.subject import Asked, Subject
    from codecria.generation.sequence import Completion


@dataclass(frozen=True)
class TextItem:
    """A text to be written.

    Attributes:
        id: names it within the task.
        asked: the prompt with all its options; one sample is drawn.
        measure: the figures of what was written.
        context: for showing, with the sample.
    """

    id: str
    asked: Asked
    measure: Callable[[Completion], dict[str, float]]
    context: Mapping[str, str] = field(default_factory=dict[str, str])


def text_groups(
    task: str, method: str, items: Sequence[TextItem], measures: Sequence[str], group_items: int
) -> list[Group]:
    """Groups of items under one method.

    Args:
        task: the rows' `task`.
        method: the rows' `method`.
        items: what is written.
        measures: names that `measure` gives, for the rows of items that this model cannot be asked.
        group_items: items of a group, the unit of resuming.
    """
    run = partial(run_texts, task=task, method=method, measures=measures)
    return in_groups(f"{task}-{method}", items, group_items, run)


def run_texts(
    subject: Subject, _judge: Judge, task: str, method: str, items: Sequence[TextItem], measures: Sequence[str]
) -> list[Sample]:
    """Write and measure: a sample an item, in order."""
    reasons = [subject.reason_against(item.asked) for item in items]
    fitting = [place for place, reason in enumerate(reasons) if not reason]
    written = dict(zip(fitting, subject.write([items[place].asked for place in fitting]), strict=True))
    rows: list[Sample] = []
    for place, item in enumerate(items):
        if place not in written:
            rows.append(Sample(task, method, item.id, not_run=dict.fromkeys(measures, reasons[place])))
            continue
        (completion,) = written[place]
        rows.append(
            Sample(
                task,
                method,
                item.id,
                subject.prompt_sha256(item.asked),
                [completion.text],
                [len(completion.near_ties)],
                measures=item.measure(completion),
                context=dict(item.context),
            )
        )
    return rows

"""What tests of tasks share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codecria.evaluation.samples import Sample
    from codecria.evaluation.task import Rows


def finished(rows: Rows) -> list[Sample]:
    """A group's samples, its verdicts awaited."""
    return rows if isinstance(rows, list) else rows()

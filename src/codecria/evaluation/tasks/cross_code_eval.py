"""CrossCodeEval (Ding et al. 2023), read only: no task runs it yet.

The published files are JSONL of `prompt`, `groundtruth`, `right_context`, `metadata` (`task_id`, `repository`, `file`,
line numbers), and where other files were retrieved `crossfile_context` (`text`, `list` of `retrieved_chunk`,
`filename`, `score`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from codecria.evaluation.data import complete_rows
from codecria.evaluation.tasks.lines import Line

if TYPE_CHECKING:
    from pathlib import Path

_FIELDS = ("prompt", "groundtruth", "right_context", "metadata")


class CrossFileLine(NamedTuple):
    """A statement to fill, its file's repository, and (path, text) of parts of other files, best first."""

    line: Line
    repository: str
    others: list[tuple[str, str]]


def read_cross_file_lines(path: Path) -> list[CrossFileLine]:
    """The statements of a published file, in its order.

    Raises:
        CodecriaError: no such file, or a row that is not of this form.
    """
    lines: list[CrossFileLine] = []
    for _, row in complete_rows(path, _FIELDS, "line"):
        told, found = row["metadata"], (row.get("crossfile_context") or {}).get("list") or []
        line = Line(told["task_id"], row["prompt"], row["groundtruth"], row["right_context"])
        others = [(each["filename"], each["retrieved_chunk"]) for each in found]
        lines.append(CrossFileLine(line, told["repository"], others))
    return lines

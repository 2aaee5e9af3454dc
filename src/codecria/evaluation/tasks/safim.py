"""SAFIM (Gong et al. 2024), read only: no task runs it yet.

The published files are JSONL of `lang`, `prompt`, `eval_prompt` (both with `{{completion}}` in the hole's place),
`ground_truth`, `unit_tests` (JSON, or "" in the API part), `task_id`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from codecria.common.errors import CodecriaError
from codecria.evaluation.data import DataFile, complete_rows

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    part: DataFile(
        f"safim/{part}_completion.jsonl.gz",
        f"SAFIM, {part}",
        "CC-BY-4.0, with a link to the problem's page",
        hub=("gonglinyuan/safim", f"{part}_completion.jsonl.gz"),
    )
    for part in ("block", "control", "api")
}
_HOLE = "{{completion}}"
_FIELDS = ("lang", "eval_prompt", "ground_truth", "task_id")


class SafimHole(NamedTuple):
    """A hole in a program: what stands around it, what stood in it, and its tests ({`input`, `output`}), if any."""

    id: str
    language: str
    prefix: str
    suffix: str
    truth: str
    tests: list[dict[str, Any]]


def read_holes(path: Path) -> list[SafimHole]:
    """The holes of a published file, in its order.

    Raises:
        CodecriaError: no such file, or a row that is not of this form.
    """
    holes: list[SafimHole] = []
    for where, row in complete_rows(path, _FIELDS, "hole"):
        if row["eval_prompt"].count(_HOLE) != 1:
            raise CodecriaError(f"not one {_HOLE} in 'eval_prompt'", where=where)
        prefix, suffix = row["eval_prompt"].split(_HOLE)
        tests: Any = row.get("unit_tests") or []
        tests = json.loads(tests) if isinstance(tests, str) else tests
        holes.append(SafimHole(row["task_id"], row["lang"], prefix, suffix, row["ground_truth"], tests))
    return holes

"""HumanEval's 164 problems, and whatever else has their form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codecria.evaluation.data import Data, DataFile, complete_rows

if TYPE_CHECKING:
    from pathlib import Path

HUMAN_EVAL = DataFile(
    "human_eval/HumanEval.jsonl.gz",
    "HumanEval",
    "MIT",
    ("b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",),
    package=("human_eval", "data/HumanEval.jsonl.gz"),
)
_FIELDS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")


@dataclass(frozen=True)
class Problem:
    """One problem: after `prompt + canonical_solution`, the function `check` of `test` accepts `entry_point`."""

    task_id: str
    prompt: str
    canonical_solution: str
    test: str
    entry_point: str


def load_problems(path: Path | None = None) -> list[Problem]:
    """The problems in the file's order, texts unstripped.

    Args:
        path: JSONL (also `.gz`), JSON or Parquet of the published form; by default HumanEval as it is found.

    Raises:
        CodecriaError: no file, or a row that is not a problem.
    """
    path = Data().find(HUMAN_EVAL).path if path is None else path
    return [Problem(*(row[field] for field in _FIELDS)) for _, row in complete_rows(path, _FIELDS, "problem")]

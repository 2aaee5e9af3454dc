"""HumanEval+: HumanEval's problems against about 80 times as many inputs (Liu et al. 2023)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from codecria.corpus.evaluation_sets import read_rows
from codecria.evaluation.data import DataFile, check_fields
from codecria.evaluation.plots import pass_by_temperature
from codecria.evaluation.programs import program_groups
from codecria.evaluation.task import Given, Group, Task
from codecria.evaluation.tasks.human_eval import HumanEvalRecipe, problem_items
from codecria.evaluation.tasks.plus import LIMITS, plus_tests
from codecria.evaluation.tasks.problems import Problem

HUMAN_EVAL_PLUS = DataFile("human_eval/HumanEvalPlus.jsonl.gz", "HumanEval+", "Apache-2.0")
_FIELDS = ("task_id", "prompt", "canonical_solution", "entry_point", "base_input", "plus_input", "atol")


def plus_problem(row: dict[str, Any], where: str) -> Problem:
    """A row of the release as a problem of HumanEval's form: its test compares with the canonical solution.

    Raises:
        CodecriaError: it is no such row.
    """
    check_fields(row, _FIELDS, "problem", where, mend="take the release's own file")
    reference = row["prompt"] + row["canonical_solution"]
    inputs = [*row["base_input"], *row["plus_input"]]
    tests = plus_tests(reference, row["entry_point"], inputs, row["atol"])
    return Problem(row["task_id"], row["prompt"], row["canonical_solution"], tests, row["entry_point"])


def _groups(recipe: HumanEvalRecipe, given: Given) -> list[Group]:
    path = given.data.find(HUMAN_EVAL_PLUS).path
    rows = enumerate(read_rows(path), start=1)
    problems = [plus_problem(cast("dict[str, Any]", row), f"{path}:{number}") for number, row in rows]
    items = [replace(item, limits=LIMITS) for item in problem_items(problems, recipe)]
    return program_groups(TASK.name, items, recipe, given.seed)


TASK = Task(
    name="human_eval_plus",
    recipe=HumanEvalRecipe,
    groups=_groups,
    about="HumanEval against many more inputs, compared with the canonical solution",
    titles={"human_eval_plus": "HumanEval+"},
    headline="pass@1",
    data=(HUMAN_EVAL_PLUS,),
    plot=pass_by_temperature,
)

"""MBPP+ of November 2023: 399 of MBPP's tasks against about 100 inputs each (Liu et al. 2023)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, cast

from codecria.corpus.evaluation_sets import read_rows
from codecria.evaluation.data import DataFile
from codecria.evaluation.plots import pass_by_temperature
from codecria.evaluation.programs import program_groups
from codecria.evaluation.protocol import Protocol  # noqa: TC001 a class variable of a pydantic model
from codecria.evaluation.task import Given, Group, Task
from codecria.evaluation.tasks.mbpp import (
    INSTRUCT,
    MBPP,
    PAPER,
    SHOTS,
    ZERO_SHOT,
    Exercise,
    MbppRecipe,
    exercise_item,
    load_exercises,
)
from codecria.evaluation.tasks.plus import LIMITS, plus_tests, typed_inputs

MBPP_PLUS = DataFile(
    "mbpp/MbppPlus-20231116.jsonl",
    "MBPP+ of 2023-11-16",
    "Apache-2.0",
    ("08405a4e8764a4941cfe0945d25a956355a0454f364ea902c4020a44e7057973",),
)
_SCORING = "the results equal the reference's on all base and plus inputs, floats within atol; pass@k without bias"


class MbppPlusRecipe(MbppRecipe):
    """How MBPP+ is run: MBPP's prompts, other tests."""

    protocols: ClassVar[tuple[Protocol, ...]] = tuple(
        replace(each, scoring=_SCORING) for each in (PAPER, ZERO_SHOT, INSTRUCT)
    )


def plus_exercise(row: dict[str, Any], exercise: Exercise) -> Exercise:
    """The task with the tests of its row in MBPP+."""
    inputs = typed_inputs(row["assertion"], row["entry_point"], [*row["base_input"], *row["plus_input"]])
    tests = plus_tests(row["canonical_solution"], row["entry_point"], inputs, row["atol"])
    return replace(exercise, code=row["canonical_solution"], tests=tests, entry_point=row["entry_point"])


def load_plus(plus: list[dict[str, Any]], exercises: dict[int, Exercise]) -> list[Exercise]:
    """Each row's task with its many tests."""
    return [plus_exercise(row, exercises[int(row["task_id"].partition("/")[2])]) for row in plus]


def _groups(recipe: MbppPlusRecipe, given: Given) -> list[Group]:
    exercises = load_exercises(given.data.find(MBPP).path)
    plus = [cast("dict[str, Any]", row) for row in read_rows(given.data.find(MBPP_PLUS).path)]
    shots = [exercises[number] for number in SHOTS]
    items = [
        replace(exercise_item(each, shots, recipe), limits=LIMITS)
        for each in load_plus(plus, exercises)
        if each.number not in SHOTS
    ]
    return program_groups(TASK.name, items, recipe, given.seed)


TASK = Task(
    name="mbpp_plus",
    recipe=MbppPlusRecipe,
    groups=_groups,
    about="MBPP's tasks against many more inputs, compared with a reference solution",
    titles={"mbpp_plus": "MBPP+"},
    headline="pass@1",
    data=(MBPP_PLUS, MBPP),
    plot=pass_by_temperature,
)

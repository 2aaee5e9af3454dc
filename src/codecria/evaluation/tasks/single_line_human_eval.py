"""Single lines of HumanEval's solutions, from both sides: all 1,033 of them, or some drawn by key."""

from __future__ import annotations

from codecria.common.random import permutation
from codecria.evaluation.task import Given, Group, Task
from codecria.evaluation.tasks.lines import human_eval_lines
from codecria.evaluation.tasks.problems import HUMAN_EVAL, load_problems
from codecria.evaluation.tasks.single_line import SingleLineRecipe, line_groups


def _groups(recipe: SingleLineRecipe, given: Given) -> list[Group]:
    lines = human_eval_lines(load_problems(given.data.find(HUMAN_EVAL).path))
    if recipe.items is not None:
        chosen = sorted(permutation(len(lines), "single-line HumanEval", given.seed)[: recipe.items])
        lines = [lines[place] for place in chosen]
    return line_groups(TASK.name, lines, recipe)


TASK = Task(
    name="single_line_human_eval",
    recipe=SingleLineRecipe,
    groups=_groups,
    about="each line of HumanEval's solutions, from both sides and from the left alone",
    titles={"single_line_human_eval": "Single-line infilling, HumanEval"},
    headline="exact_match",
    data=(HUMAN_EVAL,),
)

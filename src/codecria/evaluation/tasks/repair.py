"""Repair in HumanEvalFix's form (Muennighoff et al. 2023): a function that fails its tests is to be written right.

HumanEvalFix's bugs were made by hand. Here one mutation is put into each canonical solution (`sandbox/mutation.py`):
the first, in an order drawn by key, with which the function fails its tests by an answer or an exception, not by time.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from codecria.evaluation.answers import fenced_block
from codecria.evaluation.programs import Item, SampledRecipe, method_of, run_programs
from codecria.evaluation.protocol import Protocol
from codecria.evaluation.samples import Sample
from codecria.evaluation.subject import Asked, Subject
from codecria.evaluation.task import Given, Group, Task, in_groups
from codecria.evaluation.tasks.human_eval import STOP
from codecria.evaluation.tasks.problems import HUMAN_EVAL, Problem, load_problems
from codecria.sandbox.mutation import mutants
from codecria.sandbox.verdict import Program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.evaluation.judge import Judge
    from codecria.evaluation.task import Rows

_MOST_MUTANTS = 40
_SCORING = "the function passes check(entry_point); pass@k without bias"
COMPLETION = Protocol(
    "completion",
    "HumanEvalFix with tests, for base models",
    "the wrong function, its tests, a comment that asks for a repair, the function's head",
    f"{STOP}, or an end id",
    "the output at the first stop string",
    _SCORING,
    "greedy; HumanEvalFix: 20 samples at T=0.2, top-p 0.95",
    {"chat": False, "stop": STOP},
)
INSTRUCT = Protocol(
    "instruct",
    "HumanEvalFix with tests, for instruct models",
    "one message by the template: the wrong function, its tests; the right one is asked for in a fenced block",
    "the template's end",
    "the first fenced block is the program; an answer without one fails",
    _SCORING,
    COMPLETION.sampling,
    {"chat": True},
)


class RepairRecipe(SampledRecipe):
    """How repairs are asked for.

    Attributes:
        chat: whether in a conversation.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (COMPLETION, INSTRUCT)

    chat: bool = False


def broken(problem: Problem, judge: Judge, seed: int) -> str | None:
    """The problem's program with one mutation in its solution that its tests find; None where none does.

    Which one depends on the seed and the tests alone, not on what runs beside it.
    """
    whole = problem.prompt + problem.canonical_solution
    inside = [each for each in mutants(whole, seed) if each.startswith(problem.prompt)][:_MOST_MUTANTS]
    for mutant in inside:
        verdicts = judge.run([Program(mutant, problem.test, problem.entry_point)])
        if verdicts is not None and verdicts[0].status == "failed":
            return mutant
    return None


def repair_item(problem: Problem, mutant: str, chat: bool) -> Item:
    """A wrong function to be repaired."""
    tests = problem.test.strip()
    if chat:
        words = (
            f"This Python function fails its tests.\n\n```python\n{mutant}```\n\n"
            f"The tests:\n\n```python\n{tests}\n```\n\n"
            "Answer with the repaired function, whole, its imports included, in one fenced code block."
        )

        def answered(text: str) -> Program | None:
            block = fenced_block(text)
            return None if block is None else Program(block, problem.test, problem.entry_point)

        return Item(problem.task_id, Asked(messages=[{"role": "user", "content": words}]), answered)
    comment = f"# The function {problem.entry_point} fails these tests. Repaired:"
    shown = f"{mutant}\n\n{tests}\n\n{comment}\n{problem.prompt}"

    def program(text: str) -> Program:
        return Program(problem.prompt + text, problem.test, problem.entry_point)

    return Item(problem.task_id, Asked(prompt=shown), program, context={"prompt": shown})


def _run(
    subject: Subject, judge: Judge, items: Sequence[Problem], recipe: RepairRecipe, temperature: float, seed: int
) -> Rows:
    found = {problem.task_id: broken(problem, judge, seed) for problem in items}
    asked = [repair_item(each, wrong, recipe.chat) for each in items if (wrong := found[each.task_id]) is not None]
    method = method_of(temperature)
    written = run_programs(subject, judge, TASK.name, method, asked, recipe, temperature, seed)
    reason = judge.reason or f"none of its first {_MOST_MUTANTS} mutants fails its tests"

    def rows() -> list[Sample]:
        done = {row.id: row for row in (written if isinstance(written, list) else written())}
        none = Sample(TASK.name, method, "", not_run=dict.fromkeys(recipe.measures, reason))
        return [done.get(each.task_id, replace(none, id=each.task_id)) for each in items]

    return rows


def _groups(recipe: RepairRecipe, given: Given) -> list[Group]:
    problems = load_problems(given.data.find(HUMAN_EVAL).path)[: recipe.items]
    groups: list[Group] = []
    for temperature in recipe.temperatures:
        run = partial(_run, recipe=recipe, temperature=temperature, seed=given.seed)
        groups += in_groups(f"{TASK.name}-{method_of(temperature)}", problems, recipe.group_items, run)
    return groups


TASK = Task(
    name="repair",
    recipe=RepairRecipe,
    groups=_groups,
    about="a function with one mutation that its tests find, to be repaired",
    titles={"repair": "Repair, HumanEval with a mutation"},
    headline="pass@1",
    data=(HUMAN_EVAL,),
)

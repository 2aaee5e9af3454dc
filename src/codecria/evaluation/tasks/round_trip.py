"""Documentation round trip: a docstring is written for a solution, then the function from that docstring alone.

HumanEval's solutions, their docstrings taken out. What passes its tests shows that the docstring said enough and that
the model can read it; the function's name and parameters stay in both directions. Beside it stands `human_eval`, the
same functions from the docstrings that people wrote.
"""

from __future__ import annotations

import ast
from functools import partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from codecria.evaluation.programs import Item, SampledRecipe, method_of, run_programs
from codecria.evaluation.protocol import Protocol
from codecria.evaluation.samples import Sample
from codecria.evaluation.subject import Asked
from codecria.evaluation.task import Given, Group, Task, in_groups
from codecria.evaluation.tasks.human_eval import STOP
from codecria.evaluation.tasks.problems import HUMAN_EVAL, Problem, load_problems
from codecria.generation.applications.source import Source
from codecria.sandbox.verdict import Program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.evaluation.judge import Judge
    from codecria.evaluation.subject import Subject
    from codecria.evaluation.task import Rows

_METHOD = "infilled"
_DOCSTRING_TOKENS = 96
PLAIN = Protocol(
    "plain",
    "none published",
    "first: header and opening quotes before, closing quotes and the solution after; "
    "then: imports, header and what was written, as HumanEval's prompts",
    f"first: the closing quotes; then {STOP}, or an end id",
    "the output at the first stop string",
    "the program passes check(entry_point); pass@1",
    f"greedy, {_DOCSTRING_TOKENS} and 512 tokens",
    {"stop": STOP},
)


class RoundTripRecipe(SampledRecipe):
    """How the round trip is run."""

    protocols: ClassVar[tuple[Protocol, ...]] = (PLAIN,)


class Undocumented(NamedTuple):
    """A solution in two parts, its docstring gone: up to the docstring's place, and from there on."""

    head: str
    body: str


def without_docstring(problem: Problem) -> Undocumented:
    """The program that solves a problem, cut where its docstring stood; helpers and imports stay in the head."""
    source = Source(problem.prompt + problem.canonical_solution, problem.task_id)
    node = source.definitions[source.find(problem.entry_point)[0]].node
    start = source.line_start(node.lineno + source.header_tokens(node)[-1].start[0])
    stop = start
    if ast.get_docstring(node) is not None:
        stop = source.line_start((node.body[0].end_lineno or node.lineno) + 1)
    return Undocumented(source.text[:start], source.text[stop:])


def _run(
    subject: Subject,
    judge: Judge,
    items: Sequence[Problem],
    method: str,
    recipe: RoundTripRecipe,
    temperature: float,
    seed: int,
) -> Rows:
    parts = [without_docstring(problem) for problem in items]
    asked = [
        Asked(
            pair=(f'{part.head}    """', f'"""\n{part.body}'),
            options={"trim": False, "stop": '"""', "max_tokens": _DOCSTRING_TOKENS},
        )
        for part in parts
    ]
    if reason := next(filter(None, map(subject.reason_against, asked)), ""):
        names = dict.fromkeys(recipe.measures, reason)
        return [Sample(TASK.name, method, problem.task_id, not_run=names) for problem in items]
    functions = [
        _item(problem, part.head, completion.text)
        for problem, part, (completion,) in zip(items, parts, subject.write(asked), strict=True)
    ]
    return run_programs(subject, judge, TASK.name, method, functions, recipe, temperature, seed)


def _item(problem: Problem, head: str, written: str) -> Item:
    prompt = f'{head}    """{written}"""\n'

    def program(text: str) -> Program:
        return Program(prompt + text, problem.test, problem.entry_point)

    return Item(problem.task_id, Asked(prompt=prompt), program, context={"prompt": prompt})


def _groups(recipe: RoundTripRecipe, given: Given) -> list[Group]:
    problems = load_problems(given.data.find(HUMAN_EVAL).path)[: recipe.items]
    groups: list[Group] = []
    for temperature in recipe.temperatures:
        method = f"{_METHOD} {method_of(temperature)}" if temperature else _METHOD
        run = partial(_run, method=method, recipe=recipe, temperature=temperature, seed=given.seed)
        groups += in_groups(f"{TASK.name}-{method}", problems, recipe.group_items, run)
    return groups


TASK = Task(
    name="round_trip",
    recipe=RoundTripRecipe,
    groups=_groups,
    about="a docstring written for a solution, and the function written from that docstring",
    titles={"round_trip": "Documentation round trip, HumanEval"},
    headline="pass@1",
    data=(HUMAN_EVAL,),
)

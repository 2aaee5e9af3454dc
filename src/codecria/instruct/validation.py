"""Whether tests mean something: the reference passes them where it stood, a stub and wrong versions of it do not."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from codecria.instruct.judging import is_example
from codecria.instruct.question import Question, question_row
from codecria.instruct.steps import Row, dropped
from codecria.sandbox.mutation import mutants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.instruct.judging import Bench, Judged

STUB_VALUES = ("True", "False", "0", "''", "[]")


def validate(
    questions: Sequence[Question], bench: Bench, most_mutants: int, least_killed: float, seed: int
) -> list[Row]:
    """Rows of the questions whose tests hold, tests that the reference fails taken out; the others dropped.

    Args:
        questions: with references.
        bench: runs them.
        most_mutants: wrong versions of each reference that are tried.
        least_killed: share of them that the tests must catch. A mutant may be equivalent to the reference, so asking
            for all would drop good tests.
        seed: of the mutants.
    """
    rows: dict[int, Row] = {}
    left = dict(enumerate(questions))
    tried = left
    for again in (True, False):  # without the tests that failed the others must still hold
        results = _run(bench, [(number, question, question.reference) for number, question in tried.items()])
        wrong = {number: result for number, result in results.items() if not result.passed}
        tried = {number: _without(left[number], result.failed) for number, result in wrong.items()}
        for number, question in tried.items():
            left[number] = question
            if not (again and question.tests):
                rows[number] = dropped("the reference fails in its place", questions[number].id)
                del left[number]
        tried = {number: question for number, question in tried.items() if number in left}
    for number, question in _against_stubs(left, bench).items():
        if question is None:
            rows[number] = dropped("a stub passes", questions[number].id)
            del left[number]
    for number, question in _against_mutants(left, bench, most_mutants, seed).items():
        enough = question.mutants > 0 and question.killed >= least_killed * question.mutants
        why = "mutants pass" if question.mutants else "nothing to mutate"
        rows[number] = {"question": question_row(question)} if enough else dropped(why, questions[number].id)
    return [rows[number] for number in range(len(questions))]


def stubs(question: Question) -> list[str]:
    """Solutions that solve nothing: nothing returned, first; the first argument; a value that every test speaks of."""
    header = question.signature or f"def {question.entry_point}(*given, **named):"
    values = [value for value in STUB_VALUES if all(value in test or "assert" in test for test in question.tests)]
    bodies = ["return None", *(f"return {value}" for value in values)]
    if first := _first_argument(header):
        bodies.append(f"return {first}")
    return [f"{header}\n    {body}\n" for body in bodies]


def _against_stubs(left: dict[int, Question], bench: Bench) -> dict[int, Question | None]:
    """Each question, None where a stub passes all its tests."""
    jobs = [(number, question, stub) for number, question in left.items() for stub in stubs(question)]
    results = bench.run([(question, stub) for _, question, stub in jobs], every=False)
    passing = {number for (number, _, _), result in zip(jobs, results, strict=True) if result.passed}
    return {number: None if number in passing else question for number, question in left.items()}


def _against_mutants(left: dict[int, Question], bench: Bench, most: int, seed: int) -> dict[int, Question]:
    """Each question with how many mutants its tests caught."""
    jobs = [
        (number, question, mutant)
        for number, question in left.items()
        for mutant in mutants(question.reference, seed)[:most]
    ]
    results = bench.run([(question, mutant) for _, question, mutant in jobs], every=False)
    tried = dict.fromkeys(left, 0)
    killed = dict.fromkeys(left, 0)
    for (number, _, _), result in zip(jobs, results, strict=True):
        tried[number] += 1
        killed[number] += not result.passed
    return {
        number: replace(question, killed=killed[number], mutants=tried[number]) for number, question in left.items()
    }


def _run(bench: Bench, jobs: list[tuple[int, Question, str]]) -> dict[int, Judged]:
    results = bench.run([(question, solution) for _, question, solution in jobs])
    return {number: result for (number, _, _), result in zip(jobs, results, strict=True)}


def _without(question: Question, failed: Sequence[int]) -> Question:
    """The question without the tests that failed; where all did, and some are examples, with the examples alone."""
    if len(failed) == len(question.tests):
        others = [number for number in failed if not is_example(question.tests[number])]
        failed = others or failed
    return replace(question, tests=tuple(test for number, test in enumerate(question.tests) if number not in failed))


def _first_argument(header: str) -> str:
    try:
        node = ast.parse(f"{header}\n    pass\n").body[0]
    except SyntaxError:
        return ""
    names = [each.arg for each in node.args.args] if isinstance(node, ast.FunctionDef) else []
    return names[0] if names else ""

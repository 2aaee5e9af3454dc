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
    from collections.abc import Callable, Iterator, Sequence

    from codecria.instruct.judging import Bench, Judged

    Attempt = Callable[[Sequence[tuple[int, str]]], Iterator[tuple[int, Judged]]]

STUB_VALUES = ("True", "False", "0", "''", "[]")


def validate(
    questions: Sequence[Question], bench: Bench, quick: Bench, most_mutants: int, least_killed: float, seed: int
) -> list[Row]:
    """Rows of the questions whose tests hold, tests that the reference fails taken out; the others dropped.

    Args:
        questions: with references.
        bench: runs them.
        quick: the same with less time, for references that get along with it and for wrong versions of them: a mutant
            that runs for ever costs as much as some hundred programs.
        most_mutants: wrong versions of each reference that are tried.
        least_killed: share of them that the tests must catch. A mutant may be equivalent to the reference, so asking
            for all would drop good tests.
        seed: of the mutants.
    """
    rows: dict[int, Row] = {}
    left = dict(enumerate(questions))
    tried = left
    slow: set[int] = set()
    for again in (True, False):  # without the tests that failed the others must still hold
        results = _run(quick, [(number, question, question.reference) for number, question in tried.items()])
        late = {number for number, result in results.items() if result.status == "timeout"}
        slow = slow - tried.keys() | late
        results |= _run(bench, [(number, tried[number], tried[number].reference) for number in late])
        wrong = {number: result for number, result in results.items() if not result.passed}
        tried = {number: _without(left[number], result.failed) for number, result in wrong.items()}
        for number, question in tried.items():
            left[number] = question
            if not (again and question.tests):
                rows[number] = dropped("the reference fails in its place", questions[number].id)
                del left[number]
        tried = {number: question for number, question in tried.items() if number in left}

    def attempt(versions: Sequence[tuple[int, str]]) -> Iterator[tuple[int, Judged]]:
        """What becomes of wrong versions of the questions of these numbers."""
        for where, is_slow in ((quick, False), (bench, True)):
            jobs = [(number, code) for number, code in versions if (number in slow) == is_slow]
            results = where.run([(left[number], code) for number, code in jobs], every=False)
            yield from ((number, result) for (number, _), result in zip(jobs, results, strict=True))

    for number, question in _against_stubs(left, attempt).items():
        if question is None:
            rows[number] = dropped("a stub passes", questions[number].id)
            del left[number]
    for number, question in _against_mutants(left, attempt, most_mutants, seed).items():
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


def _against_stubs(left: dict[int, Question], attempt: Attempt) -> dict[int, Question | None]:
    """Each question, None where a stub passes all its tests."""
    versions = [(number, stub) for number, question in left.items() for stub in stubs(question)]
    passing = {number for number, result in attempt(versions) if result.passed}
    return {number: None if number in passing else question for number, question in left.items()}


def _against_mutants(left: dict[int, Question], attempt: Attempt, most: int, seed: int) -> dict[int, Question]:
    """Each question with how many mutants its tests caught."""
    versions = [
        (number, mutant) for number, question in left.items() for mutant in mutants(question.reference, seed)[:most]
    ]
    tried = dict.fromkeys(left, 0)
    killed = dict.fromkeys(left, 0)
    for number, result in attempt(versions):
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

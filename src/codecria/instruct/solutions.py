"""Tests and solutions by models, and which solution of a question is kept."""

from __future__ import annotations

import ast
import builtins
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from codecria.common.random import draw_bits, draw_integer
from codecria.instruct.judging import is_example
from codecria.instruct.neighbours import neighbours
from codecria.instruct.prompts import (
    FUNCTION_STOPS,
    function_prompt,
    functions_in,
    read_function,
    read_solution,
    read_tests,
    solution_prompt,
    tests_prompt,
)
from codecria.instruct.question import Question, Triplet, question_row
from codecria.instruct.steps import Row, dropped
from codecria.instruct.validation import stubs

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from codecria.instruct.generators import Writer
    from codecria.instruct.judging import Bench
    from codecria.instruct.recipe import SolutionsRecipe, TestsRecipe


def write_tests(questions: Sequence[Question], writer: Writer, recipe: TestsRecipe, seed: int) -> list[Row]:
    """Rows of questions with tests: those that have some as they are, the others with a model's that parse."""
    bare = [question for question in questions if not question.tests]
    prompts, stop = [tests_prompt(question) for question in bare], ("[/TESTS]\n\n", "\nProblem:")
    written = iter(writer.fresh().ask(prompts, recipe, draw_bits("tests", seed), begun="[TESTS]\n", stop=stop))
    return [
        {"question": question_row(question)} if question.tests else _with_tests(question, next(written), recipe)
        for question in questions
    ]


def check_tests(questions: Sequence[Question], bench: Bench, least: int) -> list[Row]:
    """Rows of questions whose written tests tell a solution from a stub.

    A test that a function without a body passes is thrown away; a single value may be right for one test of a function
    that answers yes or no, so the other stubs count only where they pass every test that is left.
    """
    rows: list[Row] = []
    for question, failures in zip(questions, _stub_failures(questions, bench), strict=True):
        left = set(failures[0] if failures else range(len(question.tests)))
        if len(left) < least and failures:
            rows.append(dropped("tests that a stub passes", question.id))
        elif _is_passed(left, failures):
            rows.append(dropped("a stub passes", question.id))
        else:
            rows.append({"question": question_row(_with(question, left))})
    return rows


def solve(questions: Sequence[Question], writer: Writer, bench: Bench, recipe: SolutionsRecipe, seed: int) -> list[Row]:
    """A row for each question: its samples up to the first that passes every test; none is drawn behind that.

    A sample has its code, the number of the test that it was shown, or None, its status, and the tests that it failed.
    Where no sample passes, `choose` may throw tests away: `stubs` then says which tests each stub failed.
    """
    fresh = writer.fresh()
    samples: list[list[Row]] = [[] for _ in questions]
    for number in range(recipe.samples):
        left = [place for place, drawn in enumerate(samples) if not (drawn and drawn[-1]["status"] == "passed")]
        asked = [questions[place] for place in left]
        drawn = _write(asked, fresh, bench.packages, recipe, seed, number)
        for place, sample, verdict in zip(left, drawn, _judge(asked, drawn, bench), strict=True):
            samples[place].append({**sample, **verdict})
    unsolved = [place for place, drawn in enumerate(samples) if drawn[-1]["status"] != "passed"]
    failures = dict(zip(unsolved, _stub_failures([questions[place] for place in unsolved], bench), strict=True))
    return [
        {"id": question.id, "samples": samples[place], "stubs": failures.get(place, [])}
        for place, question in enumerate(questions)
    ]


def _write(
    questions: Sequence[Question],
    fresh: Writer,
    packages: Sequence[Path],
    recipe: SolutionsRecipe,
    seed: int,
    number: int,
) -> list[Row]:
    """One sample of each question. Prompts of a question begin alike; samples of equal prompts differ by their seed."""
    shown = [shown_test(question, number, seed) for question in questions]
    samples: dict[int, Row] = {}
    for completes in (False, True):
        chosen = [place for place, each in enumerate(questions) if _completes(each, recipe) == completes]
        form = function_prompt if completes else solution_prompt
        prompts = [form(questions[place], _test(questions[place], shown[place])) for place in chosen]
        if completes and recipe.neighbours:
            near = [_near(questions[place], packages, recipe.neighbours) for place in chosen]
            prompts = [before + prompt for before, prompt in zip(near, prompts, strict=True)]
        texts = fresh.ask(
            prompts,
            recipe,
            draw_bits("solutions", seed, number),
            begun="" if completes else "[PYTHON]\n",
            stop=FUNCTION_STOPS if completes else ("[/PYTHON]\n\n", "\nProblem:"),
            completes=completes,
        )
        for place, text in zip(chosen, texts, strict=True):
            code = read_function(questions[place], text) if completes else read_solution(text)
            samples[place] = {"code": code, "shown": shown[place]}
    return [samples[place] for place in range(len(questions))]


def _judge(questions: Sequence[Question], samples: Sequence[Row], bench: Bench) -> list[Row]:
    """The status of each question's sample and which tests it failed."""
    numbers = [
        number
        for number, (question, sample) in enumerate(zip(questions, samples, strict=True))
        if question.entry_point in functions_in(sample["code"])
    ]
    results = bench.run([(questions[number], samples[number]["code"]) for number in numbers])
    verdicts: list[Row] = [
        {"status": "not defined", "failed": list(range(len(question.tests)))} for question in questions
    ]
    for number, result in zip(numbers, results, strict=True):
        verdicts[number] = {"status": result.status, "failed": list(result.failed)}
    return verdicts


def choose(question: Question, row: Row, model: str, least: int) -> Triplet | str:
    """The triplet of the first solution that passes, or why there is none.

    Tests that no solution passes are thrown away where no reference passes them: they are the model's own. What is
    left must tell a solution from a stub again: the stub may have failed only what was thrown away.

    Args:
        question: as it was asked.
        row: its samples and stubs, by `solve`.
        model: who solved it.
        least: tests that must be left.
    """
    samples: list[Row] = row["samples"]
    if all(sample["status"] == "not defined" for sample in samples):
        return "no solution is Python that defines the function"
    numbers = set(range(len(question.tests)))
    if not question.reference:
        numbers = {number for number in numbers if any(number not in sample["failed"] for sample in samples)}
        if len(numbers) < least:
            return "tests that no solution passes"
        if _is_passed(numbers, row.get("stubs", [])):  # a folder of an earlier version has none
            return "a stub passes"
    for tries, sample in enumerate(samples, start=1):
        if not numbers & set(sample["failed"]) and numbers - {sample["shown"]}:
            return Triplet(_with(question, numbers), sample["code"], model, tries)
    return "no solution passes"


def shown_test(question: Question, sample: int, seed: int) -> int | None:
    """The number of the test that a sample sees, an example where there are some; None where none may be shown, or it
    would be the only one.
    """
    if question.alone or len(question.tests) < 2:
        return None
    numbers = [number for number, test in enumerate(question.tests) if is_example(test)] or range(len(question.tests))
    return numbers[draw_integer(len(numbers), "shown", seed, question.id, sample)]


def _with(question: Question, numbers: Collection[int]) -> Question:
    """The question with these of its tests alone."""
    return replace(question, tests=tuple(test for number, test in enumerate(question.tests) if number in numbers))


def _stub_failures(questions: Sequence[Question], bench: Bench) -> list[list[tuple[int, ...]]]:
    """The tests that each stub of a question failed, nothing returned first; of one with a reference none are run."""
    jobs = [
        (place, stub) for place, question in enumerate(questions) if not question.reference for stub in stubs(question)
    ]
    failures: list[list[tuple[int, ...]]] = [[] for _ in questions]
    for (place, _), result in zip(jobs, bench.run([(questions[place], stub) for place, stub in jobs]), strict=True):
        failures[place].append(result.failed)
    return failures


def _is_passed(numbers: set[int], failures: Sequence[Sequence[int]]) -> bool:
    """Whether a stub passes these tests all; `failures` has the tests that each stub failed."""
    return any(numbers.isdisjoint(failed) for failed in failures)


def _with_tests(question: Question, text: str, recipe: TestsRecipe) -> Row:
    tests = read_tests(text)
    name = _tested_function(tests)
    calling = tuple(test for test in tests if name in _called(test))
    if not name or len(calling) < recipe.least:
        return dropped("no tests that parse" if not tests else "tests that call nothing", question.id)
    return {"question": question_row(replace(question, tests=calling, entry_point=name))}


def _tested_function(tests: Sequence[str]) -> str:
    """The function that most tests call; "" where they call built-in ones alone."""
    counts = Counter(name for test in tests for name in _called(test))
    return counts.most_common(1)[0][0] if counts else ""


def _called(test: str) -> set[str]:
    calls = [node.func for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Call)]
    return {each.id for each in calls if isinstance(each, ast.Name) and each.id not in vars(builtins)}


def _near(question: Question, packages: Sequence[Path], characters: int) -> str:
    return "" if question.place is None or question.alone else neighbours(packages, question.place, characters)


def _completes(question: Question, recipe: SolutionsRecipe) -> bool:
    return recipe.form == "function" and bool(question.signature)


def _test(question: Question, number: int | None) -> str | None:
    return None if number is None else question.tests[number]

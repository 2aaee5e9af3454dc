from dataclasses import replace

import pytest

from codecria.instruct.question import Question, Triplet
from codecria.instruct.solutions import check_tests, choose, run_solutions

TESTS = tuple(f"assert double({number}) == {2 * number}" for number in range(4))
QUESTION = Question("Double a number.", "invented small", "double", tests=TESTS)
RIGHT, WRONG = "def double(x):\n    return 2 * x\n", "def double(x):\n    return 2\n"


def row(*pairs):
    return {"id": "", "samples": [{"code": code, "shown": shown} for code, shown in pairs]}


def judge(bench, question, samples):
    (verdicts,) = run_solutions([question], [samples], bench)
    return choose(question, samples, verdicts, "small", least=2)


def test_the_first_that_passes_is_kept(bench):
    samples = row((WRONG, 0), ("nonsense(", 1), (RIGHT + "# first", 2), (RIGHT + "# second", 0))
    assert judge(bench, QUESTION, samples) == Triplet(QUESTION, RIGHT + "# first", "small", 2, 4)


def test_a_solution_fitted_to_the_test_it_saw_does_not_pass(bench):
    fitted = "def double(x):\n    if x == 3:\n        return 6\n"
    assert judge(bench, QUESTION, row((fitted, 3))) == "tests that no solution passes"
    assert judge(bench, QUESTION, row((fitted, 3), (RIGHT, 0))).solution == RIGHT


def test_a_test_that_no_solution_passes_is_thrown_away(bench):
    question = replace(QUESTION, tests=(*TESTS, "assert double(5) == 11"))
    triplet = judge(bench, question, row((WRONG, 0), (RIGHT, 1)))
    assert triplet.question.tests == TESTS


def test_a_test_that_the_reference_passes_is_never_thrown_away(bench):
    question = replace(QUESTION, tests=(*TESTS, "assert double('a') == 'aa'"), reference=RIGHT)
    assert (
        judge(bench, question, row(("def double(x):\n    return x + x if x != 'a' else 0\n", 0)))
        == "no solution passes"
    )


def test_a_solution_that_passes_only_what_it_saw_is_not_kept(bench):
    question = replace(QUESTION, tests=TESTS[:2])
    only = "def double(x):\n    return 0 if x == 0 else None\n"
    assert judge(bench, question, row((only, 0))) == "tests that no solution passes"


def test_without_python_nothing_is_run(bench):
    samples = row(("no python at all", 0), ("def other(): pass", 1))
    assert judge(bench, QUESTION, samples) == "no solution is Python that defines the function"


@pytest.mark.parametrize(
    ("tests", "left"),
    [
        (TESTS, TESTS),
        ((*TESTS, "double(1)\nassert 1 == 1"), TESTS),  # passed by a function without a body
        (("assert double(1) is None", "double(2)\nassert 2 == 2"), "tests that a stub passes"),
        (("assert double(0) == 0", "assert double(0) is not None"), "a stub passes"),
        (("assert double(2)", "assert double(3) is True"), "a stub passes"),
    ],
)
def test_tests_that_a_stub_passes_are_thrown_away(bench, tests, left):
    (checked,) = check_tests([replace(QUESTION, tests=tests)], bench, least=2)
    if isinstance(left, str):
        assert checked["dropped"] == left
    else:
        assert tuple(checked["question"]["tests"]) == left

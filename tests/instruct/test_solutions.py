from dataclasses import replace

import pytest

from codecria.instruct.generators import GeneratorRecipe, Writer
from codecria.instruct.question import Question, Triplet
from codecria.instruct.recipe import SolutionsRecipe
from codecria.instruct.solutions import _judge, check_tests, choose, solve

TESTS = tuple(f"assert double({number}) == {2 * number}" for number in range(4))
QUESTION = Question("Double a number.", "invented small", "double", tests=TESTS)
RIGHT, WRONG = "def double(x):\n    return 2 * x\n", "def double(x):\n    return 2\n"


class Scripted(Writer):
    """Writes texts that were laid out, one a sample."""

    def __init__(self, texts):
        super().__init__(GeneratorRecipe(model="small"))
        self.texts = list(texts)

    def fresh(self):
        return self

    def ask(self, prompts, *_given, **_named):
        return [self.texts.pop(0) for _ in prompts]


def draw(bench, question, *codes):
    recipe = SolutionsRecipe(generator="small", samples=len(codes))
    writer = Scripted(codes)
    (row,) = solve([question], writer, bench, recipe, seed=0)
    return row, writer.texts


def judge(bench, question, pairs):
    """The triplet of samples that were shown these tests."""
    codes, shown = zip(*pairs, strict=True)
    verdicts = _judge([question] * len(codes), [{"code": code} for code in codes], bench)
    samples = [{"code": code, "shown": test, **each} for code, test, each in zip(codes, shown, verdicts, strict=True)]
    return choose(question, {"samples": samples, "stubs": []}, "small", least=2)


def test_the_first_that_passes_is_kept_and_none_is_drawn_behind_it(bench):
    row, left = draw(bench, QUESTION, WRONG, "nonsense(", RIGHT + "# first", RIGHT + "# second")
    assert [sample["status"] for sample in row["samples"]] == ["failed", "not defined", "passed"]
    assert left == [RIGHT + "# second"]
    assert choose(QUESTION, row, "small", least=2) == Triplet(QUESTION, RIGHT + "# first\n", "small", 3)


def test_a_solution_fitted_to_the_test_it_saw_does_not_pass(bench):
    fitted = "def double(x):\n    if x == 3:\n        return 6\n"
    assert judge(bench, QUESTION, [(fitted, 3)]) == "tests that no solution passes"
    assert judge(bench, QUESTION, [(fitted, 3), (RIGHT, 0)]).solution == RIGHT


def test_a_test_that_no_solution_passes_is_thrown_away(bench):
    question = replace(QUESTION, tests=(*TESTS, "assert double(5) == 11"))
    triplet = judge(bench, question, [(WRONG, 0), (RIGHT, 1)])
    assert triplet.question.tests == TESTS and triplet.tries == 2


@pytest.mark.parametrize(
    ("right", "stubborn"),
    [
        (("assert is_even(2)", "assert is_even(4)"), True),
        (("assert is_even(2)", "assert is_even(3) is False"), False),
    ],
)
def test_tests_that_a_stub_passes_once_wrong_ones_are_thrown_away_are_not_kept(bench, right, stubborn):
    question = replace(QUESTION, entry_point="is_even", tests=(*right, "assert is_even(2) == 'even'"))
    (checked,) = check_tests([question], bench, least=2)
    assert tuple(checked["question"]["tests"]) == question.tests
    even = "def is_even(x):\n    return x % 2 == 0\n"
    row, _ = draw(bench, question, even, even)
    kept = Triplet(replace(question, tests=right), even, "small", 1)
    assert choose(question, row, "small", least=2) == ("a stub passes" if stubborn else kept)


def test_a_test_that_the_reference_passes_is_never_thrown_away(bench):
    question = replace(QUESTION, tests=(*TESTS, "assert double('a') == 'aa'"), reference=RIGHT)
    fitted = "def double(x):\n    return x + x if x != 'a' else 0\n"
    assert judge(bench, question, [(fitted, 0)]) == "no solution passes"


def test_a_solution_that_passes_only_what_it_saw_is_not_kept(bench):
    question = replace(QUESTION, tests=TESTS[:2])
    only = "def double(x):\n    return 0 if x == 0 else None\n"
    assert judge(bench, question, [(only, 0)]) == "tests that no solution passes"


def test_without_python_nothing_is_run(bench):
    samples = [("no python at all", 0), ("def other(): pass", 1)]
    assert judge(bench, QUESTION, samples) == "no solution is Python that defines the function"


@pytest.mark.parametrize(
    ("tests", "left"),
    [
        (TESTS, TESTS),
        ((*TESTS, "double(1)\nassert 1 == 1"), TESTS),  # passed by a function without a body
        (("assert double(1) is None", "double(2)\nassert 2 == 2"), "tests that a stub passes"),
        (("assert double(0) == 0", "assert double(0) is not None"), "a stub passes"),
        (("assert double(2)", "assert double(3) is True"), "a stub passes"),
        (("assert double(2)", "assert double(4)", "assert not double(3)"), "a stub passes"),  # all but what None passes
        (
            ("assert double(2)", "assert double(4) == 8", "assert not double(0)"),
            ("assert double(2)", "assert double(4) == 8"),
        ),
    ],
)
def test_tests_that_a_stub_passes_are_thrown_away(bench, tests, left):
    (checked,) = check_tests([replace(QUESTION, tests=tests)], bench, least=2)
    if isinstance(left, str):
        assert checked["dropped"] == left
    else:
        assert tuple(checked["question"]["tests"]) == left

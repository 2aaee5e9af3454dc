from dataclasses import replace

import pytest

from codecria.instruct.judging import Bench
from codecria.instruct.question import Place, Question

ALONE = Question(
    "Add.", "invented", "add", tests=("assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(5, 5) == 10")
)


def status(bench, question, solution):
    (result,) = bench.run([(question, solution)])
    return result


def test_references_pass_in_their_place(bench, questions):
    results = dict(zip(questions, bench.run([(each, each.reference) for each in questions.values()]), strict=True))
    assert {name for name, result in results.items() if not result.passed} == {"wrong", "partly"}
    assert results["partly"].failed == (1,)


@pytest.mark.parametrize("setup", [
    ">>> from small_lists import clamp as again\n>>> again(9)\n3\n",
    ">>> import small_lists.inside\n>>> small_lists.inside.clamp(9)\n3\n",
    ">>> curried(9)\n3\n",  # a partial object holds the old function itself
])  # fmt: skip
def test_no_name_leads_to_the_function_that_was_there(bench, questions, setup):
    question = replace(questions["clamp"], tests=(setup,))
    assert status(bench, question, question.reference).passed
    assert status(bench, question, "def clamp(value, low=0):\n    return 'new'\n").failed == (0,)


@pytest.mark.parametrize("body", [
    "from small_lists import clamp as old\n    return old(value, low)",
    "import small_lists.inside as m\n    return m.curried.func(value, low)",
    "import sys\n    return next(f for m in list(sys.modules.values()) for n, f in list(vars(m).items()) "
    "if n == 'clamp')(value, low)",
])  # fmt: skip
def test_a_solution_cannot_call_the_function_it_replaces(bench, questions, body):
    assert not status(bench, questions["clamp"], f"def clamp(value, low=0):\n    {body}\n").passed


@pytest.mark.parametrize("solution", [
    "class Anything(int):\n    def __eq__(self, other): return True\n    __hash__ = None\n"
    "def clamp(value, low=0):\n    return Anything()",
    "def clamp(value, low=0):\n    print(3)\n    print(0)\n    print(1)",
    "import os\ndef clamp(value, low=0):\n    os._exit(0)",
    "def clamp(value, low=0):\n    raise SystemExit(0)",
    "import sys\ndef clamp(value, low=0):\n    sys.modules['program'].codecria_example = lambda source: ('3', None)\n"
    "    return 3",
    "import sys\nsys.modules['program'].TESTS = []\ndef clamp(value, low=0):\n    return 3",
    "import doctest\ndoctest.OutputChecker.check_output = lambda *given: True\ndef clamp(value, low=0):\n    return 3",
])  # fmt: skip
def test_no_solution_forges_a_pass(bench, questions, solution):
    assert not status(bench, questions["clamp"], solution).passed


def test_what_is_expected_does_not_reach_the_program(bench, questions):
    spy = (
        "import gc\ndef clamp(value, low=0):\n"
        "    held = [each for each in gc.get_objects() if type(each) in (tuple, list) and len(each) < 50]\n"
        "    return any(' '.join(('only', 'the', 'tests', 'know')) in repr(each) for each in held)\n"
    )
    question = replace(questions["clamp"], tests=(">>> clamp(1) # 1\n'only the tests know'\n", ">>> clamp(2)\nFalse\n"))
    assert status(bench, question, spy).failed == (0,)


def test_a_method_and_a_property_are_judged_in_their_class(bench, questions):
    assert status(bench, questions["Pile.top"], "@property\ndef top(self):\n    return max(self.numbers)\n").failed == (
        1,
    )
    assert status(bench, questions["Pile.total"], "def total(self):\n    return len(self.numbers) * 3\n").passed


def test_an_exception_is_told_by_its_kind_not_by_its_words(bench, questions):
    body = "    if not values:\n        raise {}('other words')\n    m = len(values) // 2\n"
    body += "    return values[:m], values[m:]\n"
    assert status(bench, questions["halves"], "def halves(values):\n" + body.format("ValueError")).passed
    assert status(bench, questions["halves"], "def halves(values):\n" + body.format("KeyError")).failed == (1,)


def test_asserts_tell_which_of_them_failed(bench):
    assert status(bench, ALONE, "def add(a, b):\n    return a + b\n").passed
    assert status(bench, ALONE, "def add(a, b):\n    return a + b if a else 1\n").failed == (1,)
    assert status(bench, ALONE, "def add(a, b):\n    raise AssertionError('tests failed: 2')\n").failed == (0, 1, 2)
    endless = status(bench, ALONE, "def add(a, b):\n    while a == 5: pass\n    return a + b\n")
    assert (endless.status, endless.failed) == ("timeout", (0, 1, 2))


def test_asserts_and_examples_judge_one_function(bench, questions):
    question = replace(
        questions["clamp"], tests=(*questions["clamp"].tests, "assert clamp(3) == 3", "assert LIMIT == 3")
    )
    assert status(bench, question, question.reference).passed
    wrong = question.reference.replace("value > LIMIT", "value >= LIMIT - 1").replace("LIMIT if", "2 if")
    assert 3 in status(bench, question, wrong).failed


def test_results_come_in_order_whatever_package_they_are_of(bench, questions):
    right, placed = "def add(a, b):\n    return a + b\n", questions["halves"]
    pairs = [(ALONE, right), (placed, placed.reference), (ALONE, "x = 1"), (placed, "def halves(values): pass")]
    assert [each.passed for each in bench.run(pairs)] == [True, True, False, False]


def test_a_test_that_calls_nothing_is_no_pass(bench):
    question = replace(ALONE, tests=("assert True",))
    assert not status(bench, question, "def add(a, b):\n    return a + b\n").passed


def test_a_place_that_is_not_there_fails(bench, questions):
    question = replace(questions["clamp"], place=Place("small_lists.inside", "gone"))
    assert status(bench, question, question.reference).failed == (0, 1, 2)


def test_decorators_of_the_function_that_was_there_go_on_working(tmp_path):
    folder = tmp_path / "packages"
    (folder / "wrapped").mkdir(parents=True)
    text = "import functools\n\ndef number(function):\n    @functools.wraps(function)\n"
    text += "    def convert(value):\n        return function(int(value))\n    return convert\n\n"
    text += '@number\ndef double(value):\n    """Words."""\n    return 2 * value\n'
    (folder / "wrapped" / "__init__.py").write_text(text)
    for each in (tmp_path, folder):
        each.chmod(0o755)
    question = Question("Double.", "mined", "double", tests=(">>> double('4')\n8\n",), place=Place("wrapped", "double"))
    with Bench([folder]) as bench:
        assert status(bench, question, "def double(value):\n    return value + value\n").passed
        assert not status(bench, question, "def double(value):\n    return value\n").passed


LATE = '''
import functools, inspect
from functools import cached_property


def late(function):
    """Looks at the signature when it is first called, and finds the argument by its place in it."""

    @functools.wraps(function)
    def convert(*given):
        place = list(inspect.signature(function).parameters).index("number")
        return function(*(int(each) if at == place else each for at, each in enumerate(given)))

    return convert


@late
def times(text, number):
    """Words."""
    return text * number


class Sizes:
    def __init__(self, *sizes):
        self.sizes = sizes

    def max(self):
        """Words."""
        return max(self.sizes)

    @cached_property
    def total(self):
        """Words."""
        return sum(self.sizes)
'''


@pytest.mark.parametrize(
    ("name", "solution", "example"),
    [
        ("times", "def times(text, number):\n    return number * text\n", ">>> times('a', '3')\n'aaa'\n"),
        ("Sizes.max", "def max(self):\n    return max(self.sizes)\n", ">>> Sizes(1, 4, 2).max()\n4\n"),
        (
            "Sizes.total",
            "@cached_property\ndef total(self):\n    return sum(self.sizes)\n",
            ">>> s = Sizes(1, 4)\n>>> s.total, s.total\n(5, 5)\n",
        ),
    ],
)
def test_a_function_stands_in_its_place_as_the_one_before(tmp_path, name, solution, example):
    (tmp_path / "packages" / "late").mkdir(parents=True)
    (tmp_path / "packages" / "late" / "__init__.py").write_text(LATE)
    for each in (tmp_path, tmp_path / "packages"):
        each.chmod(0o755)
    question = Question("Words.", "mined", name.rpartition(".")[2], tests=(example,), place=Place("late", name))
    with Bench([tmp_path / "packages"]) as bench:
        assert status(bench, question, solution).passed
        assert not status(bench, question, solution.replace("return", "return None and")).passed

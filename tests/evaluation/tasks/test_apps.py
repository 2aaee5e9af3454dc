from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import pytest

from codecria.common.errors import CodecriaError
from codecria.evaluation.data import Data, Found
from codecria.evaluation.judge import Judge
from codecria.evaluation.programs import program_groups
from codecria.evaluation.subject import LocalSubject
from codecria.evaluation.task import Given
from codecria.evaluation.tasks import apps
from codecria.evaluation.tasks.apps import (
    AppsRecipe,
    Contest,
    contest_item,
    contest_programs,
    contest_prompt,
    load_apps,
)
from tests.evaluation.rows import finished

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.sandbox.verdict import Program
    from codecria.tokenizer.tokenizer import Tokenizer

ROWS = [
    {
        "problem_id": 1,
        "question": "Print the double.\n\nExample\n\nInput\n3\n\nOutput\n6\n",
        "input_output": json.dumps({"inputs": ["10\n", "3\n", "-1\n"], "outputs": ["20\n", "6\n", "-2"]}),
        "difficulty": "introductory",
        "starter_code": "",
        "solutions": '["print(2 * int(input()))"]',
    },
    {
        "problem_id": 2,
        "question": "Return the sum.",
        "input_output": json.dumps({"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [3, [7]]}),
        "difficulty": "interview",
        "starter_code": "class Solution:\n    def add(self, a, b):\n",
    },
    {"problem_id": 3, "question": "No tests.", "input_output": "", "difficulty": "interview", "starter_code": ""},
]


@pytest.fixture
def found(tmp_path: Path) -> Found:
    path = tmp_path / "apps" / "test.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return Data(tmp_path).find(apps.APPS)


def test_the_published_layout_is_read_and_tests_shown_in_the_text_come_first(found: Found) -> None:
    reading, calling = load_apps(found)
    assert (reading.id, reading.difficulty, reading.public) == ("APPS/1", "introductory", 1)
    assert reading.tests[0] == ("3\n", "6\n") and len(reading.tests) == 3
    assert (calling.function, calling.public) == ("add", 0)
    found.path.write_text('{"question": "q"}\n')
    with pytest.raises(CodecriaError, match=r"test\.jsonl:1: no problem of APPS \(KeyError"):
        list(load_apps(found))


def test_programs_that_read_and_functions_that_are_called_are_judged(found: Found) -> None:
    reading, calling = load_apps(found)
    programs = {
        "print(2 * int(input()))": (reading, True),
        "print(6)": (reading, False),
        "import sys; sys.exit(0)": (reading, False),
        "class Solution:\n    def add(self, a, b):\n        return a + b\n": (calling, True),
        "def add(a, b):\n    return a + b\n": (calling, True),
        "def add(a, b):\n    return 3\n": (calling, False),
    }
    with Judge() as judge:
        for code, (contest, right) in programs.items():
            future = judge.submit_series(contest_programs(contest, code), apps.LIMITS)
            if future is None:
                pytest.skip(judge.reason)
            assert all(verdict.passed for verdict in future.result()) == right, code


def passed(programs: list[Program]) -> list[bool]:
    with Judge(apps.LIMITS) as judge:
        verdicts = judge.run(programs)
        if verdicts is None:
            pytest.skip(judge.reason)
    return [verdict.passed for verdict in verdicts]


def called(code: str, given: list[object], output: object) -> Program:
    """A program whose function `f` is called."""
    return contest_programs(Contest("x", "", [(given, output)], 0, function="f"), code)[0]


NAMES = """
sys time itertools accumulate product permutations combinations collections Counter OrderedDict deque defaultdict
ChainMap lru_cache math sqrt sin cos tan ceil fabs floor gcd exp log log2 fractions List Tuple random heapq heappush
heappop heapify heappushpop heapreplace merge nlargest nsmallest exit quit
"""
"""What the set's own script has imported before a program, NumPy aside, and what a started Python has."""


def test_programs_find_the_names_that_the_set_s_own_script_imports() -> None:
    reads = Contest("x", "", [("", "yes")], 0)
    scripts = [f"{name}\nprint('yes')" for name in ("stdin, stdout", ", ".join(NAMES.split()), *NAMES.split())]
    scripts += ["stdout.write('yes')\nexit()", "np = 1\nprint('yes')"]
    programs = [contest_programs(reads, code)[0] for code in scripts]
    solution = "class Solution:\n    def f(self, nums: List[int]) -> Tuple[int, ...]:\n        return sum(nums), {}\n"
    programs += [called(solution.format(name), [[1, 2]], [3, 1]) for name in ("1", "gcd(1, 2)", "len(Counter('a'))")]
    assert all(passed(programs))
    assert passed([called("def f(): return stdin is None", [], False)]) == [False], "those of a program that reads"


def test_the_imports_move_no_line_and_leave_the_beginning_to_the_program() -> None:
    future = '"""Doc."""\nfrom __future__ import annotations\n\ndef f(x: Absent) -> List[int]:\n    return [x]\n'
    with Judge(apps.LIMITS) as judge:
        programs = [
            called(future, [1], [1]),
            contest_programs(Contest("x", "", [("1", "1")], 0), "from __future__ import division\nprint(input())")[0],
            called("def f(x):\n    return x / 0\n", [1], 0),
            called("class Solution:\n    def f(self, x)\n        return x\n", [1], 1),
        ]
        verdicts = judge.run(programs)
        if verdicts is None:
            pytest.skip(judge.reason)
    assert [verdict.passed for verdict in verdicts] == [True, True, False, False]
    assert "line 2 of the program" in verdicts[2].detail
    assert "line 2 of the program: `def f(self, x)`" in verdicts[3].detail


RESULTS: list[tuple[str, list[object], object, bool]] = [
    ("def f(x): return x[1]", [{"1": "a"}], "a", True),
    ("def f(x): return x['1']", [{"1": "a"}], "a", False),
    ("def f(x): return x['b']", [{"1": 1, "b": 2}], 2, True),  # not all are numbers
    ("def f(x, y): return x['1'] + y", [{"1": 1}, 2], 3, True),  # not the only argument
    ("def f(): return {1: [2]}", [], {"1": [2]}, True),
    ("def f(): return {1: [2]}", [], [{"1": [2]}], True),
    ("def f(): return {'1': [2]}", [], {"1": [2]}, False),
    ("def f(): return {'a': 1}", [], {"a": 1}, True),
    ("def f(): return {}", [], {}, True),
    ("def f(): return [(1, 2), (3, 4)]", [], [[[1, 2], [3, 4]]], True),
    ("def f(): return ((1, 2), (3, 4))", [], [[[1, 2], [3, 4]]], True),
    ("def f(): return [(1, 2), (3, 5)]", [], [[[1, 2], [3, 4]]], False),
    ("def f(): return [(1, 2), (3, 4)]", [], [[1, 2], [3, 4]], False),  # nor in the script
    ("def f(): return (1, 2)", [], [1, 2], True),
    ("def f(): return 1", [], [1, 2], False),  # right in the script
    ("def f(): return [(1,), 2]", [], [[[1], 2]], False),
    ("def f(x): return x[0] == x[0], x[1]", [[float("nan"), "nan info"]], [False, "nan info"], True),
]
"""A function, its arguments, the result in the set, whether that is right."""


def test_results_of_functions_are_compared_as_in_the_set_s_own_script() -> None:
    found = passed([called(code, given, output) for code, given, output, _ in RESULTS])
    assert [(*row[:3], right) for row, right in zip(RESULTS, found, strict=True)] == RESULTS


def test_lines_in_a_list_are_read_and_expected_as_lines(found: Found) -> None:
    tests = {"inputs": [["1 2", "3 4"], [5, "6 7"]], "outputs": [["3", "7"], [12]]}
    question = "Add up.\n\nInput\n1 2\n3 4\n\nOutput\n3\n7\n"
    row = {**ROWS[0], "question": question, "input_output": json.dumps(tests)}
    found.path.write_text(json.dumps(row) + "\n")
    (contest,) = load_apps(found)
    assert contest.public == 1
    programs = contest_programs(contest, "print(1)")
    assert [program.stdin for program in programs] == ["1 2\n3 4", "5\n6 7"]
    adding = "a, b = map(int, input().split())\nprint(a + b)\nc, d = map(int, input().split())\nprint(c + d)\n"
    with Judge() as judge:
        verdicts = judge.run(contest_programs(contest, adding)[:1])
        if verdicts is None:
            pytest.skip(judge.reason)
    assert verdicts[0].passed


def test_numbers_that_are_close_are_equal_and_whole_ones_are_counted() -> None:
    printed = {
        ("0.5", "0.50\n"): True,
        ("a 0.333333", "a 0.33333334"): True,
        ("3.0", "3"): True,
        ("1e-9", "0.0"): True,
        ("0.3334", "0.3333"): False,
        ("b 0.5", "a 0.5"): False,
        ("0.5 0.5", "0.5"): False,
        ("1000000007", "1000000008"): False,
        ("5.0", "inf"): False,
        ("nan", "5.0"): False,
    }
    programs = [contest_programs(Contest("x", "", [("", wanted)], 0), f"print({out!r})")[0] for out, wanted in printed]
    with Judge() as judge:
        verdicts = judge.run(programs)
        if verdicts is None:
            pytest.skip(judge.reason)
    assert [verdict.passed for verdict in verdicts] == list(printed.values())
    assert "0.3334" in verdicts[4].detail


def test_the_harness_prompts_to_the_byte_and_stops_where_it_does(found: Found) -> None:
    reading, calling = load_apps(found)
    recipe = AppsRecipe(protocol="harness")
    assert contest_item(reading, recipe).asked.prompt == (
        "\nQUESTION:\nPrint the double.\n\nExample\n\nInput\n3\n\nOutput\n6\n\nUse Standard Input format\nANSWER:\n"
    )
    assert contest_item(calling, recipe).asked.prompt == (
        "\nQUESTION:\nReturn the sum.class Solution:\n    def add(self, a, b):\n\nUse Call-Based format\nANSWER:\n"
    )
    assert recipe.stop == ("\nQUESTION", "\n---", "\nANSWER")


def test_filtered_pass_at_k_is_over_the_samples_that_pass_the_public_tests(
    found: Found, marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer
) -> None:
    """Each sample becomes a program by its number: two are wrong at once, one in secret, one is right."""
    reading, _ = load_apps(found)
    codes = iter(["print(1)", "print(6)", "print(2 * int(input()))", "oops("])
    recipe = AppsRecipe(samples=4, k=(1, 2), temperature=1.0, max_tokens=2, shots=0)
    item = contest_item(reading, recipe)
    numbered = [type(item)(item.id, item.asked, lambda _text: contest_programs(reading, next(codes)), item.public)]
    (group,) = program_groups("apps/introductory", numbered, recipe, 0)
    with Judge() as judge:
        (row,) = finished(group.run(LocalSubject(tiny_model, marked[0]), judge))
        if judge.reason:
            pytest.skip(judge.reason)
    assert sorted(verdict["public"] for verdict in row.verdicts) == ["failed", "failed", "passed", "passed"]
    assert row.measures["pass@1"] == 0.25
    assert row.measures["pass@1 filtered"] == 0.5
    assert row.measures["pass@2 filtered"] == 1.0


def test_two_solved_problems_stand_before_the_problem_and_are_right(found: Found) -> None:
    reading, _ = load_apps(found)
    prompt = contest_prompt(reading, 2)
    assert prompt.count("\nQUESTION:\n") == 3 and prompt.count("\nANSWER:\n") == 3
    assert prompt.endswith("Use Standard Input format\nANSWER:\n")
    assert contest_prompt(reading, 0) in prompt
    codes = [part.partition("\n---")[0] for part in prompt.split("\nANSWER:\n")[1:3]]
    shown = [("3\n1 2 3\n", ["6"]), ("2\nabba\nab\n", ["YES", "NO"])]
    with Judge() as judge:
        for code, (given, wanted) in zip(codes, shown, strict=True):
            contest = type(reading)("x", "", [(given, " ".join(wanted))], 0)
            verdicts = judge.run(contest_programs(contest, code))
            if verdicts is None:
                pytest.skip(judge.reason)
            assert verdicts[0].passed


def test_the_stand_in_is_named_as_one(published_data: Path) -> None:
    data = Data(published_data)
    groups = apps.TASK.groups(AppsRecipe(stand_in=True), Given(data, 0))
    assert sum(group.items for group in groups) == 20
    assert data.found[apps.CONTESTS.path].told()["stand_in"]
    contests = list(apps.load_contests(data.find(apps.CONTESTS)))
    assert sum(contest.public > 0 for contest in contests) >= 10
    programs = cast("list[Program]", contest_item(contests[0], AppsRecipe()).program("print(1)"))
    assert len(programs) == len(contests[0].tests) > 50

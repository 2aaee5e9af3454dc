from __future__ import annotations

import ast
import difflib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codecria
from codecria.sandbox.mutation import mutants
from codecria.sandbox.runner import open_sandbox
from codecria.sandbox.verdict import Program

SOURCE = '''\
def clamp(values: list[int], low=0, high=10):  # é: bytes are not characters
    """Keeps 3 < 4 as it is."""
    kept = []
    for value in values:
        if value < low or (value  # a < comment
                           > high):
            continue
        kept.append(value + 1 if value not in (1, 2) else -value)
    return kept
'''
EXPECTED = {
    "value <= low or",
    "value < low and (value",
    ">= high",
    "not (value < low or (value  # a < comment\n                           > high)):",
    "            pass\n",
    "value - 1 if",
    "value + 2 if",
    "value + 0 if",
    "if value in (1, 2)",
    "else value)",
    "return None",
    "low=1, high",
    "low=-1, high",
    "high=11)",
    "        pass\n    return",
    "    pass\n    for",
}


def test_each_operator_makes_its_mutant_and_leaves_all_else_alone() -> None:
    found = mutants(SOURCE, 0)
    for wanted in EXPECTED:
        assert any(wanted in each for each in found), wanted
    assert all("Keeps 3 < 4 as it is." in each and "list[int]" in each and "a < comment" in each for each in found)
    for each in found:
        blocks = difflib.SequenceMatcher(None, SOURCE, each, autojunk=False).get_opcodes()
        changed = [block for block in blocks if block[0] != "equal"]
        assert changed and changed[-1][2] - changed[0][1] < 100, "one place"


def test_the_seed_draws_the_order_not_the_mutants() -> None:
    first, again, other = mutants(SOURCE, 1), mutants(SOURCE, 1), mutants(SOURCE, 2)
    assert first == again
    assert first != other and sorted(first) == sorted(other)
    assert len(set(first)) == len(first)


FILES = sorted(Path(codecria.__file__).parent.glob("common/*.py"))


@given(st.sampled_from(FILES), st.integers(0, 3))
@settings(max_examples=8, deadline=None)
def test_mutants_of_real_files_are_other_programs(path: Path, seed: int) -> None:
    source = path.read_text()
    tree = ast.dump(ast.parse(source))
    found = mutants(source, seed)
    assert all(ast.dump(ast.parse(each)) != tree for each in found[:40])
    if "def " in source:
        assert len(found) > 5


def test_most_mutants_of_a_tested_function_fail_its_tests() -> None:
    tests = "assert clamp([-1, 0, 1, 2, 5, 10, 11]) == [1, -1, -2, 6, 11]\nassert clamp([3], 3, 3) == [4]\n"
    found = mutants(SOURCE, 0)
    with open_sandbox() as sandbox:
        assert sandbox.run(Program(SOURCE, tests)).passed
        failed = sum(not verdict.passed for verdict in sandbox.run_many(Program(each, tests) for each in found))
    assert failed >= 0.9 * len(found)


def test_what_is_no_python_is_refused_and_nothing_to_change_gives_nothing() -> None:
    with pytest.raises(SyntaxError):
        mutants("def f(:\n", 0)
    assert mutants("", 0) == []
    assert mutants('"""Only words."""\n', 0) == []

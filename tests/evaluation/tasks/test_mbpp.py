from __future__ import annotations

import ast
from typing import TYPE_CHECKING, cast

import pytest

from codecria.corpus.evaluation_sets import read_rows
from codecria.evaluation.data import Data
from codecria.evaluation.judge import Judge
from codecria.evaluation.task import Given
from codecria.evaluation.tasks import mbpp, mbpp_plus
from codecria.evaluation.tasks.mbpp import MbppRecipe, exercise_item, load_exercises
from codecria.evaluation.tasks.plus import LIMITS, typed_inputs
from codecria.sandbox.verdict import Program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from codecria.evaluation.tasks.mbpp import Exercise
    from codecria.sandbox.limits import Limits


@pytest.fixture(scope="module")
def exercises(published_data: Path) -> dict[int, Exercise]:
    return load_exercises(Data(published_data).find(mbpp.MBPP).path)


@pytest.fixture(scope="module")
def plus(published_data: Path, exercises: dict[int, Exercise]) -> list[Exercise]:
    rows = list(read_rows(Data(published_data).find(mbpp_plus.MBPP_PLUS).path))
    return mbpp_plus.load_plus(rows, exercises)


def stub(code: str) -> str:
    """Everything the code defines, doing nothing."""
    nodes = [node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return "".join(f"def {node.name}(*args, **more):\n    return None\n" for node in nodes)


def odd(exercises: Sequence[Exercise], limits: Limits | None = None) -> tuple[list[int], list[int]]:
    """Tasks whose reference fails, and tasks whose stub passes."""
    with Judge() as judge:
        right = judge.run([Program(each.code, each.tests, each.entry_point) for each in exercises], limits)
        wrong = judge.run([Program(stub(each.code), each.tests, each.entry_point) for each in exercises], limits)
        if right is None or wrong is None:
            pytest.skip(judge.reason)
    failed = [each.number for each, verdict in zip(exercises, right, strict=True) if not verdict.passed]
    return failed, [each.number for each, verdict in zip(exercises, wrong, strict=True) if verdict.passed]


def test_references_pass_and_stubs_fail(exercises: dict[int, Exercise]) -> None:
    chosen = [exercises[number] for number in (56, 126, *range(2, 975, 40))]  # 56 is named `check`, 126 `sum`
    assert odd(chosen) == ([], [])


def test_references_of_mbpp_plus_pass_and_stubs_fail(plus: list[Exercise]) -> None:
    """Those whose inputs hold tuples, sets, nested tuples, complex numbers; that compare as sets, or as matches."""
    hard = {2, 63, 115, 124, 164, 252, 278, 295, 580, 737, 787, 794}
    chosen = [each for each in plus if each.number in hard]
    assert len(chosen) >= 11
    assert odd(chosen, LIMITS) == ([], [])


@pytest.mark.slow
def test_all_references_pass_and_all_stubs_fail(exercises: dict[int, Exercise], plus: list[Exercise]) -> None:
    failed, passed = odd(list(exercises.values()))
    assert set(failed) <= {123} and passed == [], "123 takes more than 3 s of a processor"
    failed, passed = odd(plus, LIMITS)
    assert set(failed) <= {255, 599} and passed == [], "255 and 599 take more than 60 s on a busy machine"


def test_the_three_shot_prompt_is_tasks_2_3_4_and_the_task(exercises: dict[int, Exercise]) -> None:
    shots = [exercises[number] for number in mbpp.SHOTS]
    item = exercise_item(exercises[11], shots, MbppRecipe())
    prompt = item.asked.prompt
    assert prompt is not None
    assert prompt.count("You are an expert Python programmer, and here is your task:") == 4
    assert prompt.count("[BEGIN]\n") == 4 and prompt.count("[DONE]\n") == 3
    assert prompt.endswith("\n[BEGIN]\n") and "\r" not in prompt
    assert all(each in prompt for each in (*exercises[11].shown, exercises[2].code, exercises[4].code))
    zero = exercise_item(exercises[11], shots, MbppRecipe(protocol="zero-shot")).asked.prompt
    assert zero is not None and prompt.endswith(zero) and zero.count("[BEGIN]") == 1


def test_other_layouts(exercises: dict[int, Exercise]) -> None:
    task = exercises[11]
    harness = exercise_item(task, [], MbppRecipe(protocol="harness"))
    assert harness.asked.prompt == f'"""\n{task.text}\n{task.shown[0]}\n"""\n'
    chat = exercise_item(task, [], MbppRecipe(protocol="instruct"))
    assert chat.asked.messages is not None and "[/PYTHON]" in chat.asked.messages[0]["content"]
    for answer in (
        "Sure:\n[PYTHON]\nx = 1\n[/PYTHON] done",
        "```python\nx = 1\n```",
        "[PYTHON]\n```python\nx = 1\n```\n[/PYTHON]",
    ):
        program = cast("Program", chat.program(answer))
        assert program.code.strip() == "x = 1"
    assert chat.program("I cannot.") is None


def test_tasks_11_to_510_are_asked(published_data: Path) -> None:
    groups = mbpp.TASK.groups(MbppRecipe(group_items=100), Given(Data(published_data), 0))
    assert [group.items for group in groups] == [100] * 5
    groups = mbpp_plus.TASK.groups(mbpp_plus.MbppPlusRecipe(), Given(Data(published_data), 0))
    assert sum(group.items for group in groups) == 396, "399 without the shots"


def test_types_that_json_lacks_are_read_off_the_assertions() -> None:
    tests = "assert f((1, 2), {3}, [(1, 'a')], 1j) == 1\nassert f((4, (5,)), {6}, [], 2) == 2\n"
    (found,) = typed_inputs(tests, "f", [[[1, [2, [3]]], [4], [[5, "6"], []], "1+2j"]])
    assert found == [(1, (2, (3,))), {4}, [(5, "6"), ()], 1 + 2j]
    assert typed_inputs("assert f(g(1)) == 2\n", "f", [[[1]]]) == [[[1]]]

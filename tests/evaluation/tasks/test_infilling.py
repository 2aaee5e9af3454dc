from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from codecria.evaluation.data import Data
from codecria.evaluation.judge import Judge
from codecria.evaluation.subject import LocalSubject, prompt_hash
from codecria.evaluation.task import Given
from codecria.evaluation.tasks.human_eval_infilling import (
    TASK,
    InfillingRecipe,
    load_spans,
    span_item,
    with_line_end_behind,
)
from codecria.evaluation.tasks.lines import human_eval_lines
from codecria.evaluation.tasks.problems import load_problems
from codecria.infill.layout import infill_prompt
from tests.evaluation.rows import finished

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.evaluation.tasks.human_eval_infilling import Benchmark
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.sandbox.verdict import Program
    from codecria.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def data(published_data: Path) -> Data:
    return Data(published_data)


@pytest.mark.parametrize(
    ("benchmark", "spans"), [("single_line", 1033), ("multi_line", 5815), ("random_span_light", 164)]
)
def test_true_middles_pass_and_missing_ones_mostly_fail(data: Data, benchmark: Benchmark, spans: int) -> None:
    every = load_spans(data, benchmark)
    assert len(every) == spans
    chosen = every[:: spans // 30]
    items = [span_item(span, "psm", trim=False) for span in chosen]
    right = [cast("Program", item.program(span.truth)) for item, span in zip(items, chosen, strict=True)]
    with Judge() as judge:
        verdicts = judge.run(right)
        without = judge.run([cast("Program", item.program("")) for item in items])
        if verdicts is None or without is None:
            pytest.skip(judge.reason)
    assert all(verdict.passed for verdict in verdicts)
    assert sum(verdict.passed for verdict in without) < len(without) / 3
    assert all(
        item.more is not None and item.more(span.truth)["exact_match"] for item, span in zip(items, chosen, strict=True)
    )


def test_derived_single_lines_are_the_published_ones(data: Data) -> None:
    published = {span.id: span for span in load_spans(data, "single_line")}
    for line in human_eval_lines(load_problems()):
        span = published[line.id]
        assert (line.prefix, f"{line.middle}\n") == (span.prefix, span.truth)
        assert line.suffix in ("", f"\n{span.suffix}".rstrip("\n"), f"\n{span.suffix}")


@pytest.mark.parametrize("benchmark", ["single_line", "multi_line", "random_span_light"])
def test_as_served_a_line_end_stands_behind_the_cursor(data: Data, benchmark: Benchmark) -> None:
    for span in load_spans(data, benchmark):
        moved = with_line_end_behind(span)
        assert moved.truth + moved.suffix == span.truth + span.suffix and not moved.truth.endswith("\n\n")
        assert span.truth == moved.truth or (span.truth == f"{moved.truth}\n" and moved.suffix[0] == "\n")
    assert InfillingRecipe(protocol="served").line_end == "suffix" and InfillingRecipe().line_end == "middle"


def test_both_orders_are_asked_with_the_library_s_ids_and_a_missing_file_has_a_row(
    data: Data, marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer
) -> None:
    tokenizer, sentinels = marked
    subject = LocalSubject(tiny_model, tokenizer)
    recipe = InfillingRecipe(benchmarks=("random_span_light", "random_span"), items=2, max_tokens=3)
    groups = TASK.groups(recipe, Given(data, 0))
    with Judge(enabled=False) as judge:
        rows = [row for group in groups for row in finished(group.run(subject, judge))]
    assert [(row.task.partition("/")[2], row.method) for row in rows] == [
        ("random_span_light", "psm"),
        ("random_span_light", "psm"),
        ("random_span_light", "spm"),
        ("random_span_light", "spm"),
        ("random_span", "none"),
    ]
    assert "HumanEval infilling, RandomSpan is not here" in rows[-1].not_run["pass@1"]
    spans = {span.id: span for span in load_spans(data, "random_span_light")}
    for row in rows[:4]:
        span = spans[row.id]
        order = "psm" if row.method == "psm" else "spm"
        ids = infill_prompt(tokenizer, sentinels, span.prefix, span.suffix, order)
        assert row.prompt_sha256 == prompt_hash(ids)
        assert set(row.measures) == {"exact_match", "edit_similarity"}

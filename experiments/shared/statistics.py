"""What a few paired seeds can tell: mean difference, its interval, and the smallest effect they would have shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from codecria.evaluation.intervals import difference_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEVEL, _POWER = 0.95, 0.8


def over_seeds(differences: Sequence[float]) -> dict[str, Any]:
    """Of one difference a seed: the mean, Student's 95 % interval, and the detectable effect.

    `detectable` is the size of a true difference that so many seeds with this spread would find (two-sided, 5 %) in
    four of five tries. With one seed there is a mean alone.
    """
    count = len(differences)
    found: dict[str, Any] = {"mean": float(np.mean(differences)), "by_seed": list(differences)}
    if count > 1:
        spread = float(np.std(differences, ddof=1)) / count**0.5
        reach = float(stats.t.ppf(0.5 + _LEVEL / 2, count - 1))
        found["low"], found["high"] = found["mean"] - reach * spread, found["mean"] + reach * spread
        found["detectable"] = (reach + float(stats.t.ppf(_POWER, count - 1))) * spread
    return found


def over_items(after: np.ndarray, before: np.ndarray, weights: np.ndarray | None, *key: str) -> dict[str, Any]:
    """Of items [S, N], the same ones for S paired seeds: the difference of seed means and its interval over items.

    It says how far the items stand for others, with these trained models; not how far the seeds do.
    """
    each = None if weights is None else weights.tolist()
    sides = [(side.mean(axis=0).tolist(), each) for side in (after, before)]
    found = difference_interval(sides[0], sides[1], *key)
    return {"mean": found.value, "low": found.low, "high": found.high, "items": found.items}


def over_both(name: str, after: np.ndarray, before: np.ndarray, weights: np.ndarray, *key: str) -> dict[str, Any]:
    """Of pieces [S, N] for S paired seeds: the difference over seeds and over pieces, printed under a name."""
    by_seed = np.average(after - before, axis=1, weights=weights).tolist()
    found = {"seeds": over_seeds(by_seed), "pieces": over_items(after, before, weights, *key)}
    print(f"{name}: seeds {shown(found['seeds'], 4)}  pieces {shown(found['pieces'], 4)}")
    return found


def shown(found: dict[str, Any], digits: int = 3) -> str:
    """`0.123 (0.100 to 0.146)`."""
    if "low" not in found:
        return f"{found['mean']:+.{digits}f}"
    return f"{found['mean']:+.{digits}f} ({found['low']:+.{digits}f} to {found['high']:+.{digits}f})"

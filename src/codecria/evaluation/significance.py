"""Whether two runs differ on the same items by more than chance: the exact sign test, McNemar's of right and wrong.

A bootstrap interval of the mean difference says how large a change is; with few changed items its ends are rough, and
this test is exact whatever their number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def sign_test(after: Sequence[float], before: Sequence[float]) -> float:
    """The chance of changes at least so one-sided if up and down were equally likely, two-sided: p.

    Items that did not change tell nothing and are left out. For values that are 0 or 1 this is McNemar's exact test.

    Args:
        after: a value an item.
        before: the same items' in the same order.

    Returns:
        1.0 where nothing changed.
    """
    up = sum(a > b for a, b in zip(after, before, strict=True))
    down = sum(a < b for a, b in zip(after, before, strict=True))
    changed = up + down
    ways = tail = 1
    for count in range(min(up, down)):
        ways = ways * (changed - count) // (count + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << changed))

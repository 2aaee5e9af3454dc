"""Peer and ours in turn, in one process; the last line printed is the result as JSON."""

from __future__ import annotations

import json
import platform
import statistics
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def compare(
    ours: Callable[[], float],
    peer: Callable[[], float],
    *,
    unit: str,
    peer_name: str,
    packages: list[str],
    pairs: int = 5,
) -> dict[str, Any]:
    """Run peer and ours alternately after one warm-up each.

    Args:
        ours: does the work and returns how many units it did.
        peer: the same for the peer.
        unit: what a rate counts (`tokens_per_s`, `bytes_per_s`).
        peer_name: the peer, with its settings.
        packages: whose versions are reported.
        pairs: counted runs of each.

    Returns:
        The printed object. `ratio` is the median over pairs of our rate divided by the peer's: above 1 is better.
    """
    ours(), peer()
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(pairs):
        for name, run in (("peer", peer), ("ours", ours)):
            began = time.perf_counter()
            done = run()
            rates[name].append(done / (time.perf_counter() - began))
    ratios = [mine / theirs for mine, theirs in zip(rates["ours"], rates["peer"], strict=True)]
    result = {
        "ratio": round(statistics.median(ratios), 3),
        "ours": round(statistics.median(rates["ours"]), 2),
        "peer": round(statistics.median(rates["peer"]), 2),
        "unit": unit,
        "peer_name": peer_name,
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }
    print(json.dumps(result))
    return result

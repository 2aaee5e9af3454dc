"""How long a thing takes, for tests that compare two on a machine that may have other work."""

import time
from collections.abc import Callable


def quickest_s(work: Callable[[], object], times: int = 5) -> float:
    """Seconds of the quickest of several runs."""

    def seconds() -> float:
        started_s = time.perf_counter()
        work()
        return time.perf_counter() - started_s

    return min(seconds() for _ in range(times))

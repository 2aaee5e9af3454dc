"""pass@k without bias (Chen et al. 2021, "Evaluating Large Language Models Trained on Code", section 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from codecria.common.errors import CodecriaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def pass_at_k(samples: Sequence[int], correct: Sequence[int], k: int) -> NDArray[np.float64]:
    """The chance that at least one of k samples drawn without replacement is right, for each task.

    1 - C(n - c, k) / C(n, k), computed as 1 - Π_{j<k} (n - c - j) / (n - j): no factorial, no overflow. Where fewer
    than k samples are wrong one factor is 0 and the result is exactly 1; where none is right it is exactly 0.

    Args:
        samples: n of each task.
        correct: c of each task, 0 ≤ c ≤ n.
        k: samples drawn; at most the smallest n.

    Returns:
        float64, one value a task.

    Raises:
        CodecriaError: k is less than 1 or above a task's n, or a c lies outside 0…n.
    """
    n_T1 = np.asarray(samples, dtype=np.int64)[:, None]
    c_T1 = np.asarray(correct, dtype=np.int64)[:, None]
    if n_T1.shape != c_T1.shape:
        raise CodecriaError(f"{len(n_T1)} sample counts but {len(c_T1)} counts of right ones", where="pass@k")
    if k < 1 or bool((n_T1 < k).any()):
        fewest = int(n_T1.min())
        raise CodecriaError(f"k = {k}, but a task has {fewest} samples", where="pass@k", mend=f"draw {k} or more")
    if bool(((c_T1 < 0) | (c_T1 > n_T1)).any()):
        raise CodecriaError("a task has more right samples than samples, or fewer than none", where="pass@k")
    j_1k = np.arange(k, dtype=np.int64)[None, :]
    wrong_Tk = np.maximum(n_T1 - c_T1 - j_1k, 0)
    return 1.0 - np.prod(wrong_Tk / (n_T1 - j_1k), axis=1)

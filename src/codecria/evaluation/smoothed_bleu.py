"""Smoothed BLEU-4 of one sentence, as CodeXGLUE scores code-to-text with it."""

from __future__ import annotations

import math
import re
from collections import Counter

_TOKEN = re.compile(r"[^\W_]+|_|[^\w\s]")
_ORDERS = 4


def bleu_tokens(text: str) -> list[str]:
    """Words and single marks, in lower case. An underscore is a mark: `max_len` is three tokens."""
    return _TOKEN.findall(text.lower())


def smoothed_bleu(output: str, truth: str) -> float:
    """Between 0 and 1; 0 where no token is shared.

    The geometric mean of the precisions of 1- to 4-grams, with 1 added to both counts from the 2-grams on (Lin and Och
    2004), times a brevity penalty of exp(1 - (reference + 1) / (output + 1)). A corpus' figure is the mean over its
    texts, as in CodeXGLUE's `evaluator.py` for code-to-text, not BLEU over summed counts. Equal to that script's except
    for an empty output, which it gives the bare brevity penalty: up to 0.37.
    """
    written, expected = bleu_tokens(output), bleu_tokens(truth)
    logarithm = 0.0
    for order in range(1, _ORDERS + 1):
        shared = sum((_grams(written, order) & _grams(expected, order)).values())
        possible = max(len(written) - order + 1, 0)
        added = 1 if order > 1 else 0
        if shared + added == 0:
            return 0.0
        logarithm += math.log((shared + added) / (possible + added)) / _ORDERS
    brevity = min(0.0, 1 - (len(expected) + 1) / (len(written) + 1))
    return math.exp(logarithm + brevity)


def _grams(tokens: list[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))

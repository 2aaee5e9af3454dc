"""How near a generated text is to the true one: exact match and edit similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def exact_match(output: str, truth: str) -> bool:
    """Whether the two are equal once blanks and line ends are taken off their ends. The indentation counts."""
    return output.rstrip() == truth.rstrip()


def edit_similarity(output: str, truth: str) -> float:
    """1 - Levenshtein distance / length of the longer text, in characters; 1.0 for two empty texts."""
    longest = max(len(output), len(truth))
    return 1.0 if longest == 0 else 1.0 - edit_distance(output, truth) / longest


def line_similarity(output: str, truth: str) -> float:
    """`fuzz.ratio` of thefuzz and rapidfuzz, as a share: in whole percent, 0 where either text is empty.

    That is 1 - d / (both lengths), where d counts insertions and deletions: a substitution is one of each.
    """
    both = len(output) + len(truth)
    if not output or not truth:
        return 0.0
    return round(100 * (1.0 - edit_distance(output, truth, substitution=2) / both)) / 100


def edit_distance(first: str, second: str, substitution: int = 1) -> int:
    """Levenshtein distance in Unicode characters: insertions and deletions cost 1 each, substitutions as said.

    One NumPy row a character of the shorter text. Within a row, min over i ≤ j of t[i] + (j - i) is a running
    minimum of t[i] - i, so the insertions need no loop.
    """
    first, second = _without_shared_ends(first, second)
    if len(first) > len(second):
        first, second = second, first
    if not first:
        return len(second)
    columns = _code_points(second)
    offsets = np.arange(len(second) + 1, dtype=np.int64)
    row = offsets.copy()
    for number, character in enumerate(_code_points(first), start=1):
        step = np.empty_like(row)
        step[0] = number
        np.minimum(row[1:] + 1, row[:-1] + substitution * (columns != character), out=step[1:])
        row = np.minimum.accumulate(step - offsets) + offsets
    return int(row[-1])


def _without_shared_ends(first: str, second: str) -> tuple[str, str]:
    """Both texts without the start and the end they share; the distance does not change."""
    shortest = min(len(first), len(second))
    start = 0
    while start < shortest and first[start] == second[start]:
        start += 1
    stop = 0
    while stop < shortest - start and first[-1 - stop] == second[-1 - stop]:
        stop += 1
    return first[start : len(first) - stop], second[start : len(second) - stop]


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)

"""Cutting documents into pieces that fit a sequence, at line ends, by character offsets."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Piece(NamedTuple):
    """A run of whole lines of one document: `text[start:stop]`, and its plain token count (no BOS, no end)."""

    start: int
    stop: int
    tokens: int


def cut_documents(
    texts: Sequence[str],
    longest: int,
    encode: Callable[[list[str]], list[list[int]]],
    token_bytes: np.ndarray,
    *,
    even: bool,
) -> list[list[Piece]]:
    """Cut texts into pieces of at most `longest` tokens; joined, the pieces of a text are the text.

    A text that fits is encoded once and stays whole. Of a longer one the tokens' lengths tell where lines end in
    tokens; its pieces are encoded once more, because a cut may change the count by a few. Only a line that does not
    fit is cut inside.

    Args:
        texts: the documents.
        longest: most tokens of a piece.
        encode: ids of many texts at once.
        token_bytes: [V], bytes of each id.
        even: pieces of like size; else each as long as fits and a rest, which wastes less room where a piece may
            fill a sequence.
    """
    found: list[list[Piece]] = [[] for _ in texts]
    pending = [(number, 0, len(text)) for number, text in enumerate(texts) if text]
    while pending:
        counted = encode([texts[number][start:stop] for number, start, stop in pending])
        longer: list[tuple[int, int, int]] = []
        for (number, start, stop), ids in zip(pending, counted, strict=True):
            if len(ids) <= longest:
                found[number].append(Piece(start, stop, len(ids)))
            else:
                cuts = [start + cut for cut in _cuts(texts[number][start:stop], token_bytes[ids], longest, even)]
                longer += [(number, *part) for part in pairwise([start, *cuts, stop])]
        pending = longer
    return [sorted(pieces) for pieces in found]


def _cuts(text: str, sizes: np.ndarray, longest: int, even: bool) -> Iterator[int]:
    """Offsets, in characters, at which a text of len(sizes) tokens is cut."""
    most = longest - min(4, longest // 16)  # a cut may add tokens on both of its sides
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    ends = np.cumsum(sizes, dtype=np.int64)
    ends = ends * len(data) // ends[-1]  # an implicit leading space is no byte of the text
    lines = np.concatenate([[0], np.flatnonzero(data == ord("\n")) + 1])
    begins = (data & 0xC0) != 0x80
    characters = np.cumsum(begins)
    start = taken = 0
    while (left := len(sizes) - taken) > most:
        goal = -(-left // -(-left // most)) if even else most
        stop = min(int(ends[taken + goal - 1]), len(data) - 1)
        cut = int(lines[np.searchsorted(lines, stop, side="right") - 1])
        if cut <= start:  # one line does not fit: at the last character that does, or after the first
            inside = np.flatnonzero(begins[start + 1 : stop + 1])
            behind = inside[-1:] if len(inside) else np.flatnonzero(begins[start + 1 : start + 5])[:1]
            if not len(behind):
                return
            cut = start + 1 + int(behind[0])
        yield int(characters[cut - 1])
        start, taken = cut, int(np.searchsorted(ends, cut, side="right"))

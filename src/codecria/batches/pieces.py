"""Cutting documents into pieces that fit a sequence, at line ends, by character offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Piece(NamedTuple):
    """A run of whole lines of one document: `text[start:stop]`, and its plain token count (no BOS, no end)."""

    start: int
    stop: int
    tokens: int


def cut_document(text: str, longest: int, count: Callable[[str], int]) -> list[Piece]:
    """Cut a text into pieces of at most `longest` tokens.

    A text that fits stays whole. A longer one is halved at the line end nearest its middle until every part fits, so
    parts are of like size; a single line that is too long is halved at characters. Neighbouring parts that fit
    together are joined again. Pieces cover the text: joined, they are the text.
    """
    pieces: list[Piece] = []
    for piece in _halve(text, 0, len(text), longest, count):
        if pieces and pieces[-1].tokens + piece.tokens <= longest:
            start = pieces[-1].start
            tokens = count(text[start : piece.stop])
            if tokens <= longest:
                pieces[-1] = Piece(start, piece.stop, tokens)
                continue
        pieces.append(piece)
    return pieces


def _halve(text: str, start: int, stop: int, longest: int, count: Callable[[str], int]) -> Iterator[Piece]:
    tokens = count(text[start:stop])
    if tokens <= longest:
        if stop > start:
            yield Piece(start, stop, tokens)
        return
    middle = (start + stop) // 2
    after = text.find("\n", middle, stop - 1)
    before = text.rfind("\n", start, middle)
    candidates = [end + 1 for end in (before, after) if end >= 0 and start < end + 1 < stop]
    cut = min(candidates, key=lambda end: abs(end - middle), default=middle)
    yield from _halve(text, start, cut, longest, count)
    yield from _halve(text, cut, stop, longest, count)

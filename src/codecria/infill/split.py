"""Where a document is cut in three. Every draw is keyed, so a document's split does not depend on its neighbours."""

from __future__ import annotations

import re
import struct
from itertools import accumulate, count
from typing import TYPE_CHECKING, Literal

import numpy as np

from codecria.common.random import digest
from codecria.infill.layout import Split
from codecria.infill.syntax import node_around

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from codecria.common.random import Key
    from codecria.infill.layout import Encoder

Unit = Literal["character", "token", "line", "syntax"]

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
"""A line as editors count them: ended by a line feed alone, not by the other breaks `str.splitlines` knows."""
_MORE_LINES = 0.1
_MAX_LINES = 4


class Draws:
    """Uniform numbers one after another from one key: four of each digest, where a digest a draw costs five times that.

    Args:
        key: what every number depends on, and all it depends on.
    """

    def __init__(self, *key: Key) -> None:
        self._words: Iterator[int] = (
            word for block in count() for word in struct.unpack("<4Q", digest(*key, "draws", block))
        )

    def uniform(self) -> float:
        """A number in [0, 1), with 53 random bits."""
        return (next(self._words) >> 11) * 2.0**-53

    def integer(self, bound: int) -> int:
        """An integer in [0, bound); no value is likelier than another by more than `bound` parts in 2**64."""
        return (next(self._words) * bound) >> 64


def split_document(
    text: str, units: Mapping[Unit, float], draws: Draws, encoder: Encoder, language: str | None = None
) -> Split:
    """Cut by a unit drawn by its share.

    `character` is the paper's, `token` cuts between the encoder's tokens alone, `line` is what an editor asks for,
    `syntax` a node of the syntax tree. Where there is no such node (a language without a grammar, text the grammar
    cannot read) `syntax` is `line`.
    """
    names = sorted(units)
    reached = list(accumulate(units[name] for name in names))
    drawn = draws.uniform() * reached[-1]
    unit = next((name for name, end in zip(names, reached, strict=True) if drawn < end), names[-1])
    if unit == "character":
        return split_characters(text, draws)
    if unit == "token":
        return split_tokens(text, encoder, draws)
    node = None if unit == "line" else node_around(text, language, draws)
    return split_lines(text, draws) if node is None else node


def split_characters(text: str, draws: Draws) -> Split:
    """Two cuts, independent and uniform over the document's characters (paper §2.3); parts may be empty."""
    start, stop = sorted(draws.integer(len(text) + 1) for _ in range(2))
    return Split(text[:start], text[start:stop], text[stop:])


def split_tokens(text: str, encoder: Encoder, draws: Draws) -> Split:
    """Two cuts, independent and uniform over the borders of the text's tokens (Bavarian et al. 2022, Table 2).

    Both ends of the text are borders; a border inside a character, which a byte-level vocabulary has, is none. Models
    trained so never see a cursor inside a token; it is here to be compared with.
    """
    begins = (np.frombuffer(text.encode(), np.uint8) & 0xC0) != 0x80  # bytes that begin a character
    characters = np.append(np.flatnonzero(begins), len(begins))
    sizes = [len(encoder.token_bytes(id)) for id in encoder.encode_infilling(text)]
    places = np.flatnonzero(np.isin(characters, np.append(0, np.cumsum(sizes))))
    start, stop = sorted(int(places[draws.integer(len(places))]) for _ in range(2))
    return Split(text[:start], text[start:stop], text[stop:])


def split_lines(text: str, draws: Draws) -> Split:
    """A middle as an editor asks for it: from a place in a line to the end of that line or one of the next few.

    The line is uniform among those with text. The middle begins at the line's first column (half of the draws),
    after its indentation (a quarter) or at a uniform column (a quarter); it spans one line with probability 9/10 and
    never more than four. The line end after it belongs to the suffix. A document without text is cut at characters.
    """
    lines: list[str] = _LINE.findall(text)
    filled = [number for number, line in enumerate(lines) if line.strip()]
    if not filled:
        return split_characters(text, draws)
    first = filled[draws.integer(len(filled))]
    last = first
    while last - first + 1 < _MAX_LINES and last + 1 < len(lines) and draws.uniform() < _MORE_LINES:
        last += 1
    line = lines[first]
    place = draws.uniform()
    if place < 0.5:
        column = 0
    elif place < 0.75:
        column = len(line) - len(line.lstrip())
    else:
        column = draws.integer(len(line.rstrip("\r\n")) + 1)
    start = sum(map(len, lines[:first])) + column
    stop = sum(map(len, lines[: last + 1]))
    ending = lines[last]
    stop -= len(ending) - len(ending.rstrip("\r\n"))
    return Split(text[:start], text[start : max(stop, start)], text[max(stop, start) :])

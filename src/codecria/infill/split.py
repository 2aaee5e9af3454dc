"""Where a document is cut in three. Every draw is keyed, so a document's split does not depend on its neighbours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from codecria.common.random import draw_integer, draw_uniform
from codecria.infill.layout import Split

if TYPE_CHECKING:
    from codecria.common.random import Key

Unit = Literal["character", "line"]

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
"""A line as editors count them: ended by a line feed alone, not by the other breaks `str.splitlines` knows."""
_MORE_LINES = 0.1
_MAX_LINES = 4


def split_document(text: str, unit: Unit, *key: Key) -> Split:
    """Cut by the recipe's unit: `character` as the paper, `line` as the demo."""
    return split_characters(text, *key) if unit == "character" else split_lines(text, *key)


def split_characters(text: str, *key: Key) -> Split:
    """Two cuts, independent and uniform over the document's characters (paper §2.3); parts may be empty."""
    cuts = sorted(draw_integer(len(text) + 1, *key, "cut", side) for side in range(2))
    return Split(text[: cuts[0]], text[cuts[0] : cuts[1]], text[cuts[1] :])


def split_lines(text: str, *key: Key) -> Split:
    """A middle as an editor asks for it: from a place in a line to the end of that line or one of the next few.

    The line is uniform among those with text. The middle begins at the line's first column (half of the draws),
    after its indentation (a quarter) or at a uniform column (a quarter); it spans one line with probability 9/10 and
    never more than four. The line end after it belongs to the suffix. A document without text is cut at characters.
    """
    lines = _LINE.findall(text)
    filled = [number for number, line in enumerate(lines) if line.strip()]
    if not filled:
        return split_characters(text, *key)
    first = filled[draw_integer(len(filled), *key, "line")]
    last = first
    while last - first + 1 < _MAX_LINES and draw_uniform(*key, "more", last) < _MORE_LINES and last + 1 < len(lines):
        last += 1
    line = lines[first]
    place = draw_uniform(*key, "place")
    if place < 0.5:
        column = 0
    elif place < 0.75:
        column = len(line) - len(line.lstrip())
    else:
        column = draw_integer(len(line.rstrip("\r\n")) + 1, *key, "column")
    start = sum(len(each) for each in lines[:first]) + column
    stop = sum(len(each) for each in lines[: last + 1])
    ending = lines[last]
    stop -= len(ending) - len(ending.rstrip("\r\n"))
    return Split(text[:start], text[start : max(stop, start)], text[max(stop, start) :])

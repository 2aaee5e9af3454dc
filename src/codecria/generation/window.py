"""Which part of a long document an infill prompt shows: what is nearest to the cursor, cut at line ends.

The cut is *sticky*. Cut as far away as the window reaches, every token typed would move the beginning of the prompt,
and nothing behind it could be reused. So a side is cut at the line end, within the window's last quarter, whose
neighbouring lines have the lowest checksum: while text is typed or deleted the same line end stays the lowest until
it leaves that quarter, and then the cut moves by many lines at once. It is a function of the text alone: a server
without sessions, a client that cuts its own text before, and a line inserted far above all meet the same cut.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from codecria.infill.layout import continues_prefix, infill_prompt
from codecria.infill.repository import behind_files, files_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from codecria.infill.layout import Encoder, Order, Sentinels
    from codecria.infill.repository import Vocabulary

Files = tuple[tuple[str, str], ...]
"""Paths and texts of other files, what helps most last."""

PREFIX_SHARE = 0.75
"""The prefix's part of the window, the suffix's is the rest: 3 to 1, as editors and llama.cpp have it."""

FILES_SHARE = 0.25
"""Other files' part of the window, before prefix and suffix share the rest."""

STEP = 0.25
"""Share of a side's room within which its cut is looked for: more makes it move more seldom and shows less text."""

# Code has three to four; a text with more is looked at again, further.
_CHARACTERS_A_TOKEN = 5
# Where the part that is looked at begins: seldom somewhere else, so that its ids are remembered.
_GRID_CHARACTERS = 1024
# A cut may split a token that held the line end in two.
_SPLIT_TOKENS = 2


class Shown(NamedTuple):
    """A prompt, and what of the document it shows.

    Attributes:
        ids: the prompt.
        prefix, suffix: the parts shown.
    """

    ids: list[int]
    prefix: str
    suffix: str


def show(
    encoder: Vocabulary,
    sentinels: Sentinels,
    prefix: str,
    suffix: str,
    order: Order,
    max_tokens: int,
    *,
    begun: str = "",
    files: Files = (),
    path: str | None = None,
) -> Shown:
    """The prompt for a place in a document, of at most `max_tokens` tokens where that holds the markers.

    Args:
        encoder: the tokenizer.
        sentinels: the infill markers.
        prefix: what stands before the middle.
        suffix: what stands after it.
        order: the layout.
        max_tokens: the window, which other files, prefix and suffix share.
        begun: how the middle begins. Suffix first it goes on from the prefix; in PSM it stands behind the last marker.
        files: shown before the document, see `codecria.infill.repository.files_context`.
        path: the document's.
    """
    joined = continues_prefix(sentinels, order)
    if joined:
        prefix, begun = prefix + begun, ""
    last = encoder.encode_infilling(begun)
    window = max_tokens - len(last)
    context: list[int] = []
    if files:
        context = _files_ids(encoder, sentinels, files, path, files_room(encoder, prefix, suffix, window))
        bare = infill_prompt(encoder, sentinels, "", "", order)
        window -= len(behind_files(encoder, sentinels, context, path, bare, order)) - len(bare)
    prefix, suffix = fit_infill(encoder, sentinels, prefix, suffix, order, window)
    ids = infill_prompt(encoder, sentinels, prefix, suffix, order)
    return Shown([*behind_files(encoder, sentinels, context, path, ids, order), *last], prefix, suffix)


@functools.lru_cache(maxsize=8)
def _files_ids(encoder: Vocabulary, sentinels: Sentinels, files: Files, path: str | None, room: int) -> list[int]:
    return files_context(encoder, sentinels, files, path, room)


def fit_infill(
    encoder: Encoder, sentinels: Sentinels, prefix: str, suffix: str, order: Order, max_tokens: int
) -> tuple[str, str]:
    """The end of the prefix and the beginning of the suffix whose prompt has at most `max_tokens` tokens.

    A side that needs less than its share leaves the rest to the other. Sides are cut at line ends, within a line only
    where the line at the cursor alone is too long. Sentinels and BOS are never cut: the prompt is built from the parts
    that are left. A `max_tokens` too small for them gives two empty sides.
    """
    room = max(0, max_tokens - len(infill_prompt(encoder, sentinels, "", "", order)))
    prefix_tokens = len(_tail(prefix, room, encoder)[1])
    suffix_tokens = len(_head(suffix, room, encoder)[1])
    if prefix_tokens + suffix_tokens <= room:
        return prefix, suffix
    share = int(room * PREFIX_SHARE)
    # A prefix that still grows takes its room in steps, or every token typed would move the suffix's end.
    step = max(1, room // 8)
    prefix_room = max(min(share, -(-prefix_tokens // step) * step), room - suffix_tokens)
    if prefix_tokens > prefix_room:
        prefix = _fit_end(prefix, prefix_room, encoder)
    if suffix_tokens > room - prefix_room:
        suffix = _fit_start(suffix, room - prefix_room, encoder)
    return prefix, suffix


def files_room(encoder: Encoder, prefix: str, suffix: str, max_tokens: int) -> int:
    """Tokens that other files may take of a window: their share, and what prefix and suffix leave free.

    What is free is counted in whole quarters of the window, so that it does not change with what is typed.
    """
    quarter = max(1, max_tokens // 4)
    needed = len(_tail(prefix, max_tokens, encoder)[1]) + len(_head(suffix, max_tokens, encoder)[1])
    return max(int(max_tokens * FILES_SHARE), max_tokens - (needed // quarter + 1) * quarter)


def _tail(text: str, room: int, encoder: Encoder) -> tuple[str, list[int]]:
    """An end of the text and its ids: the whole text, or an end of more than `room` tokens."""
    reach = (room + 1) * _CHARACTERS_A_TOKEN
    while True:
        part = text[max(0, (len(text) - reach) // _GRID_CHARACTERS * _GRID_CHARACTERS) :]
        ids = encoder.encode(part)
        if len(ids) > room or reach >= len(text):
            return part, ids
        reach *= 2


def _head(text: str, room: int, encoder: Encoder) -> tuple[str, list[int]]:
    """A beginning of the text and its ids: the whole text, or a beginning of more than `room` tokens."""
    reach = (room + 1) * _CHARACTERS_A_TOKEN
    while True:
        ids = encoder.encode_infilling(part := text[:reach])
        if len(ids) > room or reach >= len(text):
            return part, ids
        reach *= 2


def _fit_end(text: str, room: int, encoder: Encoder) -> str:
    """An end of at most `room` tokens of a text that has more."""
    part, ids = _tail(text, room, encoder)
    data = part.encode()
    far, near = (len(data) - _bytes(encoder, ids[max(0, len(ids) - each) :]) for each in _bounds(room))
    cuts = [place for place in _line_starts(data) if place >= far and data[place:].strip(b"\r\n")]
    for place in _in_turn(cuts, [cut for cut in cuts if cut <= near], lambda cut: _lines_before(data, cut)):
        if len(encoder.encode(kept := data[place:].decode())) <= room:
            return kept
    return part[len(part) - _most(len(part), room, lambda count: encoder.encode(part[len(part) - count :])) :]


def _fit_start(text: str, room: int, encoder: Encoder) -> str:
    """A beginning of at most `room` tokens of a text that has more."""
    part, ids = _head(text, room, encoder)
    data = part.encode()
    far, near = (_bytes(encoder, ids[:each]) for each in _bounds(room))
    cuts = [place for place in reversed(_line_starts(data)) if place <= far]
    for place in _in_turn(cuts, [cut for cut in cuts if cut >= near], lambda cut: _lines_behind(data, cut)):
        if len(encoder.encode_infilling(kept := data[:place].decode())) <= room:
            return kept
    return part[: _most(len(part), room, lambda count: encoder.encode_infilling(part[:count]))]


def _bounds(room: int) -> tuple[int, int]:
    """At most, and at least, so many tokens are kept."""
    return max(0, room - _SPLIT_TOKENS), max(0, int(room * (1 - STEP)))


def _bytes(encoder: Encoder, ids: Sequence[int]) -> int:
    return sum(len(encoder.token_bytes(id)) for id in ids)


def _line_starts(data: bytes) -> list[int]:
    starts: list[int] = []
    place = data.find(b"\n") + 1
    while place:
        starts.append(place)
        place = data.find(b"\n", place) + 1
    return starts


def _in_turn(cuts: Sequence[int], sticky: Sequence[int], lines: Callable[[int], bytes]) -> list[int]:
    """The sticky cut with the lowest checksum, then every cut that keeps less, the furthest first."""
    if not sticky:
        return list(cuts)
    # Of equal lines the one further away: it is left last.
    chosen = min(sticky, key=lambda cut: crc32(lines(cut)))
    return list(cuts[cuts.index(chosen) :])


def _lines_before(data: bytes, cut: int) -> bytes:
    """The two lines that end at a cut. What follows it may be the cursor's line, which changes with every key."""
    line = data.rfind(b"\n", 0, cut - 1)
    return data[data.rfind(b"\n", 0, max(line, 0)) + 1 : cut]


def _lines_behind(data: bytes, cut: int) -> bytes:
    """The two lines that begin at a cut."""
    line = data.find(b"\n", cut)
    stop = data.find(b"\n", line + 1) if line >= 0 else -1
    return data[cut : stop if stop >= 0 else len(data)]


def _most(characters: int, room: int, encode: Callable[[int], list[int]]) -> int:
    """How many characters are at most `room` tokens."""
    fits, exceeds = 0, characters + 1
    while exceeds - fits > 1:
        count = (fits + exceeds) // 2
        if len(encode(count)) <= room:
            fits = count
        else:
            exceeds = count
    return fits

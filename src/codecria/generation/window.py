"""Which part of a long document an infill prompt shows: what is nearest to the cursor, cut at line ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codecria.infill.layout import infill_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from codecria.infill.layout import Encoder, Order, Sentinels

PREFIX_SHARE = 0.75
"""The prefix's part of the window, the suffix's is the rest: 3 to 1, as editors and llama.cpp have it."""

# Only white space runs to more characters a token; what lies further away cannot fit.
_MAX_CHARACTERS_A_TOKEN = 32


def fit_infill(
    encoder: Encoder, sentinels: Sentinels, prefix: str, suffix: str, order: Order, max_tokens: int
) -> tuple[str, str]:
    """The end of the prefix and the beginning of the suffix whose prompt has at most `max_tokens` tokens.

    A side that needs less than its share leaves the rest to the other. Sides are cut at line ends, within a line only
    where the line at the cursor alone is too long. Sentinels and BOS are never cut: the prompt is built from the parts
    that are left. A `max_tokens` too small for them gives two empty sides.
    """
    reach = max_tokens * _MAX_CHARACTERS_A_TOKEN
    prefix, suffix = prefix[-reach:] if reach > 0 else "", suffix[: max(reach, 0)]
    if len(infill_prompt(encoder, sentinels, prefix, suffix, order)) <= max_tokens:
        return prefix, suffix
    room = max(0, max_tokens - len(infill_prompt(encoder, sentinels, "", "", order)))
    prefix_tokens, suffix_tokens = len(encoder.encode(prefix)), len(encoder.encode_infilling(suffix))
    prefix_room = max(int(room * PREFIX_SHARE), room - suffix_tokens)
    if prefix_tokens > prefix_room:
        prefix = _fit_end(prefix, prefix_room, encoder.encode)
    suffix_room = room - len(encoder.encode(prefix))
    if suffix_tokens > suffix_room:
        suffix = _fit_start(suffix, suffix_room, encoder.encode_infilling)
    return prefix, suffix


def _fit_end(text: str, room: int, encode: Callable[[str], list[int]]) -> str:
    lines = text.splitlines(keepends=True)
    kept = _fit(lines[::-1], room, lambda parts: encode("".join(reversed(parts))))
    if kept:
        return "".join(lines[-kept:])
    return text[len(text) - _fit_characters(lines[-1], room, lambda line, count: encode(line[len(line) - count :])) :]


def _fit_start(text: str, room: int, encode: Callable[[str], list[int]]) -> str:
    lines = text.splitlines(keepends=True)
    kept = _fit(lines, room, lambda parts: encode("".join(parts)))
    if kept:
        return "".join(lines[:kept])
    return text[: _fit_characters(lines[0], room, lambda line, count: encode(line[:count]))]


def _fit(lines: Sequence[str], room: int, encode: Callable[[Sequence[str]], list[int]]) -> int:
    """How many of the lines, nearest first, are at most `room` tokens together."""
    used = kept = 0
    while True:
        more = kept
        while more < len(lines) and (apart := used + len(encode([lines[more]]))) <= room:
            used, more = apart, more + 1
        if more == kept:
            break
        # Together lines need fewer tokens than apart, mostly.
        kept, used = more, len(encode(lines[:more]))
    while used > room:
        kept -= 1
        used = len(encode(lines[:kept]))
    return kept


def _fit_characters(line: str, room: int, encode: Callable[[str, int], list[int]]) -> int:
    """How many characters of one line are at most `room` tokens."""
    fits, exceeds = 0, len(line) + 1
    while exceeds - fits > 1:
        count = (fits + exceeds) // 2
        if len(encode(line, count)) <= room:
            fits = count
        else:
            exceeds = count
    return fits

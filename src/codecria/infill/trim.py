"""What is cut from a generated middle before a person sees it: later lines, the block's end, an echo of the suffix."""

from __future__ import annotations

import re

_MARKS = re.compile(r"""\\.|\"{3}|'{3}|["'`()\[\]{}\n]""", re.DOTALL)
_OPENING, _CLOSING = "([{", ")]}"

SURE = 20
"""So many characters other than blanks, in two lines or more, are an echo of the suffix whatever follows them."""


def first_line(middle: str) -> str:
    """The middle up to its first line end. Leading empty lines count: an immediate line end leaves nothing."""
    return middle.split("\n", 1)[0].removesuffix("\r")


def same_block(middle: str, prefix: str, tab: int = 8) -> str:
    """The middle up to the first line indented less than the line the cursor is in.

    Indentation is compared as text width with tabs to `tab` columns. Blank lines do not end a block. CR LF is
    one line end.
    """
    current = prefix.rsplit("\n", 1)[-1]
    depth = _indentation(current if current.strip() else current + "x", tab)
    lines = middle.split("\n")
    kept = [lines[0]]
    for line in lines[1:]:
        if line.strip() and _indentation(line, tab) < depth:
            return "\n".join(kept).removesuffix("\r")
        kept.append(line)
    return middle


def closed_bracket(middle: str, quote: str, suffix: str) -> int | None:
    """Where the middle has closed a bracket that was open before it: behind the bracket, or before it where the suffix
    has that bracket.

    Brackets in strings do not count. A quote is taken to end with its line, unless there are three of it or it is
    a backtick, so an apostrophe in a comment harms at most its own line.

    Args:
        middle: the text.
        quote: the string the middle begins in, as `open_quote` says.
        suffix: what follows it.
    """
    depth = 0
    for place, mark in _marks(middle, quote)[0]:
        if mark in _OPENING:
            depth += 1
        elif depth:
            depth -= 1
        else:
            return place if suffix.lstrip(" \t")[:1] == mark else place + 1
    return None


def open_quote(prefix: str) -> str:
    """The quote of the string that the end of the prefix stands in; "" outside strings."""
    return _marks(prefix, "")[1]


def _marks(text: str, quote: str) -> tuple[list[tuple[int, str]], str]:
    """Brackets outside strings with their places, and the quote that is open at the end."""
    brackets: list[tuple[int, str]] = []
    for match in _MARKS.finditer(text):
        mark = match[0]
        if quote:
            if mark == quote or (mark == "\n" and quote in ("'", '"')):
                quote = ""
        elif mark[0] in "\"'`":
            quote = mark
        elif mark in _OPENING or mark in _CLOSING:
            brackets.append((match.start(), mark))
    return brackets, quote


def trim_overlap(middle: str, suffix: str, shortest: int = 3, sure: int = SURE) -> str:
    """The middle without an end that repeats how the suffix begins.

    A model that misses its end marker writes the suffix again. Where whole lines of it are there (`suffix_again`) the
    middle ends. Else the longest tail of the middle that is a head of the suffix is cut when it has at least
    `shortest` characters other than blanks; shorter agreement, such as a bracket, is usually meant. An echo cut off
    in the middle of the suffix is found as well.
    """
    again = suffix_again(middle, suffix, sure)
    if again is not None:
        return middle[:again]
    for start in range(len(middle)):
        tail = middle[start:]
        if suffix.startswith(tail) and len("".join(tail.split())) >= shortest:
            return middle[:start]
    stripped = suffix.lstrip("\r\n")
    first = first_line(stripped)
    if len("".join(first.split())) >= shortest:
        lines = middle.split("\n")
        for number, line in enumerate(lines[1:], start=1):
            rest = "\n".join(lines[number:])
            if line.rstrip() == first.rstrip() and stripped.startswith(rest[: len(stripped)]):
                return "\n".join(lines[:number])
    return middle


def suffix_again(middle: str, suffix: str, sure: int = SURE) -> int | None:
    """Where the suffix begins again beyond doubt: its first lines, two or more, with `sure` characters but blanks."""
    stripped = suffix.lstrip("\n")
    leading, head, filled = len(suffix) - len(stripped), "", 0
    for line in stripped.split("\n")[:-1]:
        head += line + "\n"
        filled += bool(line.strip())
        if filled > 1 and len("".join(head.split())) >= sure:
            break
    else:
        return None
    place = middle.find("\n" + head if leading else head)
    if place < 0:
        return None
    # Of the line ends before it as many belong to the echo as the suffix begins with.
    while leading > 1 and place and middle[place - 1] == "\n":
        place, leading = place - 1, leading - 1
    return place


def _indentation(line: str, tab: int) -> int:
    expanded = line.expandtabs(tab)
    return len(expanded) - len(expanded.lstrip(" "))

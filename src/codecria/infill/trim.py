"""What is cut from a generated middle before a person sees it: later lines, the block's end, an echo of the suffix."""

from __future__ import annotations


def first_line(middle: str) -> str:
    """The middle up to its first line end. Leading empty lines count: an immediate line end leaves nothing."""
    return middle.split("\n", 1)[0].removesuffix("\r")


def same_block(middle: str, prefix: str) -> str:
    """The middle up to the first line indented less than the line the cursor is in.

    Indentation is compared as text width with tabs to 8 columns. Blank lines do not end a block.
    """
    current = prefix.rsplit("\n", 1)[-1]
    depth = _indentation(current if current.strip() else current + "x")
    lines = middle.split("\n")
    kept = [lines[0]]
    for line in lines[1:]:
        if line.strip() and _indentation(line) < depth:
            break
        kept.append(line)
    return "\n".join(kept)


def trim_overlap(middle: str, suffix: str, shortest: int = 3) -> str:
    """The middle without an end that repeats how the suffix begins.

    A model that misses its end marker writes the suffix again. The longest tail of the middle that is a head of the
    suffix is cut when it has at least `shortest` characters other than blanks; shorter agreement, such as a
    bracket, is usually meant. An echo cut off in the middle of the suffix is found as well.
    """
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


def _indentation(line: str) -> int:
    expanded = line.expandtabs(8)
    return len(expanded) - len(expanded.lstrip(" "))

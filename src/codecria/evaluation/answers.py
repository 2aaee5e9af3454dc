"""The program in a chat model's answer: what stands between a pair of marks, or in a fenced block."""

from __future__ import annotations

import re

_FENCE = re.compile(r"^(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)


def between(answer: str, start: str, end: str) -> str | None:
    """What follows the first `start`, up to `end` where that comes; None without a `start`."""
    _, found, rest = answer.partition(start)
    return rest.partition(end)[0] if found else None


def fenced_block(answer: str, languages: tuple[str, ...] = ("python", "py", "python3", "")) -> str | None:
    """The first fenced block of one of these languages, "" for none named; one that is never closed goes to the end."""
    for match in _FENCE.finditer(answer):
        if match[2].lower() in languages:
            return match[3]
    return None

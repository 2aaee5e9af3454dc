"""The program in a chat model's answer: what stands between a pair of marks, or in a fenced block."""

from __future__ import annotations

import ast
import re
import warnings

_FENCE = re.compile(r"^(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)

_MARKED = re.compile(r"\[PYTHON\](.*?)(?:\[/PYTHON\]|\Z)", re.DOTALL)


def one_block(answer: str) -> dict[str, float]:
    """Format reliability: whether an answer has exactly one block of code, and that is Python that parses.

    Blocks are what stands between [PYTHON] and [/PYTHON], else what is fenced.
    """
    marked = _MARKED.findall(answer)
    blocks = [fenced_block(each) or each for each in marked] or [match[3] for match in _FENCE.finditer(answer)]
    return {"one_block": float(len(blocks) == 1 and _parses(blocks[0]))}


def _parses(code: str) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes and literals in a model's text
            return bool(ast.parse(code).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


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

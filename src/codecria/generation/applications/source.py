"""A Python file's text and its syntax tree: where things stand in characters, and what an edit may change."""

from __future__ import annotations

import ast
import difflib
import io
import re
import tokenize
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError

if TYPE_CHECKING:
    from collections.abc import Iterator

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
"""Lines as Python counts them: not at the form feeds and the like that `str.splitlines` knows."""

REACH = 8_000
"""Characters on each side of a place that a prompt shows at most: about 2,000 tokens, cut at line ends."""


@dataclass(frozen=True)
class Named:
    """A function or class and its name as `Class.method`.

    Attributes:
        node: in the tree.
        name: with those of the definitions around it.
        nested: whether a function holds it.
        in_class: whether what holds it is a class.
    """

    node: Definition
    name: str
    nested: bool
    in_class: bool


class Source:
    """A text that parses.

    Args:
        text: a whole file.
        where: the file's name, for errors.

    Raises:
        CodecriaError: it does not parse.
    """

    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self.where = where
        try:
            self.tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", None)
            place = where if line is None else f"{where}:{line}"
            raise CodecriaError(f"does not parse: {getattr(error, 'msg', error)}", where=place) from error
        self.lines: list[str] = _LINE.findall(text)
        self._starts = [0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line))

    @property
    def line_end(self) -> str:
        """The first line's end; a line feed where there is none."""
        first = self.lines[0] if self.lines else ""
        return first[len(first.rstrip("\r\n")) :] or "\n"

    @cached_property
    def definitions(self) -> list[Named]:
        """Functions and classes in the order they stand in. Edits of docstrings and annotations do not change it."""
        return list(_definitions(self.tree, "", nested=False, in_class=False))

    def line_start(self, line: int) -> int:
        """Characters before a line (from 1)."""
        return self._starts[line - 1]

    def offset(self, line: int, column: int) -> int:
        """Characters before a place as the syntax tree states it: the line from 1, the column in UTF-8 bytes from 0."""
        return self._starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def header_tokens(self, node: Definition) -> list[tokenize.TokenInfo]:
        """The tokens from `def` or `class` to the end of that logical line; their lines count from the definition's."""
        rest = iter(self.lines[node.lineno - 1 :])
        tokens: list[tokenize.TokenInfo] = []
        for token in tokenize.generate_tokens(lambda: next(rest, "")):
            tokens.append(token)
            if token.type == tokenize.NEWLINE:
                return tokens
        raise AssertionError("a definition has a line end")

    def end_of(self, node: Definition, token: tokenize.TokenInfo) -> int:
        """Characters before the end of a token of `header_tokens`."""
        line = node.lineno - 1 + token.end[0]
        return self.line_start(line) + token.end[1]  # tokens count characters

    def find(self, name: str) -> list[int]:
        """Places in `definitions` of a name, `function` or `Class.method`.

        Raises:
            CodecriaError: there is none.
        """
        found = [place for place, each in enumerate(self.definitions) if each.name == name]
        if not found:
            near = difflib.get_close_matches(name, [each.name for each in self.definitions], n=1)
            mend = f"did you mean '{near[0]}'?" if near else "give a function, a class or Class.method"
            raise CodecriaError(f"no function or class '{name}'", where=self.where, mend=mend)
        return found

    def around(self, start: int, stop: int) -> tuple[str, str]:
        """The text before and after a span, at most `REACH` characters each, cut at line ends."""
        first = 0 if start <= REACH else self.text.find("\n", start - REACH, start) + 1 or start - REACH
        last = stop + REACH
        last = len(self.text) if last >= len(self.text) else self.text.rfind("\n", stop, last) + 1 or last
        return self.text[first:start], self.text[stop:last]


def first_line(node: ast.stmt) -> int:
    """The line a statement begins in, decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def is_public(name: str) -> bool:
    """Whether no part of a name begins with an underscore; `__init__` and its like do."""
    return not any(part.startswith("_") for part in name.split("."))


def parses(text: str) -> bool:
    """Whether a text is Python."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def diff(old: str, new: str, path: str) -> str:
    """What changed, as `diff -u` shows it; "" where nothing did."""
    before, after = (io.StringIO(text, newline="\n").readlines() for text in (old, new))
    path = path.lstrip("/")
    changed = difflib.unified_diff(before, after, f"a/{path}", f"b/{path}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in changed)


def _definitions(node: ast.AST, above: str, *, nested: bool, in_class: bool) -> Iterator[Named]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            is_class = isinstance(child, ast.ClassDef)
            name = above + child.name
            yield Named(child, name, nested, in_class)
            yield from _definitions(child, f"{name}.", nested=nested or not is_class, in_class=is_class)
        else:
            yield from _definitions(child, above, nested=nested, in_class=in_class)

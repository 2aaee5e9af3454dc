"""Middles that are one node of the syntax tree: a statement, an expression, a block, a list of arguments.

Parsed by tree-sitter, with the grammars of tree-sitter-language-pack before 1.0: later ones fetch each grammar from
the network when it is first used.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError
from codecria.infill.layout import Split

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

    from codecria.infill.split import Draws

_GRAMMARS = {
    "C#": "csharp",
    "C++": "cpp",
    "CUDA": "cuda",
    "Objective-C": "objc",
    "Python stub": "python",
    "Shell": "bash",
} | {
    language: language.lower()
    for language in (
        *("C", "Dart", "Elixir", "Erlang", "Fortran", "Go", "Groovy", "Haskell", "Java", "JavaScript", "Julia"),
        *("Kotlin", "Lua", "OCaml", "PHP", "Perl", "PowerShell", "Python", "R", "Ruby", "Rust", "SQL", "Scala"),
        *("Solidity", "Swift", "TypeScript", "Verilog", "Zig"),
    )
}
"""Languages as the corpus calls them, and their grammars. TypeScript with JSX in it counts as unreadable."""


def require_syntax() -> None:
    """Raise unless the grammars are installed.

    Raises:
        CodecriaError: they are not.
    """
    try:
        import tree_sitter_language_pack as _  # noqa: F401
    except ImportError as error:
        raise CodecriaError(
            "the unit 'syntax' needs tree-sitter's grammars, which are not installed",
            where="infill.units",
            mend="pip install 'codecria[syntax]', or leave the unit out",
        ) from error


def node_around(text: str, language: str | None, draws: Draws) -> Split | None:
    """A middle that is one node around a uniform place of the text, at a uniform depth.

    From the tree's root to the place lie nodes of all sizes, so middles are of all sizes too. Nodes without parts
    (names, numbers) are left out, and of nodes that span the same text all but one.

    Args:
        text: a whole document or a run of its lines.
        language: what it is written in, as the corpus calls it.
        draws: two are taken where there is a grammar.

    Returns:
        None where the language has no grammar, the place lies in text that the grammar could not read, or no node
        is there but the whole.
    """
    grammar = _GRAMMARS.get(language or "")
    if grammar is None:
        return None
    data = text.encode()
    opening = b"<?php " if grammar == "php" and "<?" not in text else b""  # else all of a later piece is HTML
    spans = _spans_around(_parser(grammar).parse(opening + data).root_node, draws, len(opening), len(data.rstrip()))
    if not spans:
        return None
    start, stop = spans[draws.integer(len(spans))]
    middle = data[start:stop].rstrip()
    return Split(data[:start].decode(), middle.decode(), data[start + len(middle) :].decode())


def _spans_around(root: Node, draws: Draws, opening: int, length: int) -> list[tuple[int, int]]:
    """Byte spans of the nodes around a place, the outermost first; none where an error is among them."""
    place = opening + draws.integer(max(length, 1))
    spans: list[tuple[int, int]] = []
    node: Node | None = root
    while node is not None and node.start_byte <= place:
        if node.is_error:
            return []
        span = (node.start_byte - opening, node.end_byte - opening)
        whole = span[0] <= 0 and span[1] >= length
        if node.is_named and node.child_count and not whole and span[0] >= 0 and span not in spans[-1:]:
            spans.append(span)
        # Not `first_child_for_byte`: tree-sitter 0.26's gives a node that crashes where there is no such child.
        node = next((child for child in node.children if child.end_byte > place), None)
    return spans


@functools.cache
def _parser(grammar: str) -> Parser:
    from tree_sitter_language_pack import get_parser

    return get_parser(grammar)  # pyright: ignore[reportArgumentType]

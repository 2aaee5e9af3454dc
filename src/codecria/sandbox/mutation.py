"""Small wrong changes to Python source: a comparison turned, a bound off by one, a branch negated, a line left out.

Each mutant differs from the source in one place; all else, layout and comments included, stays byte for byte. A mutant
is another program by its syntax, not always by what it does (`x * 1` for `x // 1`): whoever wants wrong programs runs
the tests and keeps those that fail. Text inside f-strings, annotations and docstrings is left alone.
"""

from __future__ import annotations

import ast
import itertools
import re
from typing import TYPE_CHECKING

from codecria.common.random import permutation

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
}
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "//"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.Pow: (r"\*\*", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: (r"\|", "&"),
    ast.BitXor: (r"\^", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "True": "False", "False": "True"}

Edit = tuple[int, int, str]
"""Bytes from, bytes to, and what stands there instead."""


def mutants(source: str, seed: int) -> list[str]:
    """Every mutant of a module or function, in an order drawn by key.

    Args:
        source: Python as it stands in a file.
        seed: of the order; the set of mutants does not depend on it.

    Raises:
        SyntaxError: the source is not Python.
    """
    data = source.encode()
    found: dict[str, None] = {}
    for start, stop, text in _Finder(data, ast.parse(source)).edits:
        mutant = (data[:start] + text.encode() + data[stop:]).decode()
        if mutant != source and _parses(mutant):
            found[mutant] = None
    each = list(found)
    return [each[place] for place in permutation(len(each), "mutants", seed, source)] if each else []


def _parses(source: str) -> bool:
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


class _Finder(ast.NodeVisitor):
    """Collects the edits of one tree."""

    def __init__(self, data: bytes, tree: ast.AST) -> None:
        self.edits: list[Edit] = []
        self._data = data
        starts = [match.end() for match in re.finditer(rb"\r\n|\r|\n", data)]
        self._lines = [0, *starts]
        self.visit(tree)

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.JoinedStr):  # Python 3.11 does not know where its parts lie
            return
        self.edits += self._edits_of(node)
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)

    def _edits_of(self, node: ast.AST) -> Iterator[Edit]:
        match node:
            case ast.Compare(left=left, ops=ops, comparators=right):
                for op, before, after in zip(ops, [left, *right], right, strict=False):
                    yield from self._between(before, after, *_COMPARISONS[type(op)])
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                yield from self._between(left, right, *_ARITHMETIC[type(op)])
            case ast.BoolOp(op=op, values=values):
                old, new = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
                for before, after in itertools.pairwise(values):
                    yield from self._between(before, after, old, new)
            case ast.AugAssign(target=target, op=op, value=value) if type(op) in _ARITHMETIC:
                old, new = _ARITHMETIC[type(op)]
                yield from self._between(target, value, f"{old}=", f"{new}=")
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                yield self._start(node), self._start(operand), ""
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
                yield self._start(test), self._stop(test), f"not ({self._text(test)})"
            case ast.Constant(value=bool() | int()):
                yield from self._constant(node)
            case ast.Name(id=name) if name in _NAMES:
                yield self._start(node), self._stop(node), _NAMES[name]
            case ast.Return(value=ast.expr() as value):
                yield self._start(value), self._stop(value), "None"
            case ast.Assign() | ast.AugAssign() | ast.Continue() | ast.Break():
                yield self._start(node), self._stop(node), "pass"
            case ast.Expr(value=ast.Call()):
                yield self._start(node), self._stop(node), "pass"
            case _:
                return

    def _constant(self, node: ast.Constant) -> Iterator[Edit]:
        value = node.value
        assert isinstance(value, int)
        others = [repr(not value)] if isinstance(value, bool) else [str(value + 1), str(value - 1)]
        yield from ((self._start(node), self._stop(node), other) for other in others)

    def _between(self, before: ast.expr, after: ast.expr, old: str, new: str) -> Iterator[Edit]:
        """The operator that stands between two operands; brackets and comments may stand before it."""
        start, stop = self._stop(before), self._start(after)
        match = re.match(rb"(?:#[^\n]*\n|[\s()\\])*(" + old.encode() + rb")", self._data[start:stop])
        if match is not None:
            yield start + match.start(1), start + match.end(1), new

    def _start(self, node: ast.AST) -> int:
        assert isinstance(node, ast.expr | ast.stmt)
        return self._lines[node.lineno - 1] + node.col_offset

    def _stop(self, node: ast.AST) -> int:
        assert isinstance(node, ast.expr | ast.stmt)
        return self._lines[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)

    def _text(self, node: ast.AST) -> str:
        return self._data[self._start(node) : self._stop(node)].decode()

"""Which annotations can stand at a place, as the file shows it without being run."""

from __future__ import annotations

import ast
import builtins
import re
from typing import TYPE_CHECKING, Literal

from codecria.generation.applications.source import Definition, Source, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef

TYPING = frozenset(
    """Any AnyStr AsyncIterable AsyncIterator Awaitable Callable ClassVar Collection Coroutine DefaultDict Deque Dict
    FrozenSet Generator Hashable IO Iterable Iterator List Literal Mapping MutableMapping NoReturn Optional OrderedDict
    Pattern Sequence Set Sized TextIO Tuple Type Union""".split()  # noqa: SIM905
)
_BUILTIN = frozenset(name for name, value in vars(builtins).items() if isinstance(value, type))
_GENERIC = frozenset(("dict", "frozenset", "list", "set", "tuple", "type"))
_OPTIONAL = re.compile(r"\b(None|Any|Optional|object)\b")
_OF_GENERATORS = re.compile(r"(\w+\.)?(Async)?(Iterator|Iterable|Generator)\b")


def read_annotation(text: str, kind: Literal["parameter", "return"], allowed: frozenset[str]) -> str | None:
    """The annotation that a text begins with, normalised; None where there is none of allowed names."""
    depth = 0
    for end, character in enumerate(f"{text}\n"):
        depth += (character in "([{") - (character in ")]}")
        if depth < 0 or character in "\r\n#" or (depth == 0 and character in (",=" if kind == "parameter" else ":")):
            text = text[:end]
            break
    try:
        expression = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return ast.unparse(expression) if _is_annotation(expression, allowed) else None


def may_return(node: Function, annotation: str) -> bool:
    """Whether what a function's own body shows speaks for an annotation: a generator, a value, or none."""
    shown = list(_own_nodes(node))
    if any(isinstance(each, ast.Yield | ast.YieldFrom) for each in shown):
        return _OF_GENERATORS.match(annotation) is not None
    if any(isinstance(each, ast.Return) and each.value is not None for each in shown):
        return annotation != "None" or all(
            each.value is None or ast.unparse(each.value) == "None" for each in shown if isinstance(each, ast.Return)
        )
    stub = all(
        isinstance(each, ast.Raise | ast.Pass) or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
        for each in node.body
    )
    return stub or annotation in ("None", "NoReturn")


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one, without those of functions and classes inside."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Definition | ast.Lambda):
            yield child
            yield from _own_nodes(child)


def needs_none(node: Function, name: str, annotation: str) -> bool:
    """Whether a parameter's default is None and its annotation does not say so."""
    if _OPTIONAL.search(annotation):
        return False
    parts = node.args
    plain = [*parts.posonlyargs, *parts.args]
    pairs = [
        *zip(reversed(plain), reversed(parts.defaults), strict=False),
        *zip(parts.kwonlyargs, parts.kw_defaults, strict=True),
    ]
    return any(each.arg == name and isinstance(value, ast.Constant) and value.value is None for each, value in pairs)


def names_at(source: Source, definition: int) -> frozenset[str]:
    """Names that annotations of a function may use; those of modules end with a dot, for only what is in them is meant.

    With `from __future__ import annotations` nothing is evaluated, so names bound later count too.
    """
    body = source.tree.body
    lazy = any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.names[0].name == "annotations"
        for node in body
    )
    named = source.definitions[definition]
    line = first_line(named.node)
    found = {*_BUILTIN, "None"}
    for node in body:
        if lazy or (node.end_lineno or line) < line:
            parts = node.body if lazy and isinstance(node, ast.If) else [node]  # `if TYPE_CHECKING:`
            for part in parts:
                types, others = _bound(part)
                found = (found - others) | types
    for outer in source.definitions:
        # A class's own names come before the module's: behind `def set(self)`, `set` is no type in that class.
        if isinstance(outer.node, ast.ClassDef) and named.name.startswith(f"{outer.name}."):
            for node in outer.node.body:
                found -= set.union(*_bound(node))
    return frozenset(found)


def _bound(node: ast.stmt) -> tuple[set[str], set[str]]:
    """Names that a statement binds: those that may be types, and others."""
    match node:
        case ast.Import(aliases):
            return {f"{alias.asname or alias.name.split('.')[0]}." for alias in aliases}, set()
        case ast.ImportFrom(_, aliases):
            return {alias.asname or alias.name for alias in aliases}, set()
        case ast.ClassDef():
            return {node.name}, set()
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return set(), {node.name}
        case ast.Assign(targets):
            names = {each.id for each in targets if isinstance(each, ast.Name)}
            types = {name for name in names if name[0].isupper() and (not name.isupper() or len(name) == 1)}
            return types, names - types
        case _:
            return set(), set()


def _is_annotation(node: ast.expr, allowed: frozenset[str]) -> bool:
    match node:
        case ast.Name(id):
            return id in allowed
        case ast.Constant(value):
            return value is None
        case ast.Attribute(ast.Name(id), _):
            return f"{id}." in allowed or id in allowed
        case ast.BinOp(left, ast.BitOr(), right):
            return _is_annotation(left, allowed) and _is_annotation(right, allowed)
        case ast.Subscript(ast.Name(name) | ast.Attribute(_, name) as value, index):
            if not _is_annotation(value, allowed) or (name in _BUILTIN and name not in _GENERIC):
                return False
            parts = index.elts if isinstance(index, ast.Tuple) else [index]
            if name == "Literal":
                return all(isinstance(part, ast.Constant) for part in parts)
            return all(_is_parameter(part, allowed) for part in parts)
        case _:
            return False


def _is_parameter(node: ast.expr, allowed: frozenset[str]) -> bool:
    if isinstance(node, ast.List):  # of Callable
        return all(_is_annotation(part, allowed) for part in node.elts)
    return (isinstance(node, ast.Constant) and node.value is ...) or _is_annotation(node, allowed)

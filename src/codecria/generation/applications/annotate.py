"""Types by infilling: the model sees the file around the place and writes the annotation between.

Only what Python can evaluate at that place is kept: built-in classes, names the file imports or defines before it, and
names of `typing`, which are then imported. Answers stay in the text, as context for the places that follow.
"""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from codecria.common.errors import CodecriaError
from codecria.generation.applications.annotation import (
    TYPING,
    Function,
    may_return,
    names_at,
    needs_none,
    read_annotation,
)
from codecria.generation.applications.drawing import draws
from codecria.generation.applications.source import Source, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeGuard

    from codecria.generation.generator import Generator
    from codecria.generation.middle import InfillOptions

_TOKENS = 32


class Place(NamedTuple):
    """Where an annotation stands or is missing.

    Attributes:
        definition: of the function, in `Source.definitions`.
        name: the parameter's; `return` for what the function gives.
        start, stop: the span of the annotation with its mark (`: int`, ` -> int`); empty where there is none.
    """

    definition: int
    name: str
    start: int
    stop: int

    @property
    def kind(self) -> Literal["parameter", "return"]:
        """Which of the two it is."""
        return "return" if self.name == "return" else "parameter"


@dataclass(frozen=True)
class Annotated:
    """What came of one file.

    Attributes:
        text: with the annotations in it; it parses to the same program.
        written: where annotations were put, as `function(parameter)` or `function()`, and which.
        skipped: where nothing that could stand there was found.
    """

    text: str
    written: list[tuple[str, str]]
    skipped: list[str]


def annotate(
    generator: Generator,
    text: str,
    *,
    where: str = "<text>",
    name: str | None = None,
    samples: int = 8,
    seed: int = 0,
) -> Annotated:
    """Write the annotations that are missing, in the file's order.

    Args:
        generator: a model that infills.
        text: a Python file.
        where: its name, for errors.
        name: of the only function to annotate, or of a class with its methods; all without it.
        samples: texts drawn for each place, beside the most probable one.
        seed: of those.

    Raises:
        CodecriaError: the text does not parse, or has no definition of this name.
    """
    source = Source(text, where)
    names = None if name is None else {source.definitions[place].name for place in source.find(name)}
    written: list[tuple[str, str]] = []
    skipped: list[str] = []
    missing = [(place.definition, place.name) for place in places(source) if place.start == place.stop]
    for key in missing:
        function = source.definitions[key[0]].name
        if names is not None and not any(function == each or function.startswith(f"{each}.") for each in names):
            continue
        label = f"{function}({'' if key[1] == 'return' else key[1]})"
        place = next(place for place in places(source) if (place.definition, place.name) == key)
        found = recover(generator, source, place, samples=samples, seed=seed)
        changed = None if found is None else _insert(source, place, found)
        if found is None or changed is None:
            skipped.append(label)
        else:
            source = changed
            written.append((label, found))
    return Annotated(source.text, written, skipped)


def places(source: Source) -> Iterator[Place]:
    """Every parameter and return of every function, annotated or not, in the file's order; not a method's first."""
    for number, named in enumerate(source.definitions):
        node = named.node
        if isinstance(node, ast.ClassDef):
            continue
        parameters = _parameters(node)
        static = any(ast.unparse(each) == "staticmethod" for each in node.decorator_list)
        for parameter in parameters[1:] if named.in_class and not static else parameters:
            start = source.offset(parameter.lineno, parameter.col_offset) + len(_written_name(source, parameter))
            yield Place(number, parameter.arg, start, _end(source, parameter.annotation, start))
        close = _closing_bracket(source, node)
        yield Place(number, "return", close, _end(source, node.returns, close))


def recover(
    generator: Generator, source: Source, place: Place, *, samples: int = 8, seed: int = 0, typed: bool = True
) -> str | None:
    """What the model holds the type at a place to be, without seeing what stands there.

    The most probable text and `samples` drawn ones vote; the first decides between equals.

    Args:
        generator: a model that infills.
        source: the file. An annotation at the place is taken out of what the model sees.
        place: one of `places(source)`.
        samples: texts drawn beside the most probable one.
        seed: of those.
        typed: whether names of `typing` count that the file does not import.

    Returns:
        An annotation that can stand there, as `ast.unparse` writes it; None if no text held one.
    """
    node = source.definitions[place.definition].node
    assert not isinstance(node, ast.ClassDef)
    before, after = source.around(place.start, place.stop)
    mark = " -> " if place.kind == "return" else ": "
    allowed = names_at(source, place.definition) | (TYPING if typed else frozenset())
    votes: Counter[str] = Counter()
    for draw in draws(samples, seed):
        options: InfillOptions = {**draw, "max_tokens": _TOKENS, "stop_at": "line"}
        [texts] = generator.infill_many([(before + mark, after)], **options)
        for each in texts:
            found = read_annotation(each.text, place.kind, allowed)
            votes.update([found] if found and (place.kind == "parameter" or may_return(node, found)) else [])
    if not votes:
        return None
    found = votes.most_common(1)[0][0]
    return f"{found} | None" if needs_none(node, place.name, found) else found


def same_but_annotations(old: ast.Module, new: ast.Module) -> bool:
    """Whether two trees are one program, where the new one has more annotations and may import more from `typing`."""
    one, other = copy.deepcopy(old), copy.deepcopy(new)
    pairs = zip(_take_annotations(one), _take_annotations(other), strict=False)
    if any(before is not None and (after is None or ast.dump(before) != ast.dump(after)) for before, after in pairs):
        return False
    return _take_typing(one) <= _take_typing(other) and ast.dump(one) == ast.dump(other)


def _take_annotations(tree: ast.Module) -> list[ast.expr | None]:
    """Take the annotations out of a tree."""
    taken: list[ast.expr | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            taken.append(node.annotation)
            node.annotation = None
        elif isinstance(node, Function):
            taken.append(node.returns)
            node.returns = None
    return taken


def _take_typing(tree: ast.Module) -> set[str]:
    """Take what a module imports from `typing` out of its tree."""
    imports = [node for node in tree.body if _is_typing(node)]
    tree.body = [node for node in tree.body if node not in imports]
    return {ast.dump(alias) for node in imports for alias in node.names}


def _is_typing(node: ast.stmt) -> TypeGuard[ast.ImportFrom]:
    return isinstance(node, ast.ImportFrom) and node.module == "typing" and not node.level


def _parameters(node: Function) -> list[ast.arg]:
    parts = node.args
    found = [
        *parts.posonlyargs,
        *parts.args,
        *parts.kwonlyargs,
        *(each for each in (parts.vararg, parts.kwarg) if each),
    ]
    return sorted(found, key=lambda each: (each.lineno, each.col_offset))


def _written_name(source: Source, parameter: ast.arg) -> str:
    """A parameter's name as the file spells it: the tree holds its NFKC form."""
    match = re.compile(r"\w+").match(source.text, source.offset(parameter.lineno, parameter.col_offset))
    assert match is not None
    return match[0]


def _end(source: Source, annotation: ast.expr | None, start: int) -> int:
    if annotation is None or annotation.end_lineno is None or annotation.end_col_offset is None:
        return start
    return source.offset(annotation.end_lineno, annotation.end_col_offset)


def _closing_bracket(source: Source, node: Function) -> int:
    """Characters before the end of the `)` that closes the parameters."""
    depth = 0
    for token in source.header_tokens(node):
        depth += (token.string in ("(", "[", "{")) - (token.string in (")", "]", "}"))
        if token.string == ")" and depth == 0:
            return source.end_of(node, token)
    raise AssertionError("a function has parameters")


def _insert(source: Source, place: Place, annotation: str) -> Source | None:
    """The source with an annotation at a place, or None where that would change more."""
    text, tail = source.text, source.text[place.stop :]
    mark = " -> " if place.kind == "return" else ": "
    if place.kind == "parameter" and tail.startswith("=") and not tail.startswith("=="):
        tail = f" = {tail[1:].lstrip(' ')}"
    text = text[: place.start] + mark + annotation + tail
    used = {node.id for node in ast.walk(ast.parse(annotation, mode="eval")) if isinstance(node, ast.Name)}
    missing = sorted((used & TYPING) - names_at(source, place.definition))
    try:
        changed = Source(text, source.where)
        if missing:
            changed = _import_typing(changed, missing)
    except CodecriaError:
        return None
    return changed if same_but_annotations(source.tree, changed.tree) else None


def _import_typing(source: Source, names: list[str]) -> Source:
    """The source with `from typing import …` before its first statement, docstring and `__future__` left above."""
    body = source.tree.body
    prologue = 1 if ast.get_docstring(source.tree) is not None else 0
    while isinstance(node := body[prologue], ast.ImportFrom) and node.module == "__future__":
        prologue += 1
    node = body[prologue]
    start = stop = source.line_start(first_line(node))
    end = source.line_end * (1 if isinstance(node, ast.Import | ast.ImportFrom) else 3)
    if (
        _is_typing(node)
        and node.end_lineno == node.lineno
        and source.lines[node.lineno - 1].strip() == ast.unparse(node)
    ):
        stop = source.line_start(node.lineno + 1)
        names = sorted({*names, *(ast.unparse(alias) for alias in node.names)})
    line = f"from typing import {', '.join(names)}{end}"
    return Source(source.text[:start] + line + source.text[stop:], source.where)

"""What stands near a function in its file: the functions around it, without itself, as a model is shown them."""

from __future__ import annotations

import ast
import textwrap
from functools import cache
from typing import TYPE_CHECKING

from codecria.generation.applications.source import first_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from codecria.instruct.question import Place

_MOST_OF_ONE = 600
_MAKERS = {"__init__", "__new__"}


def neighbours(packages: Sequence[Path], place: Place, characters: int) -> str:
    """The nearest functions of the same module or class, in the order of the file, docstrings cut to their first line.

    A class's `__init__` and `__new__` come before nearer ones, for they tell what `self` has. Longer ones than 600
    characters are left out.

    Args:
        packages: folders that packages are installed in.
        place: of the function that is asked for.
        characters: at most so many of all together.
    """
    of_module = _functions_of(tuple(packages), place.module)
    *owner, name = place.name.split(".")
    siblings = of_module.get(".".join(owner), [])
    at = next((number for number, (each, _) in enumerate(siblings) if each == name), None)
    if at is None:
        return ""
    others = [number for number, (each, told) in enumerate(siblings) if each != name and len(told) <= _MOST_OF_ONE]
    others.sort(key=lambda number: (siblings[number][0] not in _MAKERS, abs(number - at), number))
    chosen: list[int] = []
    for number in others:
        if sum(len(siblings[each][1]) for each in (*chosen, number)) <= characters:
            chosen.append(number)
    return "".join(f"{siblings[number][1]}\n\n" for number in sorted(chosen))


@cache
def _functions_of(packages: tuple[Path, ...], module: str) -> dict[str, list[tuple[str, str]]]:
    """Name and text of a module's functions by the class that they are in, "" for none."""
    inner = module.replace(".", "/")
    files = (folder / f"{inner}{end}" for folder in packages for end in (".py", "/__init__.py"))
    file = next((each for each in files if each.is_file()), None)
    if file is None:
        return {}
    text = file.read_text(encoding="utf-8", errors="replace")
    lines, tree = text.split("\n"), ast.parse(text)
    owners = {"": tree.body} | {each.name: each.body for each in tree.body if isinstance(each, ast.ClassDef)}
    return {
        owner: [(each.name, _told(each, lines)) for each in body if isinstance(each, ast.FunctionDef)]
        for owner, body in owners.items()
    }


def _told(node: ast.FunctionDef, lines: list[str]) -> str:
    """A function without indentation, its docstring one line."""
    first = first_line(node) - 1
    docstring = ast.get_docstring(node)
    kept = lines[first : node.end_lineno]
    if docstring is not None:
        head, body = node.body[0].lineno - 1, node.body[0].end_lineno or node.body[0].lineno
        indent = " " * node.body[0].col_offset
        told = docstring.strip().split("\n")[0].replace('"""', "'''").rstrip('\\"')
        kept = [*lines[first:head], f'{indent}"""{told}"""', *lines[body : node.end_lineno]]
    return textwrap.dedent("\n".join(kept)) + "\n"

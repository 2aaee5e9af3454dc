"""Tests of a package's own suite that are about one function: taken out of their file with what they need.

A test is tied to a function when it names that one and no other of the functions mined. It runs in the tests' half of
the sandbox and calls the function in the program's half, so it must get along with plain data: what hands over objects
of the package's own classes fails for the reference too, and validation takes it out.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from codecria.instruct.question import Place

_MOST_TESTS = 10
_MOST_CHARACTERS = 4_000
_FOLDERS = {"tests", "test"}


def suite_tests(folder: Path, package: str, places: Iterable[Place]) -> dict[Place, tuple[str, ...]]:
    """The tests of a package's suite by the function that they are about; at most ten of each.

    Args:
        folder: where packages are installed.
        package: its import name.
        places: top-level functions that are mined; of several with one name none has tests.
    """
    listed = [place for place in places if "." not in place.name]
    counts = Counter(place.name for place in listed)
    of_name = {place.name: place for place in listed if counts[place.name] == 1}
    found: dict[Place, list[str]] = {}
    for file in sorted((folder / package).rglob("test_*.py")):
        if _FOLDERS.intersection(file.parts):
            for name, text in read_suite(file.read_text(encoding="utf-8", errors="replace"), package, set(of_name)):
                found.setdefault(of_name[name], []).append(text)
    return {place: tuple(tests[:_MOST_TESTS]) for place, tests in found.items()}


def read_suite(text: str, package: str, functions: set[str]) -> Iterator[tuple[str, str]]:
    """Each test function that needs no fixture and names one function: that name, and the test as a program."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    top = _binders(tree)
    aliases = _aliases(tree, package)
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test"):
            continue
        if node.args.args or node.args.kwonlyargs or node.decorator_list:
            continue
        needed = _needed(node, top)
        if len(set().union(*map(_mentioned, needed)) & functions) != 1:
            continue
        rename = _Rename(aliases, functions)
        statements = [ast.unparse(rename.visit(copy.deepcopy(each))) for each in needed]
        if len(rename.found) == 1:
            (name,) = rename.found
            told = "\n".join([*filter(None, statements), f"{node.name}()"])
            if len(told) <= _MOST_CHARACTERS:
                yield name, told


class _Rename(ast.NodeTransformer):
    """Makes `package.function` and imported functions plain names, which the program's half defines.

    Attributes:
        found: names of functions that were met.
    """

    def __init__(self, aliases: set[str], functions: set[str]) -> None:
        self._aliases = aliases
        self._functions = functions
        self.found: set[str] = set()

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if node.attr in self._functions and ast.unparse(node.value).partition(".")[0] in self._aliases:
            self.found.add(node.attr)
            return ast.Name(node.attr, node.ctx)
        return self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        left = [each for each in node.names if each.name not in self._functions or each.asname]
        return ast.ImportFrom(node.module, left, node.level) if left else ast.Module([], [])

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self._functions:
            self.found.add(node.id)
        return node


def _needed(test: ast.FunctionDef, top: dict[str, ast.stmt]) -> list[ast.stmt]:
    """The test and the top-level statements it rests on, in their order."""
    chosen: dict[int, ast.stmt] = {}
    waiting: list[ast.stmt] = [test]
    while waiting:
        node = waiting.pop()
        if node.lineno not in chosen:
            chosen[node.lineno] = node
            names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            waiting += [top[name] for name in sorted(names) if name in top]
    return [chosen[line] for line in sorted(chosen)]


def _mentioned(node: ast.stmt) -> set[str]:
    """Names that a statement uses, attributes among them; an import uses none."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return names | {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}


def _binders(tree: ast.Module) -> dict[str, ast.stmt]:
    """Which top-level statement binds a name: imports, functions, classes, assignments."""
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(each.asname or each.name).partition(".")[0]: node for each in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            names = [each for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)]
            found |= {each.id: node for each in names}
    return found


def _aliases(tree: ast.Module, package: str) -> set[str]:
    """Names that stand for the package or a module of it."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            inside = [each for each in node.names if each.name.partition(".")[0] == package]
            found |= {each.asname or package for each in inside}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == package:
            found |= {each.asname or each.name for each in node.names}
    return found

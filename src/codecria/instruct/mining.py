"""Functions with tests, out of the source of installed packages: the question, its tests and the answer.

Nothing is imported here: the source is parsed. The text of the task is the docstring without its examples; the tests
are the examples, and those of the package's own suite that are about this function alone (`suites`); the reference is
the function without docstring and decorators (but properties, `staticmethod` and `classmethod`): a solution is judged
without them too. Whether a reference passes in its place is for `validation` to find out.
"""

from __future__ import annotations

import ast
import doctest
import re
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from codecria.generation.applications.source import first_line
from codecria.instruct.question import Place, Question
from codecria.instruct.suites import suite_tests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Function = ast.FunctionDef

_KEPT_DECORATORS = {"property", "cached_property", "staticmethod", "classmethod"}
_TEXT_CHARACTERS = 2_000
_HEADING = re.compile(r"^[^\n]*\n[ \t]*([=\-~^])\1{2,}[ \t]*$", re.MULTILINE)
_LAST_SECTIONS = re.compile(r"^(See Also|References|Notes?)[ \t]*\n[ \t]*[=\-~^]{3,}[ \t]*$", re.MULTILINE)
_SKIPPED_FOLDERS = {"tests", "test", "testing", "benchmarks", "_vendor", "_pytest"}


def mine_package(folder: Path, package: str, suites: bool = True) -> list[Question]:
    """Every function and method of a package with a docstring and tests, by path and line.

    Args:
        folder: where packages are installed.
        package: its import name.
        suites: whether the package's own suite gives tests too.
    """
    questions = list(_documented(folder, package))
    tests = suite_tests(folder, package, (each.place for each in questions if each.place)) if suites else {}
    joined = [replace(each, tests=each.tests + tests.get(cast("Place", each.place), ())) for each in questions]
    return [each for each in joined if each.tests]


def _documented(folder: Path, package: str) -> Iterator[Question]:
    root = folder / package
    files = sorted(root.rglob("*.py")) if root.is_dir() else [folder / f"{package}.py"]
    for file in files:
        inner = file.relative_to(folder).with_suffix("").parts
        if not _SKIPPED_FOLDERS.intersection(inner):
            module = ".".join(inner).removesuffix(".__init__")
            yield from mine_source(file.read_text(encoding="utf-8", errors="replace"), module)


def mine_source(text: str, module: str) -> Iterator[Question]:
    """The questions in one module's text, those without doctests too; none where it does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    # `ast` counts lines by line ends alone; form feeds, which `splitlines` splits at too, are none.
    lines = re.split(r"(?<=\n)", text)
    for node, name in _functions(tree):
        question = _question(node, lines, Place(module, name))
        if question is not None:
            yield question


def _functions(tree: ast.Module) -> Iterator[tuple[Function, str]]:
    """Top-level functions, and methods of top-level classes, that are not private; of equal names the last."""
    found: dict[str, Function] = {}
    for node in tree.body:
        if isinstance(node, Function):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found |= {f"{node.name}.{each.name}": each for each in node.body if isinstance(each, Function)}
    for name, node in found.items():
        if not node.name.startswith("_"):
            yield node, name


def _question(node: Function, lines: list[str], place: Place) -> Question | None:
    docstring = ast.get_docstring(node)
    if docstring is None or len(node.body) < 2:
        return None
    try:
        parts = doctest.DocTestParser().parse(docstring)
    except ValueError:
        return None
    tests = group_examples([part for part in parts if isinstance(part, doctest.Example)])
    told = prose("".join(part for part in parts if isinstance(part, str)))
    if not told or _is_bound(node):
        return None
    kept = [each for each in node.decorator_list if isinstance(each, ast.Name) and each.id in _KEPT_DECORATORS]
    header = "".join(f"@{ast.unparse(each)}\n" for each in kept) + _header(node, lines)
    body = textwrap.dedent("".join(lines[first_line(node.body[1]) - 1 : node.end_lineno]))
    reference = f"{header}\n{textwrap.indent(body, '    ')}"
    return Question(
        text=told,
        origin=f"mined {place.module}:{place.name}",
        entry_point=node.name,
        signature=header,
        tests=tests,
        reference=reference.rstrip() + "\n",
        place=place,
    )


def group_examples(examples: list[doctest.Example]) -> tuple[str, ...]:
    """Tests: each an example that expects something, with the examples before it that expect nothing.

    One that is marked to be skipped, or that anything would satisfy, expects nothing; skipped ones are left out.
    """
    tests: list[str] = []
    waiting = ""
    for example in examples:
        if example.options.get(doctest.SKIP, False):
            continue
        waiting += _shown(example)
        if example.want.strip() not in ("", "..."):
            tests.append(waiting)
            waiting = ""
    return tuple(tests)


def prose(text: str) -> str:
    """A docstring without its examples: no headings without a text, no references; at most 2,000 characters."""
    if last := _LAST_SECTIONS.search(text):
        text = text[: last.start()]
    paragraphs = [each.strip("\n") for each in re.split(r"\n[ \t]*\n", text)]
    kept = [each for number, each in enumerate(paragraphs) if _tells(each, paragraphs[number + 1 :])]
    told = ""
    for paragraph in kept:
        if len(told) + len(paragraph) > _TEXT_CHARACTERS:
            break
        told += f"{paragraph}\n\n"
    return told.strip()


def _tells(paragraph: str, rest: list[str]) -> bool:
    """Whether a paragraph is more than the heading of a section that is empty now."""
    if not paragraph.strip() or paragraph.strip().rstrip(":") in ("Examples", "Example", "Doctest", "Doctests"):
        return False
    following = next((each for each in rest if each.strip()), "")
    heading = _HEADING.fullmatch(paragraph.strip())
    return not (heading and (not following or _HEADING.match(following.strip())))


def _shown(example: doctest.Example) -> str:
    first, *more = example.source.rstrip("\n").split("\n")
    lines = [f">>> {first}", *(f"... {line}".rstrip() for line in more)]
    return "\n".join(lines) + "\n" + example.want


def _header(node: Function, lines: list[str]) -> str:
    """The `def` lines up to the colon."""
    text = "".join(lines[node.lineno - 1 : node.body[0].lineno - 1]) or lines[node.lineno - 1]
    return textwrap.dedent(text).rstrip()


def _is_bound(node: Function) -> bool:
    """Whether a function cannot be moved: `super()` and `__class__` are of the class body it is written in."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return bool(names & {"super", "__class__"})

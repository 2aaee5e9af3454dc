"""Tests as the sandbox takes them: a file with asserts, `test_` functions and classes, or `unittest` cases.

The program under test is not imported: its names are the sandbox's to give. So what a test file imports from it is
taken out, lines kept, and `import shop` becomes a namespace with what the tests use of it. Fixtures are not known.
"""

from __future__ import annotations

import ast
import importlib.util
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError, explain_os_error
from codecria.generation.applications.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeGuard

_RUNNER = """

def _codecria_run(function):
    cases = [{}]
    for mark in getattr(function, "pytestmark", ()):
        if mark.name == "parametrize":
            names, rows = mark.args[:2]
            alone = isinstance(names, str) and "," not in names
            names = [each.strip() for each in names.split(",")] if isinstance(names, str) else list(names)
            rows = [row.values if hasattr(row, "marks") else [row] if alone else row for row in rows]
            cases = [{**case, **dict(zip(names, row))} for case in cases for row in rows]
    for case in cases:
        function(**case)
"""


@dataclass(frozen=True)
class Suite:
    """Tests of one file.

    Attributes:
        text: Python that raises if the program is wrong; the lines of the file first, at their own numbers.
        skipped: tests that are not run, for they need fixtures.
        import_paths: folders that the tests and the program import from.
    """

    text: str
    skipped: tuple[str, ...] = ()
    import_paths: tuple[Path, ...] = ()


def read_tests(command: str, file: Path, program: Source) -> Suite:
    """The tests that a command names.

    Args:
        command: a file, or `pytest FILE` or `pytest FILE::NAME`. The command itself is never run.
        file: the program under test, whose path says under which names tests import it.
        program: its text.

    Raises:
        CodecriaError: the command names no test file; that does not parse, or all its tests need fixtures.
    """
    path, chosen = _named(command)
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise explain_os_error(error, path) from error
    except UnicodeDecodeError as error:
        raise CodecriaError(f"not UTF-8 at byte {error.start}", where=path) from error
    source = Source(text, str(path))
    calls, skipped = _calls(source.tree, chosen)
    if not calls and (skipped or chosen):
        what = f"its tests need fixtures, which are not known here: {', '.join(skipped)}" if skipped else "no such test"
        raise CodecriaError(what, where="::".join([str(path), *chosen]), mend="name a test without")
    folders = _import_folders([source.tree, program.tree], [_root(path), _root(file)], file)
    needs = "import types, unittest\n" + _RUNNER
    return Suite(f"{_without_imports(source, file)}\n{needs}\n" + "\n".join(calls) + "\n", tuple(skipped), folders)


def runnable(text: str, file: Path) -> str:
    """A program as the sandbox runs it, outside its package: relative imports made absolute, lines kept."""
    source = Source(text, str(file))
    package = list(file.resolve().relative_to(_root(file)).parent.parts)
    for node in reversed([node for node in ast.walk(source.tree) if isinstance(node, ast.ImportFrom) and node.level]):
        start = source.offset(node.lineno, node.col_offset)
        dotted = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
        head, found, tail = source.text[start:].partition("import")
        if found and dotted and head.startswith("from"):
            source = Source(f"{source.text[:start]}from {dotted} import{tail}", str(file))
    return source.text


def _named(command: str) -> tuple[Path, list[str]]:
    """The test file a command names, and the names behind `::`."""
    if Path(command).is_file():
        return Path(command), []
    words = shlex.split(command)
    if words[:2] in (["python", "-m"], ["python3", "-m"]):
        words = words[2:]
    named = [word for word in words[1:] if not word.startswith("-")]
    if words[:1] != ["pytest"] or len(named) != 1:
        what = f"'{command}' is neither a file nor `pytest FILE`"
        raise CodecriaError(what, where="--test", mend="the file is read and its tests run in the sandbox; name one")
    path, *chosen = named[0].split("::")
    return Path(path), chosen


def _root(file: Path) -> Path:
    """The folder that absolute imports of a file start in: the first above it that is no package."""
    folder = file.resolve().parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _calls(tree: ast.Module, chosen: list[str]) -> tuple[list[str], list[str]]:
    """Lines that run the tests, and the names of those that cannot be run."""
    calls: list[str] = []
    skipped: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and (not chosen or node.name == chosen[0]):
            bases = [ast.unparse(base) for base in node.bases]
            is_case = any(base.split(".")[-1].endswith("TestCase") for base in bases)
            if not is_case and not node.name.startswith("Test"):
                continue
            for test in node.body:
                if _is_test(test) and (len(chosen) < 2 or test.name == chosen[1]):
                    name = f"{node.name}.{test.name}"
                    if is_case:  # `debug` lets the exception through, with the program's line on it
                        calls.append(f"{node.name}({test.name!r}).debug()")
                    elif _needs(test)[1:]:
                        skipped.append(name)
                    else:
                        calls.append(f"_codecria_run({node.name}().{test.name})")
        elif _is_test(node) and (not chosen or [node.name] == chosen):
            if _needs(node):
                skipped.append(node.name)
            else:
                calls.append(f"_codecria_run({node.name})")
    return calls, skipped


def _is_test(node: ast.stmt) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test")


def _needs(node: ast.FunctionDef) -> list[str]:
    """A test's parameters that neither a default nor `parametrize` fills."""
    given: set[str] = set()
    for each in node.decorator_list:
        if isinstance(each, ast.Call) and ast.unparse(each.func).endswith("parametrize") and each.args:
            try:
                names = ast.literal_eval(each.args[0])
            except ValueError:
                continue
            given |= {name.strip() for name in (names.split(",") if isinstance(names, str) else names)}
    plain = node.args.args[: len(node.args.args) - len(node.args.defaults)]
    return [each.arg for each in plain if each.arg not in given]


def _without_imports(source: Source, file: Path) -> str:
    """A test file's text that takes the program's names from the sandbox, at the same lines."""
    dotted = ".".join(file.resolve().with_suffix("").relative_to(_root(file)).parts).removesuffix(".__init__")
    text = source.text
    nodes = [node for node in ast.walk(source.tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in sorted(nodes, key=lambda each: (each.lineno, each.col_offset), reverse=True):
        lines = _replacement(node, dotted, source.tree)
        if lines is not None and node.end_lineno is not None and node.end_col_offset is not None:
            start = source.offset(node.lineno, node.col_offset)
            stop = source.offset(node.end_lineno, node.end_col_offset)
            text = text[:start] + "; ".join(lines or ["pass"]) + "\n" * (node.end_lineno - node.lineno) + text[stop:]
    return text


def _replacement(node: ast.Import | ast.ImportFrom, dotted: str, tree: ast.Module) -> list[str] | None:
    """Statements in the place of an import that concerns the module `dotted`; None for any other import."""
    lines: list[str] = []
    others: list[ast.alias] = []
    concerned = False
    for alias in node.names:
        module = alias.name if isinstance(node, ast.Import) else node.module or ""
        bound = alias.asname or alias.name
        if isinstance(node, ast.ImportFrom) and _is_module(module, dotted):
            concerned = True
            lines += [f"{alias.asname} = {alias.name}"] if alias.asname else []
        elif _is_module(alias.name if isinstance(node, ast.Import) else f"{module}.{alias.name}".strip("."), dotted):
            concerned = True
            lines += _namespace(bound, tree)
        else:
            others.append(alias)
    if concerned and others:
        rest = ast.Import(others) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, others, node.level)
        lines.append(ast.unparse(rest))
    return lines if concerned else None


def _is_module(name: str, dotted: str) -> bool:
    """Whether a name in an import is the module's: its whole name, or the end of it, as relative imports have it."""
    return bool(name) and (dotted == name or dotted.endswith(f".{name}"))


def _namespace(bound: str, tree: ast.Module) -> list[str]:
    """Statements that make `bound.name` the program's `name`, for each that the tests use."""
    depth = bound.count(".")
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == bound and isinstance(node.ctx, ast.Load)
    }
    value = f"__import__('types').SimpleNamespace({', '.join(f'{name}={name}' for name in sorted(used))})"
    for part in reversed(bound.split(".")[1:]):
        value = f"__import__('types').SimpleNamespace({part}={value})"
    return [f"{bound.split('.')[0] if depth else bound} = {value}"]


def _import_folders(trees: list[ast.Module], roots: list[Path], file: Path) -> tuple[Path, ...]:
    """Folders in which what the trees import lies, where it is not the standard library's."""
    folders: dict[Path, None] = {}
    for name in sorted({name for tree in trees for name in _imported(tree)} - sys.stdlib_module_names):
        root = next((root for root in roots if (root / f"{name}.py").is_file() or (root / name).is_dir()), None)
        if root is not None and root / f"{name}.py" != file.resolve():
            folders[root] = None
        elif root is None and (spec := importlib.util.find_spec(name)) is not None and spec.origin is not None:
            origin = Path(spec.origin)
            folders[origin.parent.parent if origin.name.startswith("__init__") else origin.parent] = None
    return tuple(folders)


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]

"""Rows in RepoBench's form from Python repositories: where a name of another file is used for the first time."""

from __future__ import annotations

import ast
import posixpath
import re
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from codecria.common.random import digest
from codecria.evaluation.tasks.lines import fits
from codecria.generation.applications.source import first_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from codecria.corpus.document import Document

CODE_LINES = 120
"""Of a file's code, what stands nearest before the line."""
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Snippet(NamedTuple):
    """Part of another file."""

    path: str
    text: str


class CrossFileRow(NamedTuple):
    """A next line to be written: RepoBench's columns `repo_name` to `next_line`."""

    id: str
    repository: str
    path: str
    snippets: list[Snippet]
    imports: str
    code: str
    next_line: str


class _Parsed(NamedTuple):
    document: Document
    tree: ast.Module
    lines: list[str]

    def text_of(self, node: ast.stmt) -> str:
        """A statement's lines, decorators included."""
        return "\n".join(self.lines[first_line(node) - 1 : node.end_lineno])


def held_out_rows(documents: Iterable[Document], seed: int, items: int) -> list[CrossFileRow]:
    """At most `items` rows, one a file, in the order of a keyed digest of the files' content."""
    repositories: dict[str, dict[str, Document]] = defaultdict(dict)
    for document in documents:
        if document.kind == "code" and document.language == "Python":
            repositories[document.origin][document.path] = document
    every = [(document, files) for files in repositories.values() for document in files.values() if len(files) > 1]
    every.sort(key=lambda each: digest("repository line", seed, each[0].content_hash))
    parsed: dict[str, _Parsed | None] = {}
    rows: list[CrossFileRow] = []
    for document, files in every:
        row = _row(document, files, parsed)
        rows += [] if row is None else [row]
        if len(rows) == items:
            break
    return rows


def _row(document: Document, files: Mapping[str, Document], parsed: dict[str, _Parsed | None]) -> CrossFileRow | None:
    file = _parse(document, parsed)
    if file is None:
        return None
    imported = dict(_imported(file, files, parsed))
    imports = [node for node in file.tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    if not imported:
        return None
    begin = max(node.end_lineno or node.lineno for node in imports)
    used = [
        node.lineno
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Name) and node.id in imported and node.lineno > begin + 1
    ]
    if not used or not fits(file.lines[min(used) - 1]):
        return None
    at = min(used) - 1
    code = file.lines[max(begin, at - CODE_LINES) : at]
    name = f"{document.content_hash[:16]}/L{at}"
    statements = "\n".join(map(file.text_of, imports))
    snippets = list(imported.values())
    return CrossFileRow(name, document.origin, document.path, snippets, statements, "\n".join(code), file.lines[at])


def _imported(
    file: _Parsed, files: Mapping[str, Document], parsed: dict[str, _Parsed | None]
) -> Iterator[tuple[str, Snippet]]:
    """Names that a file takes from others of its repository, each with its definition there."""
    for node in file.tree.body:
        if not isinstance(node, ast.ImportFrom):
            continue
        path = _module_path(node, file.document.path, files)
        other = None if path is None else _parse(files[path], parsed)
        if other is None:
            continue
        defined = {each.name: each for each in other.tree.body if isinstance(each, _DEFINITIONS)}
        for alias in node.names:
            if alias.name in defined:
                yield alias.asname or alias.name, Snippet(other.document.path, other.text_of(defined[alias.name]))


def _module_path(node: ast.ImportFrom, importer: str, files: Mapping[str, Document]) -> str | None:
    """The file that `from MODULE import …` reads, where that is one of the repository."""
    module = (node.module or "").replace(".", "/")
    folder = posixpath.dirname(importer)
    if node.level:
        for _ in range(node.level - 1):
            folder = posixpath.dirname(folder)
        candidates = [posixpath.join(folder, module)]
    else:
        above = [folder]
        while above[-1]:
            above.append(posixpath.dirname(above[-1]))
        candidates = [posixpath.join(each, module) for each in above]
    names = (f"{each}{end}".lstrip("/") for each in candidates for end in (".py", "/__init__.py"))
    return next((name for name in names if name in files and name != importer), None)


def _parse(document: Document, parsed: dict[str, _Parsed | None]) -> _Parsed | None:
    """A file's tree, kept; None where it is no Python."""
    key = f"{document.origin}\0{document.path}"
    if key not in parsed:
        try:
            parsed[key] = _Parsed(document, ast.parse(document.text), re.split("\n", document.text))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            parsed[key] = None
    return parsed[key]

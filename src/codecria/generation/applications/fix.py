"""A failing test made to pass: suspicious lines are infilled anew until a program passes, in the sandbox alone.

First each line is written again, whole and from each of its words on, then each block. With a small model that mends
small things: a wrong comparison, a wrong name, a wrong number. What passes the tests is not thereby right.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import tokenize
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from codecria.common.errors import CodecriaError
from codecria.generation.applications.drawing import draws
from codecria.generation.applications.source import Definition, Source, parses
from codecria.generation.applications.tests import runnable
from codecria.sandbox.limits import Limits
from codecria.sandbox.runner import open_sandbox
from codecria.sandbox.verdict import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from codecria.generation.applications.tests import Suite
    from codecria.generation.generator import Generator
    from codecria.generation.middle import InfillOptions
    from codecria.sandbox.runner import Sandbox
    from codecria.sandbox.verdict import Verdict

_LINE_OF_PROGRAM = re.compile(r"line (\d+) of the program")
_LINE_OF_TESTS = re.compile(r"line (\d+) of the tests")
_MOST_TOKENS = {"line": 40, "block": 192}

Kind = Literal["line", "block"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Span(NamedTuple):
    """Characters to be written anew: the rest of a line, or a block."""

    start: int
    stop: int
    kind: Kind


@dataclass(frozen=True)
class Fixed:
    """What came of it.

    Attributes:
        text: the file that passes; the given one if that passed already; None where none was found.
        before: the verdict on the given file.
        candidates: programs that were run.
        lines: the lines that were written anew, in the order they were tried.
    """

    text: str | None
    before: Verdict
    candidates: int
    lines: list[int]


def fix(
    generator: Generator,
    text: str,
    tests: Suite,
    *,
    file: Path,
    samples: int = 4,
    most: int = 1000,
    seed: int = 0,
    limits: Limits | None = None,
    note: Callable[[str], None] = lambda _line: None,
) -> Fixed:
    """Look for a change of one line or one block that makes the tests pass.

    Args:
        generator: a model that infills.
        text: the program.
        tests: what it must pass; `tests.read_tests` makes them.
        file: the program's path; it is not read.
        samples: texts drawn for each span, beside the most probable one.
        most: programs run at most.
        seed: of the draws.
        limits: of each program; 2 s of processor time by default.
        note: told in a line what is being tried.

    Raises:
        CodecriaError: the text does not parse, the tests never call it, or there is no sandbox.
    """
    source = Source(text, str(file))
    with open_sandbox(limits or Limits(cpu_s=2.0), import_paths=tests.import_paths) as sandbox:
        before = _run(sandbox, text, tests, file)
        if before.status == "error":
            raise CodecriaError(f"the tests could not be run: {before.detail}", where=file)
        if before.passed:
            if not before.calls:
                raise CodecriaError("the tests never call it", where=file, mend="name tests that do")
            return Fixed(text, before, 0, [])
        note(f"{before.status}: {before.detail}")
        seen = {ast.dump(source.tree)}
        lines: list[int] = []
        ran = 0
        places = list(suspects(source, tests.text, before.detail))
        # The most probable texts of all lines cost as much as the samples of a few and mend more.
        rounds = [
            (draw, [each for each in places if each[1][0].kind == kind])
            for kind in KINDS
            for draw in draws(samples, seed)
        ]
        for draw, (line, spans) in ((draw, place) for draw, some in rounds for place in some):
            if ran >= most:
                break
            lines.append(line)
            note(f"{spans[0].kind} {line}: {source.lines[line - 1].strip()}")
            candidates = _candidates(generator, source, spans, seen, draw)[: most - ran]
            programs = (Program(runnable(each, file), tests.text) for each in candidates)
            with contextlib.closing(sandbox.run_many(programs)) as verdicts:
                for candidate, verdict in zip(candidates, verdicts, strict=True):
                    ran += 1
                    if verdict.passed and verdict.calls:
                        return Fixed(candidate, before, ran, list(dict.fromkeys(lines)))
        return Fixed(None, before, ran, list(dict.fromkeys(lines)))


def suspects(source: Source, tests: str, detail: str) -> Iterator[tuple[int, list[Span]]]:
    """Lines and what to write anew there, the likeliest first; all single lines come before any block.

    First the statement the traceback ends in, then those of the functions that the failing test names, then of those
    that they name. Of each line: the whole, and from each of its words on.
    """
    raised = _LINE_OF_PROGRAM.search(detail)
    line = int(raised[1]) if raised else 0
    functions = _reached(source, tests, detail, line)
    statements = list(dict.fromkeys(each for function in functions for each in _statements(function)))
    statements += [each for each in ast.walk(source.tree) if isinstance(each, ast.stmt) and not functions]
    statements.sort(key=lambda each: each.lineno != line)  # stable: the traceback's own first
    for statement in statements:
        for number in _own_lines(statement):
            yield number, _line_spans(source, number)
    for statement in [*functions, *statements]:
        for name in ("body", "orelse", "finalbody"):
            block: list[ast.stmt] = getattr(statement, name, [])
            if block and (len(block) > 1 or not isinstance(statement, Definition)):
                yield block[0].lineno, [Span(_start(source, block[0]), _stop(source, block[-1]), "block")]


def _reached(source: Source, tests: str, detail: str, line: int) -> list[Definition]:
    """Functions that may be at fault: the one the traceback ends in, those the failing test names, their callees."""
    known = [each.node for each in source.definitions if not isinstance(each.node, ast.ClassDef)]
    named: dict[str, list[Definition]] = {}
    for each in source.definitions:
        methods = (
            [one for one in known if one in each.node.body] if isinstance(each.node, ast.ClassDef) else [each.node]
        )
        named.setdefault(each.node.name, []).extend(methods)
    tree = ast.parse(tests)
    at = _LINE_OF_TESTS.search(detail)
    number = int(at[1]) if at else 0
    scopes = [node for node in tree.body if node.lineno <= number <= (node.end_lineno or 0)]
    # An assert names what it tests; a test it is in, and then all the tests, name more.
    narrow = [node for scope in scopes for node in ast.walk(scope) if getattr(node, "lineno", 0) == number]
    found = [each for each in known if each.lineno <= line <= (each.end_lineno or 0)][::-1]
    queue: list[ast.AST] = [*narrow, *scopes, tree]
    while queue:
        node = queue.pop(0)
        for name in _names(node):
            new = [each for each in named.get(name, []) if each not in found]
            found += new
            queue += new
    return list(dict.fromkeys(found))


def _names(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Attribute):
            yield each.attr


def _statements(function: Definition) -> Iterator[ast.stmt]:
    """A function's statements in their order, docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    found = [each for one in body for each in ast.walk(one) if isinstance(each, ast.stmt)]
    yield from sorted(found, key=lambda each: (each.lineno, each.col_offset))


def _own_lines(statement: ast.stmt) -> range:
    """The lines of a statement without those of the statements in it; none of definitions and of text alone."""
    alone = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    if isinstance(statement, Definition) or alone:
        return range(0)
    inner = [each.lineno for each in ast.walk(statement) if isinstance(each, ast.stmt) and each is not statement]
    stop = min(inner) if inner else (statement.end_lineno or statement.lineno) + 1
    return range(statement.lineno, max(stop, statement.lineno + 1))


def _line_spans(source: Source, number: int) -> list[Span]:
    """From each token of a line to the line's end, the first of them the whole line but its indentation."""
    line = source.lines[number - 1].rstrip("\r\n")
    first = len(line) - len(line.lstrip())
    columns = [first]
    with contextlib.suppress(tokenize.TokenError, IndentationError):  # of a line that goes on in the next
        for token in tokenize.generate_tokens(io.StringIO(line[first:]).readline):
            if token.string.strip() and token.type != tokenize.COMMENT:
                columns.append(first + token.start[1])
    start = source.line_start(number)
    return [Span(start + each, start + len(line), "line") for each in dict.fromkeys(columns)]


def _start(source: Source, statement: ast.stmt) -> int:
    return source.offset(statement.lineno, statement.col_offset)


def _stop(source: Source, statement: ast.stmt) -> int:
    assert statement.end_lineno is not None and statement.end_col_offset is not None
    return source.offset(statement.end_lineno, statement.end_col_offset)


def _candidates(
    generator: Generator, source: Source, spans: list[Span], seen: set[str], draw: InfillOptions
) -> list[str]:
    """Whole texts with a span written anew that parse and are other programs than those `seen`."""
    pairs = [source.around(span.start, span.stop) for span in spans]
    kind = spans[0].kind
    options: InfillOptions = {**draw, "max_tokens": _MOST_TOKENS[kind], "stop_at": kind}
    texts = generator.infill_many(pairs, **options)
    found: list[str] = []
    for span, samples in zip(spans, texts, strict=True):
        for each in samples:
            text = source.text[: span.start] + each.text.rstrip() + source.text[span.stop :]
            if parses(text) and (shape := ast.dump(ast.parse(text))) not in seen:
                seen.add(shape)
                found.append(text)
    return found


def _run(sandbox: Sandbox, text: str, tests: Suite, file: Path) -> Verdict:
    return sandbox.run(Program(runnable(text, file), tests.text))

"""Docstrings by infilling: the model sees the definition's header before the place and its body behind it."""

from __future__ import annotations

import ast
import copy
import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError
from codecria.generation.applications.drawing import draws
from codecria.generation.applications.source import Definition, Source, is_public

if TYPE_CHECKING:
    from codecria.generation.applications.source import Named
    from codecria.generation.generator import Generator
    from codecria.generation.middle import InfillOptions

_OPENING = re.compile(r"[rRuU]?(\"\"\"|''')")
_TOKENS_A_LINE = 40
_COLUMNS = 100


@dataclass(frozen=True)
class Documented:
    """What came of one file.

    Attributes:
        text: with the docstrings in it; it parses to the same program.
        written: the definitions that got one.
        skipped: those that did not, with the reason.
    """

    text: str
    written: list[str]
    skipped: list[tuple[str, str]]


def document(
    generator: Generator,
    text: str,
    *,
    where: str = "<text>",
    name: str | None = None,
    lines: int = 1,
    tries: int = 8,
    seed: int = 0,
) -> Documented:
    """Write the docstrings that are missing, in the file's order: those written are context for those that follow.

    Args:
        generator: a model that infills.
        text: a Python file.
        where: its name, for errors.
        name: of the only definition to document; without it all public functions, methods and classes.
        lines: a docstring's most lines.
        tries: how many samples are drawn where the most probable text is not fit.
        seed: of those.

    Raises:
        CodecriaError: the text does not parse; it has no definition of this name, or that has a docstring.
    """
    source = Source(text, where)
    chosen = source.find(name) if name is not None else _undocumented(source)
    if name is not None and all(ast.get_docstring(source.definitions[place].node) is not None for place in chosen):
        raise CodecriaError(f"'{name}' has a docstring", where=where)
    written: list[str] = []
    skipped: list[tuple[str, str]] = []
    for place in chosen:
        named = source.definitions[place]
        if ast.get_docstring(named.node) is not None:
            continue
        found = _write(generator, source, named, lines, tries, seed)
        if isinstance(found, Source):
            source = found
            written.append(named.name)
        else:
            skipped.append((named.name, found))
    return Documented(source.text, written, skipped)


def same_but_docstrings(one: ast.AST, other: ast.AST) -> bool:
    """Whether two trees are one program, docstrings left out."""
    return ast.dump(_stripped(one)) == ast.dump(_stripped(other))


def _undocumented(source: Source) -> list[int]:
    return [
        place
        for place, (node, name, nested) in enumerate((each.node, each.name, each.nested) for each in source.definitions)
        if not nested and is_public(name) and ast.get_docstring(node) is None and not _is_overload(node)
    ]


def _is_overload(node: Definition) -> bool:
    return any(ast.unparse(each).rsplit(".", 1)[-1] == "overload" for each in node.decorator_list)


def _write(generator: Generator, source: Source, named: Named, lines: int, tries: int, seed: int) -> Source | str:
    """The source with one more docstring, or why not."""
    node = named.node
    end = source.header_tokens(node)[-1]
    last_line = node.lineno - 1 + end.start[0]
    if node.body[0].lineno <= last_line:
        return "its body stands on the header's line"
    start = source.line_start(last_line + 1)
    indent = re.match(r"[ \t]*", source.lines[node.body[0].lineno - 1])
    assert indent is not None
    quotes, line_end = _quotes(source), source.line_end
    # A blank line after a class's docstring, as formatters have it.
    opening, closing = indent[0] + quotes, quotes + line_end * (2 if isinstance(node, ast.ClassDef) else 1)
    before, after = source.around(start, start)
    pair = (before + opening, closing + after)
    refused = ""
    for draw in draws(tries, seed):
        stop = [quotes, "\n\n"] if lines == 1 else [quotes]
        options: InfillOptions = {**draw, "max_tokens": _TOKENS_A_LINE * lines, "stop": stop}
        [samples] = generator.infill_many([pair], **options)
        for sample in samples:
            prose = _tidy(sample.text, indent[0], line_end, lines, whole=sample.finish_reason != "length")
            refused = _unfit(prose, named)
            if refused:
                continue
            new = source.text[:start] + opening + prose + closing + source.text[start:]
            try:
                result = Source(new, source.where)
            except CodecriaError:
                refused = "does not parse"
                continue
            if same_but_docstrings(source.tree, result.tree):
                return result
            refused = "changes the program"
    return f"no text of {1 + tries} was fit (the last: {refused})"


def _quotes(source: Source) -> str:
    """The quotes most of the file's docstrings have."""
    found: list[str] = []
    for node in (source.tree, *(each.node for each in source.definitions)):
        if ast.get_docstring(node) is not None:
            first = node.body[0]
            opening = _OPENING.match(source.text, source.offset(first.lineno, first.col_offset))
            found += [opening[1]] if opening else []
    return "'''" if found.count("'''") > len(found) / 2 else '"""'


def _tidy(text: str, indent: str, line_end: str, lines: int, *, whole: bool) -> str:
    """A docstring's inside: at most so many lines, indented as the body, the end quotes of many on their own line."""
    rows = [row.strip() for row in re.split(r"\r\n|\r|\n", text.strip())]
    if lines == 1:
        paragraph = " ".join(itertools.takewhile(bool, rows))
        rows = [paragraph if whole and len(paragraph) <= _COLUMNS else _sentences(paragraph)]
    elif not whole or len(rows) > lines:  # what was cut off is left out, back to where a sentence or a line ends
        rows = rows[:lines] if len(rows) > lines else [*rows[:-1], _sentences(rows[-1])]
    while rows and not rows[-1]:
        rows.pop()
    if rows and rows[-1][-1].isalnum():
        rows[-1] += "."
    joined = line_end.join(f"{indent}{row}" if row and place else row for place, row in enumerate(rows))
    return joined + line_end + indent if len(rows) > 1 else joined


def _sentences(text: str) -> str:
    """The whole sentences at a text's beginning that fit a line; "" where not one does."""
    ends = [match.end() for match in re.finditer(r"[.!?](?=\s|$)", text) if match.end() <= _COLUMNS]
    return text[: max(ends, default=0)]


def _unfit(prose: str, named: Named) -> str:
    """Why a text is no docstring; "" if it is one."""
    rows = [row.strip() for row in prose.splitlines() if row.strip()]
    words = re.findall(r"\w+", prose.lower())
    triples = list(zip(words, words[1:], words[2:], strict=False))
    checks = {
        "empty": not words,
        "a single word": len(words) == 1,
        "no more than the name": set(words) <= {*re.findall(r"[^\W_]+", named.node.name.lower()), "the", "a"},
        "repeats itself": len(set(rows)) < len(rows) or len(triples) - len(set(triples)) > 1,
        "a line too long": any(len(row) > _COLUMNS for row in rows),
        "backslashes, quotes or control characters": not prose.replace("\n", "")
        .replace("\r", "")
        .replace("\t", "")
        .isprintable()
        or "\\" in prose
        or prose.endswith(('"', "'"))
        or '"""' in prose
        or "'''" in prose,
        "code": bool(rows) and bool(re.match(r"(def|class|return|import|from|if|for|@|>>>)\b", rows[0])),
    }
    return next((reason for reason, true in checks.items() if true), "")


def _stripped(tree: ast.AST) -> ast.AST:
    copied = copy.deepcopy(tree)
    for node in ast.walk(copied):
        if isinstance(node, ast.Module | Definition) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return copied

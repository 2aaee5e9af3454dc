"""Docstring generation: what stands between the quotes, from a function's header and body (Code Llama, Table 13).

CodeXGLUE's Python test split is read where it can be had. Else `source: held_out` takes functions of a corpus's
held-out files by CodeSearchNet's rules: at least 3 lines, a docstring of at least 3 words, no tests, no special
methods. Rows are named by their source, and figures of the two do not compare.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from codecria.common.errors import CodecriaError
from codecria.common.random import digest
from codecria.corpus.evaluation_sets import read_rows
from codecria.evaluation.asking import Method  # noqa: TC001 pydantic reads the types at run time
from codecria.evaluation.data import DataFile, MissingDataError
from codecria.evaluation.protocol import Protocol, TaskRecipe
from codecria.evaluation.samples import Sample
from codecria.evaluation.smoothed_bleu import smoothed_bleu
from codecria.evaluation.subject import Asked
from codecria.evaluation.task import Given, Group, Task, in_groups
from codecria.evaluation.texts import TextItem, text_groups
from codecria.generation.applications.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from codecria.corpus.document import Document
    from codecria.evaluation.judge import Judge
    from codecria.evaluation.subject import Subject
    from codecria.generation.sequence import Completion

_LICENCE = "C-UDA; each function under its repository's licence"
FILES = (
    DataFile("codexglue/python/test.jsonl", "CodeXGLUE code-to-text, Python, test", _LICENCE),
    DataFile(
        "codexglue/python/test-00000-of-00001.parquet",
        "CodeXGLUE code-to-text, Python, test",
        _LICENCE,
        hub=("google/code_x_glue_ct_code_to_text", "python/test-00000-of-00001.parquet"),
    ),
)
"""14,918 rows each: in the layout of CodeXGLUE's own script, and in the hub's."""

MEASURES = ("bleu",)
_QUOTED = re.compile(r"[rRuU]?(\"\"\"|'''|\"|')(.*)\1", re.DOTALL)
_BEFORE_BODY = (tokenize.NL, tokenize.COMMENT, tokenize.INDENT)
_NO_DOCSTRING = "no one string stands first in the body"
_LINES_MIN, _WORDS_MIN = 3, 3
PAPER = Protocol(
    "paper",
    "Code Llama, Table 13",
    "prefix: the function up to the docstring's opening quotes; suffix: from its closing quotes; the function alone",
    "the end marker, or the closing quotes",
    "the output up to its first blank line, as CodeSearchNet cuts docstrings",
    "smoothed BLEU-4 of each text against the docstring's first paragraph, in lower case; the mean",
    "greedy, 64 tokens",
)


class DocstringRecipe(TaskRecipe):
    """How docstrings are asked for.

    Attributes:
        source: the published split, or functions of the corpus's held-out files.
        methods: ways of asking; left to right sees the header alone.
        items: functions; None takes all of the published split, and 500 of a corpus.
        max_tokens: most tokens of a docstring.
        group_items: functions of a group, the unit of resuming.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (PAPER,)

    source: Literal["codexglue", "held_out"] = "codexglue"
    methods: tuple[Method, ...] = ("psm", "spm")
    items: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=2)] = 64
    group_items: Annotated[int, Field(ge=1)] = 32


def read_functions(path: Path) -> Iterator[tuple[str, str, str]]:
    """Name, code and docstring of each row of CodeXGLUE.

    Raises:
        CodecriaError: no such file, or a row without these.
    """
    for number, row in enumerate(read_rows(path), start=1):
        if not {"code", "docstring_tokens"} <= row.keys():
            raise CodecriaError("no function with a docstring", where=f"{path}:{number}")
        yield f"{number}", row["code"], " ".join(row["docstring_tokens"])


def held_out_functions(documents: Iterable[Document], seed: int, items: int) -> list[tuple[str, str, str]]:
    """Name, code and docstring's first paragraph of documented functions, drawn by key; at most `items`."""
    found: dict[bytes, tuple[str, str, str]] = {}
    for document in documents:
        if document.kind != "code" or document.language != "Python":
            continue
        try:
            source = Source(document.text, document.path)
        except CodecriaError:
            continue
        for named in source.definitions:
            node = named.node
            told = ast.get_docstring(node)
            if isinstance(node, ast.ClassDef) or told is None or not _is_fit(named.name, node, told):
                continue
            code = "".join(source.lines[node.lineno - 1 : node.end_lineno])
            name = f"{document.content_hash[:16]}/{named.name}"
            found[digest("docstring", seed, name)] = (name, code, told.split("\n\n")[0])
    return [found[key] for key in sorted(found)[:items]]


def _is_fit(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, told: str) -> bool:
    """CodeSearchNet's rules (Husain et al. 2019, section 2), and that there is a body besides the docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    long_enough = lines - told.count("\n") - 1 >= _LINES_MIN and len(told.split("\n\n")[0].split()) >= _WORDS_MIN
    return long_enough and len(node.body) > 1 and "test" not in name.lower() and not node.name.startswith("__")


def split_at_docstring(code: str) -> tuple[str, str, str] | None:
    """What stands before the docstring, its quotes, and what stands from its closing quotes on; None without one.

    Read by tokens, as far as the docstring: the published split has functions that parse in Python 2 alone.
    """
    lines = io.StringIO(code).readlines()
    rest = iter(lines)
    tokens = tokenize.generate_tokens(lambda: next(rest, ""))
    try:
        next(token for token in tokens if token.string == "def")
        next(token for token in tokens if token.type == tokenize.NEWLINE)
        first = next(token for token in tokens if token.type not in _BEFORE_BODY)
        behind = next(tokens)
    except (StopIteration, tokenize.TokenError, SyntaxError):
        return None
    start, stop = (sum(map(len, lines[: line - 1])) + column for line, column in (first.start, first.end))
    quoted = _QUOTED.fullmatch(code, start, stop)
    alone = behind.type in (tokenize.NEWLINE, tokenize.COMMENT) or behind.string == ";"
    if first.type != tokenize.STRING or quoted is None or not alone:
        return None
    return code[: quoted.start(2)], quoted[1], code[quoted.end(2) :]


def docstring_items(functions: Iterable[tuple[str, str, str]], method: Method, max_tokens: int) -> Iterator[TextItem]:
    """One text for each function whose docstring can be split off."""
    for name, code, told in functions:
        parts = split_at_docstring(code)
        if parts is None:
            continue
        before, quotes, after = parts
        asked = (
            Asked(prompt=before, options={"stop": quotes, "max_tokens": max_tokens})
            if method == "left_to_right"
            else Asked(
                pair=(before, after),
                options={"order": method, "trim": False, "stop": quotes, "max_tokens": max_tokens},
            )
        )
        context = {"prefix": before, "truth": told, "suffix": after}
        yield TextItem(name, asked, partial(_measure, truth=told), context)


def _measure(completion: Completion, truth: str) -> dict[str, float]:
    written = completion.text.strip().split("\n\n")[0]
    return {"bleu": smoothed_bleu(" ".join(written.split()), " ".join(truth.split()))}


def _left_out(_subject: Subject, _judge: Judge, items: Sequence[str], task: str, method: str) -> list[Sample]:
    return [Sample(task, method, name, not_run=dict.fromkeys(MEASURES, _NO_DOCSTRING)) for name in items]


def _groups(recipe: DocstringRecipe, given: Given) -> list[Group]:
    if recipe.source == "held_out":
        functions = held_out_functions(given.held_out(), given.seed, recipe.items or 500)
        if not functions:
            raise MissingDataError("no documented Python functions are held out", where=given.folder or given.corpus)
    else:
        functions = list(read_functions(_published(given)))[: recipe.items]
    task = f"{TASK.name}/{recipe.source}"
    missing = [name for name, code, _ in functions if split_at_docstring(code) is None]
    groups: list[Group] = []
    for method in recipe.methods:
        items = list(docstring_items(functions, method, recipe.max_tokens))
        groups += text_groups(task, method, items, MEASURES, recipe.group_items)
        run = partial(_left_out, task=task, method=method)
        groups += in_groups(f"{task}-{method}-left-out", missing, recipe.group_items, run)
    return groups


def _published(given: Given) -> Path:
    """The split in either layout.

    Raises:
        MissingDataError: in neither.
    """
    try:
        return given.data.find(FILES[0]).path
    except MissingDataError:
        return given.data.find(FILES[1]).path


TASK = Task(
    name="docstring",
    recipe=DocstringRecipe,
    groups=_groups,
    about="a function's docstring from its header and body",
    titles={
        "docstring/codexglue": "Docstring generation, CodeXGLUE Python",
        "docstring/held_out": "Docstring generation, held-out functions (stand-in)",
    },
    headline="bleu",
    data=FILES,
)

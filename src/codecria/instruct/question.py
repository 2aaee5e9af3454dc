"""A question with its tests, and what becomes of it: a triplet of question, tests and a solution that passed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from codecria.common.errors import CodecriaError
from codecria.common.random import digest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TRIPLETS = "triplets.jsonl"
"""The file of a run's triplets in its folder."""


@dataclass(frozen=True)
class Place:
    """Where in an installed package a solution is judged: in place of the function that is there.

    Attributes:
        module: dotted name.
        name: of the function in it, `Class.method` for a method.
    """

    module: str
    name: str

    @property
    def package(self) -> str:
        """The package that the module is of."""
        return self.module.partition(".")[0]


@dataclass(frozen=True)
class Question:
    """A task for one Python function.

    Attributes:
        text: the task in words.
        origin: where it is from: `mined toolz.itertoolz:first`, `described toolz.itertoolz:first`, `invented MODEL`.
        entry_point: the function's name; "" until tests tell it.
        signature: its `def` line or lines, up to the colon; "" where unknown.
        tests: each either a doctest example, `>>> ` first, with what sets it up before it, or Python with asserts.
        reference: a solution known to pass; "" for none.
        place: where a solution is judged, None for one that stands alone.
        alone: whether its words alone must do: a solution sees none of its tests.
        killed, mutants: of so many wrong versions of the reference the tests caught so many.
    """

    text: str
    origin: str
    entry_point: str = ""
    signature: str = ""
    tests: tuple[str, ...] = ()
    reference: str = ""
    place: Place | None = None
    alone: bool = False
    killed: int = 0
    mutants: int = 0

    @property
    def id(self) -> str:
        """16 hexadecimal digits of its words, its origin and its place."""
        place = "" if self.place is None else f"{self.place.module}:{self.place.name}"
        return digest("question", self.text, self.origin, place).hex()[:16]


@dataclass(frozen=True)
class Triplet:
    """A question, its tests, and the first solution that passed them all.

    Attributes:
        question: as it was asked.
        solution: Python; it defines the entry point.
        model: who wrote it; "" where it is the reference.
        tries: solutions that were tried up to it, itself among them; 0 where it is the reference.
    """

    question: Question
    solution: str
    model: str = ""
    tries: int = 0


def question_row(question: Question) -> dict[str, Any]:
    """A question as JSON has it."""
    return {"id": question.id, **asdict(question)}


def question_of(row: dict[str, Any]) -> Question:
    """The question of a row that `question_row` made."""
    place = row["place"]
    changed: dict[str, Any] = {"tests": tuple(row["tests"]), "place": None if place is None else Place(**place)}
    return Question(**{name: value for name, value in (row | changed).items() if name != "id"})


def triplet_row(triplet: Triplet) -> dict[str, Any]:
    """A triplet as JSON has it."""
    return {**asdict(triplet), "question": question_row(triplet.question)}


def triplet_of(row: dict[str, Any]) -> Triplet:
    """The triplet of a row that `triplet_row` made."""
    changed: dict[str, Any] = {"question": question_of(row["question"])}
    return Triplet(**(row | changed))


def read_triplets(folder: Path) -> list[Triplet]:
    """The triplets of a finished run.

    Raises:
        CodecriaError: there are none.
    """
    return [triplet_of(row) for row in read_lines(folder / TRIPLETS)]


def to_lines(rows: Iterable[dict[str, Any]]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read what `to_lines` wrote.

    Raises:
        CodecriaError: no file, or a line that is no JSON object.
    """
    rows: list[dict[str, Any]] = []
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CodecriaError("no such file", where=path, mend="run the step that writes it") from error
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            rows += [dict(json.loads(line))] if line else []
        except (ValueError, TypeError) as error:
            raise CodecriaError("no JSON object", where=f"{path}:{number}", mend="remove the file") from error
    return rows

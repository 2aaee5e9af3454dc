"""MBPP: a short function from a sentence and its tests (Austin et al. 2021). Tasks 11 to 510; 2, 3 and 4 are shots.

Of the 3-shot prompt the paper says only that it has three shots; the layout is that of the set's authors.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from codecria.evaluation.answers import between, fenced_block, one_block
from codecria.evaluation.data import DataFile, complete_rows
from codecria.evaluation.plots import pass_by_temperature
from codecria.evaluation.programs import Item, SampledRecipe, program_groups
from codecria.evaluation.protocol import Protocol
from codecria.evaluation.subject import Asked
from codecria.evaluation.task import Given, Group, Task
from codecria.sandbox.verdict import Program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MBPP = DataFile(
    "mbpp/mbpp.jsonl",
    "MBPP",
    "CC-BY-4.0",
    ("ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f",),
)
TESTED = range(11, 511)
SHOTS = (2, 3, 4)
_FIELDS = ("task_id", "text", "code", "test_list", "test_setup_code")
_SCORING = "the program passes the task's three tests; pass@k without bias"
_SAMPLING = "greedy for pass@1; 200 samples at T=0.8, top-p 0.95 for pass@10 and pass@100; 512 tokens"
HARNESS_STOP = ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```")
PAPER = Protocol(
    "paper",
    "Code Llama, Table 2: three shots",
    "tasks 2, 3 and 4 with their solutions, then the task: sentence, all its tests, [BEGIN]; CR LF become LF",
    "[DONE], or an end id",
    "the output at [DONE]; no prompt is cut",
    _SCORING,
    _SAMPLING,
    {"layout": "shots", "shots": 3, "stop": ("[DONE]",)},
)
ZERO_SHOT = Protocol(
    "zero-shot",
    "the same without shots",
    "the task alone: sentence, all its tests, [BEGIN]",
    "[DONE], or an end id",
    PAPER.truncation,
    _SCORING,
    _SAMPLING,
    {"layout": "shots", "shots": 0, "stop": ("[DONE]",)},
)
HARNESS = Protocol(
    "harness",
    "bigcode-evaluation-harness, mbpp (InCoder's prompt)",
    "a docstring of the sentence and the first test; no shot; not healed",
    f"{HARNESS_STOP}, or an end id",
    "the output at the first stop string",
    _SCORING,
    "as the caller says",
    {"layout": "docstring", "stop": HARNESS_STOP, "heal": False},
)
INSTRUCT = Protocol(
    "instruct",
    "Code Llama, Table 8: zero-shot, in a conversation",
    "one message by the model's template: sentence, all tests, code asked for between [PYTHON] and [/PYTHON]",
    "the template's end",
    "what stands between the marks, else the first fenced block; an answer with neither fails",
    f"{_SCORING}; share of answers with exactly one block of code that parses",
    "greedy, 512 tokens",
    {"layout": "chat"},
)


class MbppRecipe(SampledRecipe):
    """How MBPP is run.

    Attributes:
        layout: of the prompt: shots and [BEGIN], a docstring, or a conversation.
        shots: solved tasks before the task, with the first of the layouts.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (PAPER, ZERO_SHOT, HARNESS, INSTRUCT)

    layout: Literal["shots", "docstring", "chat"] = "shots"
    shots: Literal[0, 1, 2, 3] = 3


@dataclass(frozen=True)
class Exercise:
    """A task: what is asked, a solution, the tests shown, and the program's tests."""

    number: int
    text: str
    code: str
    shown: Sequence[str]
    tests: str
    entry_point: str | None


def load_exercises(path: Path) -> dict[int, Exercise]:
    """All tasks by number.

    Raises:
        CodecriaError: a row is none.
    """
    found: dict[int, Exercise] = {}
    for _, row in complete_rows(path, _FIELDS, "task"):
        tests = "\n".join([row["test_setup_code"], *row["test_list"]])
        code = row["code"].replace("\r\n", "\n")
        found[row["task_id"]] = Exercise(
            row["task_id"], row["text"], code, row["test_list"], tests, _entry_point(code, tests)
        )
    return found


def _entry_point(code: str, tests: str) -> str | None:
    """The function or class of the solution that the tests call; `sum`, say, is then not taken for Python's own."""
    calls = (node.func for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Call))
    called = {each.id for each in calls if isinstance(each, ast.Name)}
    defined = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return next((name for name in defined if name in called), None)


def exercise_item(exercise: Exercise, shots: Sequence[Exercise], recipe: MbppRecipe) -> Item:
    """A task as a program to be written."""
    name = f"Mbpp/{exercise.number}"
    if recipe.layout == "chat":
        words = f"{_told(exercise)}Write the code between [PYTHON] and [/PYTHON]."

        def answered(text: str) -> Program | None:
            code = between(text, "[PYTHON]", "[/PYTHON]") or fenced_block(text)
            return None if code is None else Program(fenced_block(code) or code, exercise.tests, exercise.entry_point)

        asked = Asked(messages=[{"role": "user", "content": words}])
        return Item(name, asked, answered, context={"prompt": words}, more=one_block)
    if recipe.layout == "docstring":
        prompt = f'"""\n{exercise.text}\n{exercise.shown[0]}\n"""\n'
    else:
        solved = "".join(f"{_told(each)}[BEGIN]\n{each.code}\n[DONE]\n" for each in shots[: recipe.shots])
        prompt = f"{solved}{_told(exercise)}[BEGIN]\n"

    def program(text: str) -> Program:
        return Program(text, exercise.tests, exercise.entry_point)

    return Item(name, Asked(prompt=prompt), program, context={"prompt": prompt})


def _told(exercise: Exercise) -> str:
    """The set's authors' words for a task."""
    tests = "\n".join(exercise.shown)
    start = "You are an expert Python programmer, and here is your task:"
    return f"{start} {exercise.text} Your code should pass these tests:\n\n{tests}\n"


def _groups(recipe: MbppRecipe, given: Given) -> list[Group]:
    exercises = load_exercises(given.data.find(MBPP).path)
    shots = [exercises[number] for number in SHOTS]
    items = [exercise_item(each, shots, recipe) for number, each in exercises.items() if number in TESTED]
    return program_groups(TASK.name, items, recipe, given.seed)


TASK = Task(
    name="mbpp",
    recipe=MbppRecipe,
    groups=_groups,
    about="a short function from a sentence and three tests",
    titles={"mbpp": "MBPP"},
    headline="pass@1",
    data=(MBPP,),
    plot=pass_by_temperature,
)

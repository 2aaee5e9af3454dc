"""APPS: programs for problems of programming contests, judged by their output (Hendrycks et al. 2021).

The paper prompts with two solved problems and does not print them; the two here are our own. Of the published tests
those whose input and output stand in the problem's text count as public: `pass@k filtered` is over the samples that
pass these. The set itself is read from a file of its layout; `stand_in` takes 20 problems of CodeContests in its place,
which the rows' `task` and the report say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from codecria.common.errors import CodecriaError
from codecria.corpus.evaluation_sets import read_rows
from codecria.evaluation.answers import fenced_block
from codecria.evaluation.data import DataFile, Found
from codecria.evaluation.literals import literal
from codecria.evaluation.plots import pass_by_temperature
from codecria.evaluation.programs import Item, SampledRecipe, program_groups
from codecria.evaluation.protocol import Protocol
from codecria.evaluation.subject import Asked
from codecria.evaluation.task import Given, Group, Task
from codecria.sandbox.limits import Limits
from codecria.sandbox.verdict import Program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Difficulty = Literal["introductory", "interview", "competition"]
APPS = DataFile("apps/test.jsonl", "APPS, test split", "MIT", hub=("codeparrot/apps", "test.jsonl"))
CONTESTS = DataFile(
    "code_contests/code_eval_code_contests.jsonl",
    "CodeContests, 20 problems",
    "CC-BY-4.0",
    ("e286e28fe9d118f34580a36627ddd4f9105d651ef81c22f4cca406c96f94ac8f",),
    stand_in=True,
)
LIMITS = Limits(wall_s=15.0, cpu_s=4.0, memory_bytes=1 << 30)
STOP = ("\nQUESTION", "\n---", "\nANSWER")
_SHOTS = (
    (
        "A shelf holds n books side by side, each of some thickness. Print the thickness of all of them together.\n\n"
        "Input: the number n, and on the next line n thicknesses.\nOutput: one number.",
        "n = int(input())\nthicknesses = list(map(int, input().split()))\nprint(sum(thicknesses[:n]))\n",
    ),
    (
        "For each of t words print YES if it reads the same from both ends, and NO if it does not.\n\n"
        "Input: the number t, then t lines with a word each.\nOutput: t lines.",
        'for _ in range(int(input())):\n    word = input().strip()\n    print("YES" if word == word[::-1] else "NO")\n',
    ),
)
_PRINTED = """
def _near(out, wanted):
    if out == wanted:
        return True
    try:
        return int(out) == int(wanted)
    except ValueError:
        pass
    try:
        return abs(float(out) - float(wanted)) < 1e-8 + 1e-5 * abs(float(wanted))
    except ValueError:
        return False

_words = stdout.split()
assert len(_words) == len(_wanted) and all(map(_near, _words, _wanted)), stdout[:200]
"""
"""Numbers within np.allclose's tolerances, as in APPS' own script; there also whole ones, and order may be lost."""

_RETURNED = """
def _lists(out):
    return [list(each) for each in out] if isinstance(out, list) and out and isinstance(out[0], tuple) else out

_out = list(_out) if isinstance(_out, tuple) else _out
assert _out == _wanted or [_out] == _wanted or [_lists(_out)] == _wanted, repr(_out)[:200]
"""
"""As in APPS' own script: a list of tuples equals only the element of a list. There the first of several is enough."""

_IMPORTS = """
import collections, heapq, itertools, math, sys, time
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from functools import lru_cache
from heapq import *
from itertools import accumulate, combinations, permutations, product
from math import ceil, cos, exp, fabs, floor, gcd, log, log2, sin, sqrt, tan
from typing import List, Tuple
exit = quit = sys.exit
"""
"""What APPS' own script imports before every program, and the two names that an interpreter without `site` lacks."""

_STREAMS = "from sys import stdin, stdout\n"
"""What a program that reads finds there besides."""

_SLOW_IMPORTS = {
    "fractions": "import fractions\n",
    "random": "import random\n",
    "np": "try:\n    import numpy as np\nexcept ImportError:\n    pass\n",
}
"""The rest of them, for programs that hold the name: with these every program would take three times as long."""

_SCORING = (
    "behind the imports of APPS' own script (List, Tuple, Counter, deque, lru_cache, heapq, math's functions and more; "
    "np where the sandbox has NumPy); every test: printed words equal the expected ones (numbers that are not both "
    "whole: within 1e-8 and a relative 1e-5), or the called function's result does, itself or as the only element of a "
    "list: a tuple as a list, as that element a list of tuples as one of lists, the keys of a dict that is the only "
    "argument or the result as whole numbers; pass@k without bias, unfiltered and filtered by the tests that the "
    "problem's text shows"
)
PAPER = Protocol(
    "paper",
    "Code Llama, Table 3: two shots",
    "two solved problems of our own, then QUESTION, the text, the starter code, how input comes, ANSWER",
    f"{STOP}, or an end id",
    "the output at the first stop string; no prompt is cut",
    _SCORING,
    "200 samples at T=0.6, top-p 0.95 for pass@5, pass@10 and pass@100; greedy where nothing is set",
    {"shots": 2, "stop": STOP},
)
HARNESS = Protocol(
    "harness",
    "bigcode-evaluation-harness, apps-*",
    "QUESTION, the text, the starter code, how input comes, ANSWER; no shot; not healed",
    PAPER.stop,
    PAPER.truncation,
    _SCORING,
    "as the caller says",
    {"shots": 0, "stop": STOP, "heal": False},
)
INSTRUCT = Protocol(
    "instruct",
    "Code Llama, Table 15: zero-shot, in a conversation",
    "one message by the model's template: the same without shots, and to answer in one fenced block",
    "the template's end",
    "the first fenced block is the program; an answer without one fails",
    _SCORING,
    PAPER.sampling,
    {"shots": 0, "chat": True, "max_tokens": 1024},
)


class AppsRecipe(SampledRecipe):
    """How APPS is run.

    Attributes:
        difficulties: whose problems; each is a table of its own.
        shots: solved problems before the problem.
        chat: whether it is asked in a conversation.
        stand_in: take CodeContests' 20 problems in place of APPS.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (PAPER, HARNESS, INSTRUCT)

    difficulties: tuple[Difficulty, ...] = ("introductory", "interview", "competition")
    shots: Literal[0, 1, 2] = 2
    chat: bool = False
    stand_in: bool = False


@dataclass(frozen=True)
class Contest:
    """A problem. Of `tests`, pairs of input and output, the first `public` stand in its text.

    What is read and printed is a text, or a list of its lines; what a function is given, a list of arguments.
    """

    id: str
    text: str
    tests: Sequence[tuple[Any, Any]]
    public: int
    starter: str = ""
    function: str = ""
    difficulty: str = "code_contests"


def load_apps(found: Found) -> Iterator[Contest]:
    """APPS' problems that have tests, out of a file in the layout of its hub's copy.

    Raises:
        CodecriaError: a row is none.
    """
    for number, each in enumerate(read_rows(found.path), start=1):
        row = cast("dict[str, Any]", each)
        try:
            tests = row["input_output"]
            tests = cast("dict[str, Any]", json.loads(tests) if isinstance(tests, str) else tests) if tests else {}
            pairs = list(zip(tests.get("inputs", []), tests.get("outputs", []), strict=True))
            name = str(row.get("problem_id", row.get("id", number)))
            text, difficulty = str(row["question"]), str(row["difficulty"])
        except (KeyError, ValueError, AttributeError) as error:
            what = f"no problem of APPS ({type(error).__name__}: {error})"
            raise CodecriaError(what, where=f"{found.path}:{number}") from error
        if pairs:
            starter, function = str(row.get("starter_code") or ""), str(tests.get("fn_name") or "")
            ordered, public = (pairs, 0) if function else _public_first(pairs, text)
            yield Contest(f"APPS/{name}", text, ordered, public, starter, function, difficulty)


def load_contests(found: Found) -> Iterator[Contest]:
    """The stand-in's problems."""
    for each in read_rows(found.path):
        row = cast("dict[str, Any]", each)
        tests = cast("list[dict[str, dict[str, str]]]", json.loads(row["test"]))
        pairs = [(test["input"]["stdin"], test["output"]["stdout"]) for test in tests]
        ordered, public = _public_first(pairs, row["content"])
        yield Contest(f"CodeContests/{row['id']}", row["content"], ordered, public)


def _public_first(pairs: Sequence[tuple[Any, Any]], text: str) -> tuple[list[tuple[Any, Any]], int]:
    """Tests with those first whose input and output stand in the text, blanks aside; and how many these are."""
    words = " ".join(text.split())
    public = [pair for pair in pairs if all(" ".join(_text(part).split()) in words for part in pair)]
    return [*public, *(pair for pair in pairs if pair not in public)], len(public)


def _text(read_or_printed: Any) -> str:
    """A text that the set may hold as a list of its lines."""
    if isinstance(read_or_printed, list):
        return "\n".join(map(str, cast("list[Any]", read_or_printed)))
    return str(read_or_printed)


def contest_prompt(contest: Contest, shots: int) -> str:
    """The problem behind solved ones."""
    solved = "".join(f"{_asked(text, '', '')}{code}\n---\n" for text, code in _SHOTS[:shots])
    return f"{solved}{_asked(contest.text, contest.starter, contest.function)}"


def _asked(text: str, starter: str, function: str) -> str:
    way = "Use Call-Based format" if function else "Use Standard Input format"
    return f"\nQUESTION:\n{text}{starter}\n{way}\nANSWER:\n"


def contest_programs(contest: Contest, code: str) -> list[Program]:
    """The program with each test."""
    imports = _IMPORTS + "".join(lines for name, lines in _SLOW_IMPORTS.items() if name in code)
    if not contest.function:
        return [
            Program(code, f"_wanted = {_text(output).split()!r}\n{_PRINTED}", None, _text(given), imports + _STREAMS)
            for given, output in contest.tests
        ]
    called = f"Solution().{contest.function}" if "class Solution" in code else contest.function
    tests = [
        f"_out = {called}(*{literal(_whole_keys(given))})\n_wanted = {literal(_whole_keys(output))}\n{_RETURNED}"
        for given, output in contest.tests
    ]
    return [Program(code, each, prelude=imports) for each in tests]


def _whole_keys(value: Any) -> Any:
    """A dict, or a list of one alone, with its keys as integers, where all are such: JSON has no keys but texts."""
    if isinstance(value, list) and len(cast("list[Any]", value)) == 1 and isinstance(value[0], dict):
        return [_whole_keys(value[0])]
    try:
        return {int(key): part for key, part in value.items()} if isinstance(value, dict) else value
    except ValueError:
        return value


def contest_item(contest: Contest, recipe: AppsRecipe) -> Item:
    """A problem as a program to be written."""
    prompt = contest_prompt(contest, recipe.shots)
    if recipe.chat:
        prompt = f"{prompt.strip()}\nAnswer with a Python program in one fenced code block."
    asked = Asked(messages=[{"role": "user", "content": prompt}]) if recipe.chat else Asked(prompt=prompt)

    def programs(text: str) -> list[Program] | None:
        code = fenced_block(text) if recipe.chat else text
        return None if code is None else contest_programs(contest, code)

    return Item(contest.id, asked, programs, contest.public, LIMITS, {"prompt": prompt})


def _groups(recipe: AppsRecipe, given: Given) -> list[Group]:
    if recipe.stand_in:
        items = [contest_item(each, recipe) for each in load_contests(given.data.find(CONTESTS))]
        return program_groups(f"{TASK.name}/code_contests", items, recipe, given.seed)
    found = list(load_apps(given.data.find(APPS)))
    groups: list[Group] = []
    for difficulty in recipe.difficulties:
        items = [contest_item(each, recipe) for each in found if each.difficulty == difficulty]
        groups += program_groups(f"{TASK.name}/{difficulty}", items, recipe, given.seed)
    return groups


TASK = Task(
    name="apps",
    recipe=AppsRecipe,
    groups=_groups,
    about="programs for contest problems that read and print, judged by all tests and filtered by the public ones",
    titles={
        "apps/introductory": "APPS, introductory",
        "apps/interview": "APPS, interview",
        "apps/competition": "APPS, competition",
        "apps/code_contests": "In place of APPS: CodeContests, 20 problems",
    },
    headline="pass@1",
    data=(APPS, CONTESTS),
    plot=pass_by_temperature,
)

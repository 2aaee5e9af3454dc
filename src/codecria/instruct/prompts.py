"""What models are asked, in the form of the paper's appendix H.1 (our words), and how their answers are read.

Questions come as a numbered list, tests between [TESTS] and [/TESTS], solutions between [PYTHON] and [/PYTHON], each
after one example. All prompts of a kind begin alike, so that a cache of prefixes reads the beginning once.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from typing import TYPE_CHECKING

from codecria.common.random import digest
from codecria.instruct.judging import is_example

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.instruct.question import Question

SEEDS = (
    "Tell how deeply lists are nested in a list at most.",
    "Turn an array to the right by a given number of places.",
    "Give the name of the musical note for a frequency in hertz.",
    "Take out the white space between the digits of a text, and no other.",
    "Count the words of a text that have a given length.",
    "Find the longest palindrome inside a text.",
    "Find the longest part of a text in which no letter comes twice.",
    "Reverse the decimal digits of an integer and keep its sign.",
    "Count the valleys in a list of heights.",
    "Reverse the order of the words of a text in groups of k.",
    "Merge intervals that overlap.",
    "Decide whether two words are anagrams.",
    "Convert an integer to a Roman numeral.",
    "Find the k most frequent elements of a list.",
    "Split a list of numbers into two halves of equal sum, if there are such halves.",
)
"""Questions to show. The first ten have the themes of the paper's ten (Figure 10)."""

_SHOWN_SEEDS = 10

_TEST_SHOT = """Problem: Write a function get_unique_elements that returns the elements of a list without repetitions, \
in the order of their first appearance.
[TESTS]
# Test case 1:
assert get_unique_elements([]) == []
# Test case 2:
assert get_unique_elements([1]) == [1]
# Test case 3:
assert get_unique_elements([1, 2, 3, 2, 1]) == [1, 2, 3]
# Test case 4:
assert get_unique_elements(["b", "a", "b"]) == ["b", "a"]
# Test case 5:
assert get_unique_elements([0, 0, 0]) == [0]
[/TESTS]"""

_SOLUTION_SHOT = """Problem: Write a function get_unique_elements that returns the elements of a list without \
repetitions, in the order of their first appearance.
Test: assert get_unique_elements([1, 2, 3, 2, 1]) == [1, 2, 3]
[PYTHON]
def get_unique_elements(elements):
    seen = []
    for element in elements:
        if element not in seen:
            seen.append(element)
    return seen
[/PYTHON]"""

_DESCRIPTION_SHOT = """Function:
def last_word(text):
    words = text.split()
    return words[-1] if words else ""
Task: Write a function last_word that returns the last word of a text, words being separated by white space, and an \
empty text where there is no word."""

_SHOWN_WORDS = "last word of a text"
_TELLING_CHARACTERS = 15
_LEAST_WORDS = 5

FUNCTION_STOPS = (
    "\n```",
    "\ndef ",
    "\nclass ",
    "\n#",
    "\nif ",
    "\nprint",
    "\n@",
    "\n>>>",
    "\nassert",
    "\nimport",
    "\nfrom",
)

_NUMBERED = re.compile(r"^\s*(\d+)[.)]\s+(.+?)\s*$", re.MULTILINE)
_FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


def questions_prompt(count: int, *key: int | str) -> str:
    """Asks for `count` questions after ten that are shown; which ten, and their order, is drawn by the key."""
    order = sorted(range(len(SEEDS)), key=lambda place: digest("seeds", place, *key))
    shown = "\n".join(f"{number}. {SEEDS[place]}" for number, place in enumerate(order[:_SHOWN_SEEDS], 1))
    return (
        f"Write {count} programming interview questions of easy and medium difficulty. Make them as different from "
        "one another as you can: no two may be alike. Each must be solvable with one Python function that needs "
        f"nothing but the standard library.\n\n{shown}\n"
    )


def read_questions(text: str) -> list[str]:
    """The questions of a numbered list, white space made single; none that was shown."""
    found = (" ".join(match[2].split()) for match in _NUMBERED.finditer(text))
    return [each for each in found if each not in SEEDS and len(each.split()) > 3]


def tests_prompt(question: Question) -> str:
    """Asks for five tests."""
    return (
        "Write 5 tests that check a Python function that solves a programming problem. Put them between [TESTS] and "
        f"[/TESTS], one assert each.\n\n{_TEST_SHOT}\n\nProblem: {question.text}\n"
    )


def read_tests(text: str) -> list[str]:
    """The asserts of an answer, one test each, imports and assignments before an assert with it; [] without any.

    An answer that does not parse is read up to the line that is wrong.
    """
    between = _between(text, "TESTS")
    code = textwrap.dedent(between if between else _fenced(text))
    tree = _longest_parsing(code)
    tests: list[str] = []
    waiting: list[str] = []
    for node in tree.body:
        waiting.append(ast.unparse(node))
        if isinstance(node, ast.Assert):
            tests.append("\n".join(waiting))
            waiting = [line for line in waiting if line.startswith(("import ", "from "))]
    return list(dict.fromkeys(tests))


def solution_prompt(question: Question, shown: str | None) -> str:
    """Asks for a solution, one of the tests shown, as the paper does."""
    test = f"Test: {shown}\n" if shown else ""
    signature = f"The function begins with: {question.signature}\n" if question.signature else ""
    return (
        "Write a Python function that solves a programming problem. Put the code between [PYTHON] and [/PYTHON]."
        f"\n\n{_SOLUTION_SHOT}\n\nProblem: {question.text}\n{signature}{test}"
    )


def read_solution(text: str) -> str:
    """The code of an answer: between its marks, else in its fenced block, else all of it."""
    return textwrap.dedent(_between(text, "PYTHON") or _fenced(text)).strip("\n") + "\n"


def function_prompt(question: Question, shown: str | None) -> str:
    """The function up to its docstring, to be completed: for models that were not taught to follow instructions.

    Without a signature this is not possible: the caller asks by `solution_prompt`.
    """
    test = f"\n{shown}" if shown and is_example(shown) else f"\n>>> # {shown}" if shown else ""
    told = textwrap.indent(f"{question.text}\n{test}".strip().replace('"""', "'''"), "    ")
    raw = "r" if "\\" in told else ""
    return f'{question.signature}\n    {raw}"""{told.strip()}\n    """\n'


def read_function(question: Question, completion: str) -> str:
    """The function without docstring, from what follows that: up to the first line that is not indented, and of
    that what parses, for a text that was cut at its most tokens ends inside a statement.
    """
    lines = completion.splitlines()
    ends = next((number for number, line in enumerate(lines) if line[:1].strip()), len(lines))
    for count in range(ends, 0, -1):
        code = "\n".join([question.signature, *lines[:count]]).rstrip()
        if parses(code):
            return f"{code}\n"
    return f"{question.signature}\n{completion.rstrip()}\n"


def description_prompt(question: Question) -> str:
    """Asks for the task that a function solves."""
    return (
        "Describe the task that a Python function solves, so that somebody who does not see it can write it. Say what "
        "is given, what is returned and what happens in special cases. Write no code.\n\n"
        f"{_DESCRIPTION_SHOT}\n\nFunction:\n{question.reference.rstrip()}\n"
    )


def fault_of_description(told: str, reference: str) -> str:
    """Why words do not describe a function: too few, its code, or those of the function that was shown; "" if they do.

    A small model likes to repeat what it sees, and a question that holds its answer teaches and measures nothing.
    """
    if len(told.split()) < _LEAST_WORDS:
        return "no description"
    lines = [" ".join(line.split()) for line in reference.splitlines()]
    if re.search(r"\bdef \w+\(", told) or any(len(line) > _TELLING_CHARACTERS and line in told for line in lines):
        return "the description holds code"
    return "the description is the example's" if _SHOWN_WORDS in told else ""


def read_description(text: str) -> str:
    """The first paragraph, without the heading."""
    told = text.strip().removeprefix("Task:").strip()
    return " ".join(re.split(r"\n\s*\n|\nFunction:", told)[0].split())


def parses(text: str) -> bool:
    """Whether a text is Python that defines something."""
    return bool(_longest_parsing(text, whole=True).body)


def functions_in(text: str) -> Sequence[str]:
    """Names of the functions that a text defines at its top level."""
    return [node.name for node in _longest_parsing(text, whole=True).body if isinstance(node, ast.FunctionDef)]


def _between(text: str, mark: str) -> str:
    """What stands between `[MARK]`, or the beginning, and `[/MARK]`, or the end; "" where both are missing."""
    inner, found, _ = text.partition(f"[/{mark}]")
    _, begun, inside = inner.rpartition(f"[{mark}]")
    return inside if found or begun else ""


def _fenced(text: str) -> str:
    found = _FENCED.search(text)
    return found[1] if found else text


def _longest_parsing(code: str, whole: bool = False) -> ast.Module:
    """The syntax tree of a text, or of its longest beginning at a line end that has one."""
    lines = code.splitlines()
    for count in range(len(lines), -1, -1):
        try:
            with warnings.catch_warnings(action="ignore"):  # of escapes and literals in a model's text
                return ast.parse("\n".join(lines[:count]))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            if whole:
                break
    return ast.Module([], [])

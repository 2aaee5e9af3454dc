r"""Single lines to fill: every line of HumanEval's solutions, and lines drawn from held-out files.

A middle is a whole line with its indentation and without its line end; the suffix begins with that line end. Fried
et al. 2022 (InCoder) introduced the task; the published files of Bavarian et al. 2022 keep the line end in the
middle, so `middle + "\n"` is their `canonical_solution` and the suffix without its first character their `suffix`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codecria.common.random import digest, permutation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codecria.corpus.document import Document
    from codecria.evaluation.tasks.problems import Problem

_SHORTEST = 4
_LONGEST = 200


@dataclass(frozen=True)
class Line:
    """A line to fill. `problem` is there where the filled text can be run."""

    id: str
    prefix: str
    middle: str
    suffix: str
    problem: Problem | None = None


def human_eval_lines(problems: Iterable[Problem]) -> list[Line]:
    r"""Each non-blank line of each canonical solution in turn: 1,033 of the 164 problems, named as published.

    The published prompts of a solution's very first line end with one blank line more than the problem's own prompt;
    it is kept, so that every prompt is the published one to the byte.
    """
    lines: list[Line] = []
    for problem in problems:
        solution = problem.canonical_solution.split("\n")
        for number, middle in enumerate(solution):
            if not middle.strip():
                continue
            before = "".join(f"{line}\n" for line in solution[:number]) if number else "\n"
            after = "".join(f"\n{line}" for line in solution[number + 1 :])
            name = f"SingleLineInfilling/{problem.task_id}/L{number}"
            lines.append(Line(name, problem.prompt + before, middle, after, problem))
    return lines


def corpus_lines(
    documents: Iterable[Document],
    seed: int,
    items: int,
    lines_per_file: int = 4,
    prefix_characters: int = 3000,
    suffix_characters: int = 1000,
) -> list[Line]:
    """Lines of held-out code, drawn by key: the same files and lines whatever the order of `documents`.

    Files come in the order of a keyed digest of their content hash; of each, up to `lines_per_file` lines that hold
    4 characters other than blanks and are at most 200 long. What lies before and after the line is cut to the given
    numbers of characters, at line ends where there are any.

    Returns:
        at most `items` lines; fewer when the files hold fewer.
    """
    code = [document for document in documents if document.kind == "code"]
    code.sort(key=lambda document: digest("single-line file", seed, document.content_hash))
    chosen: list[Line] = []
    for document in code:
        text_lines = document.text.split("\n")
        fit = [number for number, line in enumerate(text_lines) if fits(line)]
        order = permutation(len(fit), "single-line", seed, document.content_hash) if fit else []
        for number in sorted(fit[place] for place in order[:lines_per_file]):
            before = "".join(f"{line}\n" for line in text_lines[:number])
            after = "".join(f"\n{line}" for line in text_lines[number + 1 :])
            name = f"{document.content_hash[:16]}/L{number}"
            prefix, suffix = _last(before, prefix_characters), _first(after, suffix_characters)
            chosen.append(Line(name, prefix, text_lines[number], suffix))
        if len(chosen) >= items:
            break
    return chosen[:items]


def fits(line: str) -> bool:
    """Whether a line is worth asking for: 4 characters other than blanks, and at most 200 in all."""
    return len(line) <= _LONGEST and len("".join(line.split())) >= _SHORTEST


def _last(text: str, characters: int) -> str:
    """The end of a text, from the first line that begins inside the window."""
    if len(text) <= characters:
        return text
    # One character more is looked at: a line may begin exactly where the window does.
    window = text[len(text) - characters - 1 :]
    start = window.find("\n", 0, -1)
    return window[1:] if start < 0 else window[start + 1 :]


def _first(text: str, characters: int) -> str:
    """The start of a text, up to the last line that ends inside the window."""
    if len(text) <= characters:
        return text
    stop = text.rfind("\n", 1, characters + 1)
    return text[:characters] if stop < 0 else text[:stop]

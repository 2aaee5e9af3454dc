"""Single lines of solutions in Python, Java and JavaScript, exact match (Allal et al. 2023; the paper's Table 6).

The published files hold solutions line by line. Asked for is every line that is neither blank nor a comment: 1,043 in
Python, the number of that language's rows in `bigcode/santacoder-fim-task`; 1,780 in Java.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from codecria.common.errors import CodecriaError
from codecria.common.random import permutation
from codecria.corpus.evaluation_sets import read_rows
from codecria.evaluation.data import DataFile, MissingDataError
from codecria.evaluation.samples import Sample
from codecria.evaluation.task import Given, Group, Task
from codecria.evaluation.tasks.lines import Line
from codecria.evaluation.tasks.single_line import LINE_MEASURES, SingleLineRecipe, line_groups

if TYPE_CHECKING:
    from pathlib import Path

LanguageName = Literal["py", "java", "js"]
_TITLES = {"py": "Python", "java": "Java", "js": "JavaScript"}
_COMMENTS = {"py": "#", "java": "//", "js": "//"}
_HASHES = {
    "py": ("3193ec09339985fb6e580b386b66107586d13af2b273a29b18f6c585841e5211",),
    "java": ("70abef411718a1d1ed61b3fdc4532fe2faceb46dc997d6fc02a5e5174b896a5e",),
    "js": (),
}
FILES = {
    language: DataFile(
        f"multipl_e_fim/fim-{language}.json",
        f"MultiPL-E fill-in-the-middle, {title}",
        "BSD-3-Clause with a fourth clause: not to be trained on",
        _HASHES[language],
    )
    for language, title in _TITLES.items()
}


class MultiplEFimRecipe(SingleLineRecipe):
    """How the lines are asked for.

    Attributes:
        languages: of which files.
        items: lines of each language, drawn by key; None takes all.
    """

    languages: tuple[LanguageName, ...] = get_args(LanguageName)


def read_lines(path: Path, language: LanguageName) -> list[Line]:
    """The lines of a published file, named `language/row/Lnumber`.

    Raises:
        CodecriaError: no such file, or a row that is not of its form.
    """
    lines: list[Line] = []
    for number, row in enumerate(read_rows(path)):
        if not {"language", "prompt", "body"} <= row.keys() or row["language"] != language:
            raise CodecriaError(f"no solution in '{language}'", where=f"{path}, row {number + 1}")
        body: list[str] = row["body"]
        for place, middle in enumerate(body):
            if middle.strip() and not middle.strip().startswith(_COMMENTS[language]):
                before = "".join(f"{line}\n" for line in body[:place])
                after = "".join(f"\n{line}" for line in body[place + 1 :])
                lines.append(Line(f"{language}/{number}/L{place}", row["prompt"] + before, middle, after))
    return lines


def _groups(recipe: MultiplEFimRecipe, given: Given) -> list[Group]:
    groups: list[Group] = []
    for language in recipe.languages:
        task = f"{TASK.name}/{language}"
        try:
            lines = read_lines(given.data.find(FILES[language]).path, language)
        except MissingDataError as error:
            row = Sample(task, "none", "all", not_run=dict.fromkeys(LINE_MEASURES, str(error)))
            groups.append(Group(f"{TASK.name}-{language}-none", 1, lambda _subject, _judge, row=row: [row]))
            continue
        if recipe.items is not None:
            chosen = sorted(permutation(len(lines), task, given.seed)[: recipe.items])
            lines = [lines[place] for place in chosen]
        groups += line_groups(task, lines, recipe)
    return groups


TASK = Task(
    name="multipl_e_fim",
    recipe=MultiplEFimRecipe,
    groups=_groups,
    about="each line of solutions in Python, Java and JavaScript, from both sides and from the left alone",
    titles={f"multipl_e_fim/{language}": f"Single-line infilling, {title}" for language, title in _TITLES.items()},
    headline="exact_match",
    data=tuple(FILES.values()),
)

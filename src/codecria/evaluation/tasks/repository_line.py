"""Repository-level completion in RepoBench's form: definitions from other files, the file so far, the next line.

RepoBench v1.1 (Liu et al. 2023) is read where it can be had. `source: held_out` makes rows of the same columns from a
corpus's held-out Python: the next line is the first one that uses a name imported from another file of its repository,
and the snippets are the definitions of all names so imported. Rows are named by their source; figures do not compare.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from codecria.evaluation.data import DataFile, MissingDataError, complete_rows
from codecria.evaluation.protocol import Protocol, TaskRecipe
from codecria.evaluation.subject import Asked
from codecria.evaluation.task import Given, Group, Task
from codecria.evaluation.tasks.repository_rows import CrossFileRow, Snippet, held_out_rows
from codecria.evaluation.text_measures import line_similarity
from codecria.evaluation.texts import TextItem, text_groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from codecria.generation.sequence import Completion
    from codecria.tokenizer.tokenizer import Tokenizer

Language = Literal["python", "java"]
Setting = Literal["cross_file_first", "cross_file_random", "in_file"]
Shown = Literal["cross_file", "file_alone"]
MEASURES = ("line_match", "line_similarity")
_LICENCE = "CC (no version stated); each file under its repository's licence"
_HUB_FILES = """
python cross_file_first-00000-of-00002-baebda7f3a6e980a cross_file_first-00001-of-00002-5780ed62c5162a3e
python cross_file_random-00000-of-00001-523c739d72005569 in_file-00000-of-00001-9721c68f6224a587
java cross_file_first-00000-of-00002-dff72983dd5b8697 cross_file_first-00001-of-00002-3dd7fb93505dea96
java cross_file_random-00000-of-00002-646d3a97fc4c4438 cross_file_random-00001-of-00002-fe9e6724cee36f1d
java in_file-00000-of-00002-175726bcd94b12f9 in_file-00001-of-00002-c3b636f4dac4ab76
"""


class _Part(NamedTuple):
    language: str
    setting: str
    file: DataFile


def _parts() -> Iterator[_Part]:
    for language, *names in map(str.split, _HUB_FILES.split("\n")[1:-1]):
        for name in names:
            setting, part = name.split("-")[:2]
            title = f"RepoBench v1.1, {language}, {setting}, part {int(part)}"
            hub = (f"tianyang/repobench_{language}_v1.1", f"data/{name}.parquet")
            yield _Part(language, setting, DataFile(f"repobench/{language}/{name}.parquet", title, _LICENCE, hub=hub))


PARTS = tuple(_parts())
_COMMENT = {"python": "#", "java": "//"}
_BLOCK = {"python": (('"""', "'''"), ('"""', "'''")), "java": (("/*",), ("*/",))}
REPOBENCH = Protocol(
    "repobench",
    "RepoBench v1.1, data/utils.py and run.py",
    "a comment with the repository's name; each snippet under a comment with its path; a comment with the file's path, "
    "its imports, its code so far, a line end (healed); 4 line ends or more become 2",
    "an end id, or max_tokens",
    "lines from the snippets' end, until the prompt has at most 15,800 tokens (the published function fails "
    "there); the output's first line that is no comment",
    "equal but for blanks; fuzz.ratio of the two lines",
    "greedy, 128 tokens; run.py samples at T=0.2, top-p 0.95",
)


class RepositoryLineRecipe(TaskRecipe):
    """How next lines are asked for.

    Attributes:
        source: the published rows, or held-out Python.
        languages, settings, levels: which of the published rows; levels are prompt lengths, as run.py takes them.
        shown: with the other files' definitions, with the file alone, or both: each is a method.
        items: rows of each language and setting, the first ones; None takes all, and 200 held-out ones.
        prompt_tokens: a prompt of more loses the ends of its snippets.
        max_tokens: most tokens of an output, comments before the line included.
        group_items: rows of a group, the unit of resuming.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (REPOBENCH,)

    source: Literal["repobench", "held_out"] = "repobench"
    languages: tuple[Language, ...] = ("python", "java")
    settings: tuple[Setting, ...] = ("cross_file_first", "cross_file_random", "in_file")
    levels: tuple[str, ...] = ("2k", "4k", "8k", "12k", "16k")
    shown: tuple[Shown, ...] = ("cross_file",)
    items: Annotated[int, Field(ge=1)] | None = None
    prompt_tokens: Annotated[int, Field(ge=16)] = 15_800
    max_tokens: Annotated[int, Field(ge=2)] = 128
    group_items: Annotated[int, Field(ge=1)] = 8


def read_repobench(path: Path, levels: Sequence[str]) -> Iterator[CrossFileRow]:
    """The rows of a published file that have one of these levels.

    Raises:
        CodecriaError: no such file, or a row without one of the columns.
    """
    columns = ("repo_name", "file_path", "context", "import_statement", "cropped_code", "next_line", "level")
    for number, (_, row) in enumerate(complete_rows(path, columns, "row"), start=1):
        if row["level"] not in levels:
            continue
        snippets = [Snippet(each["path"], each["snippet"]) for each in row["context"]]
        yield CrossFileRow(
            f"{path.stem}/{number}",
            row["repo_name"],
            row["file_path"],
            snippets,
            row["import_statement"],
            row["cropped_code"],
            row["next_line"],
        )


def prompt_of(row: CrossFileRow, language: Language, shown: Shown, tokenizer: Tokenizer | None, limit: int) -> str:
    """The prompt, its snippets cut from their end to keep it within `limit` tokens, where a tokenizer is known."""
    mark = _COMMENT[language]
    before = f"{mark} Repo Name: {row.repository}\n"
    if shown == "cross_file":
        before += "".join(f"{mark} Path: {each.path}\n{each.text}\n\n" for each in row.snippets)
    file = f"{mark} Path: {row.path}\n{row.imports}\n{row.code}\n"
    if tokenizer is not None:
        room = limit - len(tokenizer.encode(file))
        if len(tokenizer.encode(before)) > room:
            lines = before.split("\n")
            sizes = [len(tokenizer.encode(line)) + 1 for line in lines]
            while lines and sum(sizes) > room - 2:
                lines.pop()
                sizes.pop()
            before = "\n".join(lines) + "\n\n" if lines else ""
    return re.sub("\n{4,}", "\n\n", before + file)


def first_code_line(text: str, language: Language) -> str:
    """The first line of an output that is no comment, as RepoBench's run.py finds it; else its first line.

    As there, a quote that opens and closes in one line counts as open.
    """
    lines = text.lstrip("\n").split("\n")
    opening, closing = _BLOCK[language]
    inside = False
    for line in lines:
        stripped = line.strip()
        if inside:
            inside = not stripped.endswith(closing)
        elif stripped.startswith(opening):
            inside = True
        elif stripped and not stripped.startswith(_COMMENT[language]):
            return line
    return lines[0]


def _measure(completion: Completion, truth: str, language: Language) -> dict[str, float]:
    written = first_code_line(completion.text, language)
    equal = float(written.split() == truth.split())
    return dict(zip(MEASURES, (equal, line_similarity(written, truth)), strict=True))


def _items(
    rows: Sequence[CrossFileRow], language: Language, shown: Shown, recipe: RepositoryLineRecipe, given: Given
) -> list[TextItem]:
    items: list[TextItem] = []
    for row in rows:
        prompt = prompt_of(row, language, shown, given.tokenizer, recipe.prompt_tokens)
        asked = Asked(prompt=prompt, options={"max_tokens": recipe.max_tokens})
        context = {"prefix": "".join(prompt.splitlines(keepends=True)[-8:]), "truth": row.next_line, "suffix": ""}
        items.append(TextItem(row.id, asked, partial(_measure, truth=row.next_line, language=language), context))
    return items


def _published(language: Language, setting: Setting, recipe: RepositoryLineRecipe, given: Given) -> list[CrossFileRow]:
    rows: list[CrossFileRow] = []
    for part in PARTS:
        if (part.language, part.setting) == (language, setting) and (recipe.items is None or len(rows) < recipe.items):
            rows += read_repobench(given.data.find(part.file).path, recipe.levels)
    return rows[: recipe.items]


def _groups(recipe: RepositoryLineRecipe, given: Given) -> list[Group]:
    found: list[tuple[str, Language, list[CrossFileRow]]] = []
    if recipe.source == "held_out":
        rows = held_out_rows(given.held_out(), given.seed, recipe.items or 200)
        if not rows:
            raise MissingDataError("no held-out Python file uses a name of another one of its repository")
        found.append(("held_out", "python", rows))
    else:
        for language in recipe.languages:
            for setting in recipe.settings:
                found.append((f"{language}-{setting}", language, _published(language, setting, recipe, given)))
    return [
        group
        for part, language, rows in found
        for shown in recipe.shown
        for group in text_groups(
            f"{TASK.name}/{part}", shown, _items(rows, language, shown, recipe, given), MEASURES, recipe.group_items
        )
    ]


TASK = Task(
    name="repository_line",
    recipe=RepositoryLineRecipe,
    groups=_groups,
    about="the next line of a file, with definitions from other files of its repository (RepoBench)",
    titles={
        **{
            f"repository_line/{part.language}-{part.setting}": f"RepoBench v1.1, {part.language.capitalize()}, "
            + part.setting.replace("_", " ")
            for part in PARTS
        },
        "repository_line/held_out": "Repository-level completion, held-out Python (stand-in for RepoBench)",
    },
    headline="line_match",
    data=tuple(part.file for part in PARTS),
)

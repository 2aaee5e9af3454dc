"""Single lines of a corpus's held-out code, from both sides."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from codecria.evaluation.data import MissingDataError
from codecria.evaluation.task import Given, Group, Task
from codecria.evaluation.tasks.lines import corpus_lines
from codecria.evaluation.tasks.single_line import SingleLineRecipe, line_groups


class CorpusLineRecipe(SingleLineRecipe):
    """How lines of held-out files are asked for.

    Attributes:
        lines_per_file: most lines of one file.
        prefix_characters, suffix_characters: how much is shown around a line.
    """

    lines_per_file: Annotated[int, Field(ge=1)] = 4
    prefix_characters: Annotated[int, Field(ge=0)] = 3000
    suffix_characters: Annotated[int, Field(ge=0)] = 1000


def _groups(recipe: CorpusLineRecipe, given: Given) -> list[Group]:
    shown = (recipe.lines_per_file, recipe.prefix_characters, recipe.suffix_characters)
    lines = corpus_lines(given.held_out(), given.seed, recipe.items or 500, *shown)
    if not lines:
        raise MissingDataError("the corpus holds out no code", where=given.corpus)
    return line_groups(TASK.name, lines, recipe)


TASK = Task(
    name="single_line_corpus",
    recipe=CorpusLineRecipe,
    groups=_groups,
    about="lines of held-out files of a corpus, from both sides and from the left alone",
    titles={"single_line_corpus": "Single-line infilling, held-out files"},
    headline="exact_match",
    needs_corpus=True,
)

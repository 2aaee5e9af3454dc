"""Long code completion: the next line of a file from all that stands before it (LCC, Guo et al. 2023).

The published test splits are read where they can be had: 10,000 files each of Python, Java and C#, a third of them
under 2,500 tokens of Code Llama's. The paper (section 3.3) drew a balanced set of its own from them, which is not
published. `source: held_out` takes lines of a corpus's held-out files instead, balanced over the prefix's length.
Rows are named by their source, and figures of the two do not compare.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import partial
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from codecria.common.errors import CodecriaError
from codecria.common.random import digest, draw_integer
from codecria.corpus.evaluation_sets import read_rows
from codecria.evaluation.data import DataFile, MissingDataError
from codecria.evaluation.protocol import Protocol, TaskRecipe
from codecria.evaluation.smoothed_bleu import smoothed_bleu
from codecria.evaluation.subject import Asked
from codecria.evaluation.task import Given, Group, Task
from codecria.evaluation.tasks.lines import fits
from codecria.evaluation.text_measures import line_similarity
from codecria.evaluation.texts import TextItem, text_groups

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from codecria.corpus.document import Document
    from codecria.generation.sequence import Completion
    from codecria.tokenizer.tokenizer import Tokenizer

MEASURES = ("line_match", "line_similarity", "line_bleu")
_LICENCE = "none stated; each file under its repository's"
_HUB_FILES = {
    "python": "data/test-00000-of-00001-88baa4889d1ac8f9.parquet",
    "java": "data/test-00000-of-00001-b0e71813cb9076bc.parquet",
    "csharp": "data/test-00000-of-00001-e75190255efc069b.parquet",
}
FILES = {
    language: DataFile(
        f"lcc/{language}-test.parquet", f"LCC, {language}, test", _LICENCE, hub=(f"microsoft/LCC_{language}", file)
    )
    for language, file in _HUB_FILES.items()
}
_TOKEN = re.compile(
    r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|\d[\w.]*|\w+"
    r"|\*\*=|//=|<<=|>>=|\?\?=|===|!==|\.\.\.|[-+*/%&|^@:=!<>]=|->|=>|\*\*|//|<<|>>|&&|\|\||\+\+|--|::|\?\?|\?\.|[^\w\s]"
)
_SCORING = (
    "the output's first line against the true one: equal token by token; fuzz.ratio of the tokens with single blanks "
    "between; smoothed BLEU-4. Tokens are names, numbers, strings and operators (LCC's script has them from "
    "tree-sitter's C# grammar, for every language)"
)
LCC = Protocol(
    "lcc",
    "LCC's own script, LongCoder/run.py",
    "the context, blank lines taken out, one line end behind it (healed)",
    "the line's end",
    "the prompt from the left, to its last 3,965 tokens (of the model's own tokenizer, where that is known)",
    _SCORING,
    "greedy, 128 tokens; the script: beams of 5",
    {"blank_lines": False, "prompt_tokens": 3965},
)
PAPER = Protocol(
    "paper",
    "Code Llama, Table 7 (on its own balanced set), models with long contexts",
    "the context as it is (healed at its end)",
    LCC.stop,
    "none; where prompt_tokens is set, the prompt from the left (the paper: 4,000 for models with short contexts)",
    _SCORING,
    "greedy, 128 tokens",
    {"blank_lines": True, "prompt_tokens": None},
)


class LongLineRecipe(TaskRecipe):
    """How next lines are asked for.

    Attributes:
        source: the published test splits, or held-out files.
        languages: of the published splits.
        items: lines of each language, the first ones; None takes all of a split, and 200 held-out lines.
        blank_lines: whether blank lines stay in the prompt.
        prompt_tokens: a longer prompt loses its first lines; None cuts none.
        min_characters: held-out lines have at least so much before them.
        max_tokens: most tokens of a line.
        group_items: lines of a group, the unit of resuming.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (PAPER, LCC)

    source: Literal["lcc", "held_out"] = "lcc"
    languages: tuple[Literal["python", "java", "csharp"], ...] = ("python", "java", "csharp")
    items: Annotated[int, Field(ge=1)] | None = None
    blank_lines: bool = True
    prompt_tokens: Annotated[int, Field(ge=16)] | None = None
    min_characters: Annotated[int, Field(ge=1)] = 8000
    max_tokens: Annotated[int, Field(ge=2)] = 128
    group_items: Annotated[int, Field(ge=1)] = 8


def read_lcc(path: Path) -> list[tuple[str, str, str]]:
    """Name, context and next line of each row of a published split.

    Raises:
        CodecriaError: no such file, or a row without `context` and `gt`.
    """
    found: list[tuple[str, str, str]] = []
    for number, row in enumerate(read_rows(path), start=1):
        if not {"context", "gt"} <= row.keys():
            raise CodecriaError("a row without 'context' and 'gt'", where=f"{path}:{number}")
        found.append((f"{number}", row["context"], row["gt"]))
    return found


def held_out_lines(
    documents: Iterable[Document], seed: int, items: int, min_characters: int
) -> list[tuple[str, str, str]]:
    """Name, prefix and next line of at most `items` held-out files, one of each, drawn by key.

    Files are dealt out from classes of prefix length, each twice as long as the one before, the longest first.
    """
    classes: dict[int, list[tuple[bytes, tuple[str, str, str]]]] = defaultdict(list)
    for document in documents:
        if document.kind != "code" or len(document.text) <= min_characters:
            continue
        lines = document.text.split("\n")
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line) + 1)
        fit = [place for place, line in enumerate(lines) if starts[place] >= min_characters and fits(line)]
        if not fit:
            continue
        at = fit[draw_integer(len(fit), "long line", seed, document.content_hash)]
        item = (f"{document.content_hash[:16]}/L{at}", document.text[: starts[at]], lines[at])
        classes[starts[at].bit_length()].append((digest("long line", seed, document.content_hash), item))
    decks = [[item for _, item in sorted(classes[size])] for size in sorted(classes, reverse=True)]
    return [item for item in chain.from_iterable(zip_longest(*decks)) if item is not None][:items]


def code_tokens(line: str) -> list[str]:
    """Names, numbers, strings and operators."""
    return _TOKEN.findall(line)


def measure_line(completion: Completion, truth: str) -> dict[str, float]:
    """The figures of a line by `MEASURES`."""
    written = completion.text.split("\n")[0]
    output, expected = code_tokens(written), code_tokens(truth)
    similarity = line_similarity(" ".join(output), " ".join(expected))
    return dict(zip(MEASURES, (float(output == expected), similarity, smoothed_bleu(written, truth)), strict=True))


def last_lines(text: str, tokenizer: Tokenizer, limit: int) -> str:
    """As many whole lines of the end of a text as have at most `limit` tokens; at least the last one."""
    last = text.rstrip("\n").rfind("\n") + 1
    start = 0
    ids = tokenizer.encode(text)
    while len(ids) > limit and start < last:
        # The tokens that are too many span so many bytes; a line begins behind them. Cut there, a few ids may change.
        over = len(b"".join(map(tokenizer.token_bytes, ids[: len(ids) - limit])))
        skipped = len(text[start:].encode()[:over].decode(errors="ignore"))
        start = min(last, text.find("\n", start + max(skipped - 1, 0)) + 1)
        ids = tokenizer.encode(text[start:])
    return text[start:]


def _item(name: str, context: str, truth: str, recipe: LongLineRecipe, tokenizer: Tokenizer | None) -> TextItem:
    prompt = context if recipe.blank_lines else re.sub("\n+", "\n", context).strip() + "\n"
    if recipe.prompt_tokens is not None and tokenizer is not None:
        prompt = last_lines(prompt, tokenizer, recipe.prompt_tokens)
    asked = Asked(prompt=prompt, options={"stop": "\n", "max_tokens": recipe.max_tokens})
    shown = "".join(prompt.splitlines(keepends=True)[-8:])
    return TextItem(name, asked, partial(measure_line, truth=truth), {"prefix": shown, "truth": truth, "suffix": ""})


def _groups(recipe: LongLineRecipe, given: Given) -> list[Group]:
    if recipe.source == "held_out":
        rows = held_out_lines(given.held_out(), given.seed, recipe.items or 200, recipe.min_characters)
        if not rows:
            raise MissingDataError(f"no held-out code of more than {recipe.min_characters:,} characters")
        parts = {"held_out": rows}
    else:
        parts = {
            language: read_lcc(given.data.find(FILES[language]).path)[: recipe.items] for language in recipe.languages
        }
    groups: list[Group] = []
    for part, rows in parts.items():
        items = [_item(*row, recipe, given.tokenizer) for row in rows]
        groups += text_groups(f"{TASK.name}/{part}", "greedy", items, MEASURES, recipe.group_items)
    return groups


TASK = Task(
    name="long_line",
    recipe=LongLineRecipe,
    groups=_groups,
    about="the next line of a long file from all that stands before it (LCC)",
    titles={
        "long_line/python": "Long code completion, LCC Python",
        "long_line/java": "Long code completion, LCC Java",
        "long_line/csharp": "Long code completion, LCC C#",
        "long_line/held_out": "Long code completion, held-out files (stand-in for LCC)",
    },
    headline="line_match",
    data=tuple(FILES.values()),
)

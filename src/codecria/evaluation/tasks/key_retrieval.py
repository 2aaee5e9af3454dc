"""Key retrieval: a function that returns a number stands among real code, and is called at the end.

The paper's task (section 3.3, appendix G.2). Its filler is concatenated solutions of programming contests; here it is
top-level statements of held-out Python files, so that the whole prompt is valid Python. All depths of one filler are
asked together, the deepest first: each then shares what stands before its key with the one before.
"""

from __future__ import annotations

import ast
import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from codecria.common.random import digest, draw_integer
from codecria.evaluation.data import MissingDataError
from codecria.evaluation.long_plots import retrieval_map
from codecria.evaluation.protocol import Protocol, TaskRecipe
from codecria.evaluation.subject import Asked
from codecria.evaluation.task import Given, Group, Task
from codecria.evaluation.texts import TextItem, run_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from codecria.corpus.document import Document
    from codecria.generation.sequence import Completion

NAME = "my_function"
_KEY = 'def {name}() -> int:\n    """Note that this function is used at the end\n    """\n    return {value}\n\n'
_END = "assert {name}() == "
_NUMBER = re.compile(r"\s*(-?\d+)")
_PIECE_TOKENS = 256
"""A statement of more is left out: the shorter the pieces, the nearer a key comes to its depth."""
_NEAR_TOKENS = 8
"""A prompt that lacks fewer is long enough."""
PAPER = Protocol(
    "paper",
    "Code Llama, Tables 17 and 18",
    f"statements of held-out Python, in them `def {NAME}() -> int` with a docstring, which returns a number of two "
    f"digits, at the end `assert {NAME}() == `",
    "the line's end",
    "the filler, in whole statements, so that the prompt has at most the length and at least 97 % of it",
    "the first number written is the function's; the mean over items, for each length and depth",
    "greedy, 8 tokens; the paper: 64 items a cell",
    {"lengths": (4000, 8000, 16_000, 24_000), "depths": (0.0, 0.2, 0.4), "items": 64},
)
GRID = Protocol(
    "grid",
    "codecria's own figures",
    PAPER.prompt,
    PAPER.stop,
    PAPER.truncation,
    PAPER.scoring,
    "greedy, 8 tokens; 8 items a cell",
    {"lengths": (1024, 2048, 4096, 8192, 16_384), "depths": (0.0, 0.25, 0.5, 0.75, 1.0), "items": 8},
)


class KeyRetrievalRecipe(TaskRecipe):
    """How keys are hidden.

    Attributes:
        lengths: tokens of a prompt. Those that the model's context does not hold give rows with the reason.
        depths: where the function stands: 0 is the prompt's start, 1 right before the question.
        items: fillers with a number each, of every length.
        max_tokens: most tokens of an answer.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (PAPER, GRID)

    lengths: tuple[Annotated[int, Field(ge=128)], ...] = ()
    depths: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    items: Annotated[int, Field(ge=1)] = 1
    max_tokens: Annotated[int, Field(ge=2)] = 8


def statements(document: Document) -> list[str]:
    """A Python file's top-level statements, each with the comments above it; [] where it is no Python.

    `from __future__` is left out, for it may only stand at a file's start, and whatever has the function's name.
    """
    try:
        nodes = ast.parse(document.text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    # `ast` counts lines by line ends alone; form feeds, which `splitlines` splits at too, are none.
    lines = re.split(r"(?<=\n)", document.text)
    found: list[str] = []
    start = 0
    for node in nodes:
        stop = node.end_lineno or node.lineno
        text = "".join(lines[start:stop]).strip("\n")
        future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if stop > start and not future and NAME not in text and "\r" not in text:
            found.append(f"{text}\n\n")
        start = max(start, stop)
    return found


def fill(pieces: Iterable[tuple[str, int]], tokens: int) -> list[str]:
    """Pieces in order, with their tokens, as many as fit; those that do not are passed over."""
    chosen: list[str] = []
    for text, size in pieces:
        if size <= tokens:
            chosen.append(text)
            tokens -= size
        if tokens < _NEAR_TOKENS:
            break
    return chosen


def prompt_with_key(pieces: Sequence[str], depth: float, value: int) -> str:
    """The filler with the key before the first piece that begins at or behind the depth, in characters."""
    place, before, wanted = 0, 0, depth * sum(map(len, pieces))
    while place < len(pieces) and before + len(pieces[place]) / 2 < wanted:
        before += len(pieces[place])
        place += 1
    key = _KEY.format(name=NAME, value=value)
    return "".join([*pieces[:place], key, *pieces[place:], _END.format(name=NAME)])


def build_filler(documents: Sequence[Document], count: Callable[[str], int], tokens: int, *key: int | str) -> list[str]:
    """Statements that have `tokens` tokens with a key and the question among them, or a few less.

    Args:
        documents: Python files; each filler has an order of its own of them.
        count: tokens of a text.
        tokens: of the whole prompt.
        key: of the order.

    Raises:
        MissingDataError: the files hold too little.
    """
    ordered = sorted(documents, key=lambda document: digest("key retrieval", *key, document.content_hash))
    texts = (text for document in ordered for text in statements(document))
    # Byte-level vocabularies split the two line ends where the next piece follows.
    sized = ((text, count(text) + 1) for text in texts)
    pieces = (each for each in sized if each[1] <= _PIECE_TOKENS)
    chosen: list[str] = []
    while (room := tokens - count(prompt_with_key(chosen, 0.0, 10))) >= _NEAR_TOKENS:
        more = fill(pieces, room)
        if not more:
            break
        chosen += more
        while count(prompt_with_key(chosen, 0.0, 10)) > tokens:
            chosen.pop()
    if count(prompt_with_key(chosen, 0.0, 10)) < 0.97 * tokens:
        what = f"the held-out Python files do not fill a prompt of {tokens:,} tokens"
        raise MissingDataError(what, mend="name a corpus or a folder with more of them")
    return chosen


def _groups(recipe: KeyRetrievalRecipe, given: Given) -> list[Group]:
    tokenizer = given.tokenizer
    if tokenizer is None:
        raise MissingDataError("prompts are measured in tokens", mend="name the endpoint's tokenizer: --tokenizer")
    documents = [each for each in given.held_out() if each.kind == "code" and each.language == "Python"]

    def count(text: str) -> int:
        return len(tokenizer.encode(text))

    groups: list[Group] = []
    for length in recipe.lengths:
        for number in range(recipe.items):
            pieces = build_filler(documents, count, length - len(tokenizer.bos_ids), given.seed, number)
            items = _items(pieces, length, number, recipe, given.seed)
            run = partial(run_texts, task=TASK.name, method="greedy", items=items, measures=("retrieved",))
            groups.append(Group(f"{TASK.name}-greedy-{length}-{number:05d}", len(items), run))
    return groups


def _items(pieces: Sequence[str], length: int, number: int, recipe: KeyRetrievalRecipe, seed: int) -> list[TextItem]:
    """A filler's prompts, the deepest key first."""
    items: list[TextItem] = []
    for depth in sorted(recipe.depths, reverse=True):
        value = 10 + draw_integer(90, "key retrieval", seed, length, number, f"{depth:g}")
        asked = Asked(
            prompt=prompt_with_key(pieces, depth, value), options={"stop": "\n", "max_tokens": recipe.max_tokens}
        )
        measure = partial(_measure, value=value, cell=f"retrieved@{length}/{depth:g}")
        items.append(TextItem(f"{length}/{depth:g}/{number}", asked, measure, {"truth": f"{value}"}))
    return items


def _measure(completion: Completion, value: int, cell: str) -> dict[str, float]:
    written = _NUMBER.match(completion.text)
    right = float(written is not None and int(written[1]) == value)
    return {"retrieved": right, cell: right}


TASK = Task(
    name="key_retrieval",
    recipe=KeyRetrievalRecipe,
    groups=_groups,
    about="a function that returns a number, defined at a depth among real code and called at the end",
    titles={"key_retrieval": "Key retrieval in code"},
    headline="retrieved",
    needs_corpus=True,
    plot=retrieval_map,
)

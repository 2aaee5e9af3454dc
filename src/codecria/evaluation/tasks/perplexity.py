"""Held-out text: bits a byte and perplexity a token, every token scored once.

A document is read in windows of at most `window_tokens`. The first window scores all of its tokens; each later one
scores the next `stride_tokens`, given as many tokens before them as the window holds.

What the first token is predicted from: the BOS ids where the tokenizer adds them, and every window begins with them,
as every training sequence does. Where it adds none, a document's first token is predicted from the id that ends a
document, as where two documents meet in training, and later windows begin with text alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from codecria.batches.recipe import SourceName  # noqa: TC001 pydantic reads the types at run time
from codecria.common.errors import CodecriaError
from codecria.common.random import digest
from codecria.corpus.document import KINDS, Document
from codecria.evaluation.data import MissingDataError
from codecria.evaluation.protocol import Protocol, TaskRecipe
from codecria.evaluation.samples import Sample
from codecria.evaluation.scoring import Continuation, score
from codecria.evaluation.subject import Subject, with_weights
from codecria.evaluation.task import Given, Group, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from codecria.evaluation.judge import Judge
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer


WINDOWS = Protocol(
    "windows",
    "the usual sliding window",
    "held-out documents, each for itself; BOS before every window where the tokenizer adds it",
    "none: nothing is generated",
    "the last document of a source, and those longer than document_tokens, are cut at a line end",
    "bits a byte weighed by bytes, perplexity a token weighed by tokens; every token once",
    "none",
)


class PerplexityRecipe(TaskRecipe):
    """How held-out text is scored.

    Attributes:
        window_tokens: most tokens the model reads at once; the model's positions are a limit too.
        stride_tokens: tokens that each window after a document's first scores.
        sources: kinds of documents (`code`), or a kind in one language (`code/Python`); those that are not held out are
            left out.
        max_tokens: tokens scored of each source; the last document is cut at a line end to stay within.
        document_tokens: tokens scored of each document, from its start; all of it when absent. With few of each a
            source has many documents, which its interval is over.
        group_tokens: tokens of a group, the unit of resuming: whole documents until it is full.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (WINDOWS,)

    sources: tuple[SourceName, ...] = KINDS
    window_tokens: Annotated[int, Field(ge=16)] = 1024
    stride_tokens: Annotated[int, Field(ge=1)] = 512
    max_tokens: Annotated[int, Field(ge=1)] = 100_000
    document_tokens: Annotated[int, Field(ge=1)] | None = None
    group_tokens: Annotated[int, Field(ge=1)] = 16_384


@dataclass(frozen=True)
class Text:
    """A document to score: its name and its ids. The id of a document that was cut names the characters kept."""

    id: str
    text: str
    ids: list[int]


def choose_texts(
    documents: Iterable[Document],
    source: str,
    tokenizer: Tokenizer,
    seed: int,
    max_tokens: int,
    document_tokens: int | None = None,
) -> list[Text]:
    """Documents of one source in the order of a keyed digest of their content, up to `max_tokens` together.

    Of each at most `document_tokens` from its start are taken.
    """
    kind, _, language = source.partition("/")
    of_kind = (document for document in documents if document.kind == kind and document.text)
    chosen = [document for document in of_kind if not language or document.language == language]
    chosen.sort(key=lambda document: digest("perplexity", seed, document.content_hash))
    texts: list[Text] = []
    left = max_tokens
    for document in chosen:
        name = document.content_hash[:16]
        ids = tokenizer.encode(document.text)
        room = min(left, document_tokens or left)
        if len(ids) <= room:
            texts.append(Text(name, document.text, ids))
        elif kept := cut_to_tokens(document.text, tokenizer, room):
            texts.append(Text(f"{name}/0-{len(kept)}", kept, tokenizer.encode(kept)))
        left -= min(len(ids), room)
        if left <= 0:
            break
    return texts


def cut_to_tokens(text: str, tokenizer: Tokenizer, limit: int) -> str:
    """As many whole lines of a text as encode to at most `limit` tokens; "" when the first has more."""
    lines = text.splitlines(keepends=True)
    fits, too_many = 0, len(lines) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if len(tokenizer.encode("".join(lines[:middle]))) <= limit:
            fits = middle
        else:
            too_many = middle
    return "".join(lines[:fits])


def group_texts(texts: Sequence[Text], group_tokens: int) -> list[list[Text]]:
    """Whole documents in order; a group ends with the document that fills it."""
    groups: list[list[Text]] = []
    tokens = group_tokens
    for text in texts:
        if tokens >= group_tokens:
            groups.append([])
            tokens = 0
        groups[-1].append(text)
        tokens += len(text.ids)
    return groups


def windows(ids: Sequence[int], tokenizer: Tokenizer, window_tokens: int, stride_tokens: int) -> list[Continuation]:
    """What is scored of one document: the targets, put together, are its ids.

    Raises:
        CodecriaError: the tokenizer has neither BOS nor an end, so that nothing can come before the first token.
    """
    bos = tokenizer.bos_ids
    start = bos or list(tokenizer.eos_ids[:1])
    if not start:
        raise CodecriaError("the tokenizer names neither a BOS nor an end: a first token cannot be scored")
    # The last target is predicted, not read: a window of W tokens holds W + 1 of context and targets.
    first = window_tokens + 1 - len(start)
    found = [Continuation(start, ids[:first])]
    for place in range(first, len(ids), stride_tokens):
        target = ids[place : place + stride_tokens]
        room = window_tokens + 1 - len(target) - len(bos)
        found.append(Continuation([*bos, *ids[max(0, place - room) : place]], target))
    return found


def score_texts(
    model: Transformer, tokenizer: Tokenizer, texts: Sequence[Text], source: str, recipe: PerplexityRecipe
) -> list[Sample]:
    """One sample a document: bits a byte weighed by bytes, nats a token (shown as perplexity) weighed by tokens."""
    window_tokens = min(recipe.window_tokens, model.config.max_positions)
    stride_tokens = min(recipe.stride_tokens, window_tokens - 1)
    each = [windows(text.ids, tokenizer, window_tokens, stride_tokens) for text in texts]
    scores = iter(score(model, [window for found in each for window in found]))
    samples: list[Sample] = []
    for text, found in zip(texts, each, strict=True):
        bits = -sum(float(next(scores).sum()) for _ in found)
        size_bytes, tokens = len(text.text.encode()), len(text.ids)
        measures = {"bits_per_byte": bits / size_bytes, "perplexity": bits * math.log(2) / tokens}
        weights = {"bits_per_byte": float(size_bytes), "perplexity": float(tokens)}
        samples.append(Sample(f"perplexity/{source}", "windows", text.id, measures=measures, weights=weights))
    return samples


def _groups(recipe: PerplexityRecipe, given: Given) -> list[Group]:
    assert given.tokenizer is not None  # the weights are here
    held_out = list(given.held_out())
    groups: list[Group] = []
    for source in recipe.sources:
        texts = choose_texts(held_out, source, given.tokenizer, given.seed, recipe.max_tokens, recipe.document_tokens)
        for number, part in enumerate(group_texts(texts, recipe.group_tokens)):
            run = partial(_run, texts=part, source=source, recipe=recipe)
            groups.append(Group(f"perplexity-{source.replace('/', '-')}-windows-{number:05d}", len(part), run))
    if not groups:
        what = "the corpus holds out no document of these sources"
        raise MissingDataError(what, mend="build it with a held-out share")
    return groups


def _run(subject: Subject, _judge: Judge, texts: list[Text], source: str, recipe: PerplexityRecipe) -> list[Sample]:
    local = with_weights(subject)
    return score_texts(local.model, local.tokenizer, texts, source, recipe)


TASK = Task(
    name="perplexity",
    recipe=PerplexityRecipe,
    groups=_groups,
    about="held-out files of a corpus, every token scored once; kinds that it does not hold out are left out",
    titles={
        "perplexity/code": "Held-out code",
        "perplexity/code-related": "Held-out text about code",
        "perplexity/natural": "Held-out text",
    },
    headline="bits_per_byte",
    needs_corpus=True,
    needs_scores=True,
)

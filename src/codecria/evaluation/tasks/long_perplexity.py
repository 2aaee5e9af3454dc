"""Perplexity against position: how much a model gains from what it read long before (Code Llama, Figure 4a).

A long document is read once from its start, so a token at position n is predicted from the n before it. Its figures are
averaged in bins of positions, each twice as wide as the one before. Documents are long files, or the files of a
repository in the order of their imports, each under a comment with its path.
"""

from __future__ import annotations

import math
from collections import defaultdict
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from codecria.common.random import digest
from codecria.corpus.repository_order import RepositoryFile, dependency_order, join_repository
from codecria.evaluation.data import MissingDataError
from codecria.evaluation.long_plots import position_curve
from codecria.evaluation.measures import FIRST_POSITIONS
from codecria.evaluation.protocol import Protocol, TaskRecipe
from codecria.evaluation.samples import Sample
from codecria.evaluation.scoring import score_in_chunks
from codecria.evaluation.subject import Subject, with_weights
from codecria.evaluation.task import Given, Group, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codecria.corpus.document import Document
    from codecria.evaluation.judge import Judge
    from codecria.tokenizer.tokenizer import Tokenizer

Packing = Literal["file", "repository"]
_CHARACTERS_A_TOKEN = 8
"""More than code has: a text is cut to so many before it is encoded."""
PAPER = Protocol(
    "paper",
    "Code Llama, Figure 4a (its documents: 4M tokens of files of 50 kB or more)",
    "files of at least min_bytes, or a repository's files joined in import order; from the start, BOS before them",
    "none: nothing is generated",
    "documents at max_tokens, and at the model's context where that is less",
    "exp of the mean −ln p over the tokens at positions n/2 to n, for n = 128, 256, …; every token once",
    "none",
)


class LongPerplexityRecipe(TaskRecipe):
    """How long documents are scored.

    Attributes:
        packings: long files alone, files of a repository joined, or both.
        min_bytes: shorter documents are left out.
        max_tokens: of a document, at most; what lies behind is cut. The paper: 100,000 and more.
        items: documents of each packing.
        chunk_tokens: read at a time. Memory: keys and values of a document, activations of a chunk.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (PAPER,)

    packings: tuple[Packing, ...] = ("file", "repository")
    min_bytes: Annotated[int, Field(ge=1)] = 50_000
    max_tokens: Annotated[int, Field(ge=FIRST_POSITIONS)] = 16_384
    items: Annotated[int, Field(ge=1)] = 8
    chunk_tokens: Annotated[int, Field(ge=2)] = 512


class LongText(NamedTuple):
    """A document to read: its name, and its ids, of which a model reads what its context holds."""

    id: str
    ids: list[int]


def choose_long(
    documents: Iterable[Document], packing: Packing, tokenizer: Tokenizer, seed: int, recipe: LongPerplexityRecipe
) -> list[LongText]:
    """Long documents in the order of a keyed digest of their content, at most `recipe.items`."""
    code = [document for document in documents if document.kind == "code"]
    most = recipe.max_tokens * _CHARACTERS_A_TOKEN
    found = code if packing == "file" else list(_joined(code, most))
    long = [document for document in found if document.size_bytes >= recipe.min_bytes]
    long.sort(key=lambda document: digest("long perplexity", seed, document.content_hash))
    return [
        LongText(f"{document.origin}: {document.path} {document.content_hash[:8]}", ids[: recipe.max_tokens])
        for document in long[: recipe.items]
        for ids in [tokenizer.encode(document.text[:most])]
    ]


def _joined(documents: Iterable[Document], max_characters: int) -> Iterator[Document]:
    """The first documents of each repository, joined; a file that is longer than they may be is passed over."""
    repositories: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        if len(document.text) < max_characters:
            repositories[document.origin].append(document)
    for files in repositories.values():
        order = dependency_order([RepositoryFile(each.path, each.language, each.text) for each in files])
        if len(files) > 1:
            yield from list(join_repository((files[place] for place in order), max_characters))[:1]


def bins(tokens: int) -> list[tuple[int, int]]:
    """First position and the one behind the last of each bin: 0 to 127, 128 to 255, 256 to 511, …"""
    edges = [0]
    while edges[-1] < tokens:
        edges.append(max(FIRST_POSITIONS, 2 * edges[-1]))
    return [(start, min(stop, tokens)) for start, stop in pairwise(edges)]


def score_long(subject: Subject, text: LongText, packing: Packing, chunk_tokens: int) -> Sample:
    """One sample: bits a byte of all that was read, and nats a token (shown as perplexity), in all and in each bin."""
    local = with_weights(subject)
    tokenizer = local.tokenizer
    context = tokenizer.bos_ids or list(tokenizer.eos_ids[:1])
    # The last token is predicted, not read.
    ids = text.ids[: local.max_positions + 1 - len(context)]
    nats_L = -np.log(2) * score_in_chunks(local.model, context, ids, chunk_tokens)
    size_bytes = sum(len(tokenizer.token_bytes(id)) for id in ids)
    measures = {"bits_per_byte": float(nats_L.sum()) / math.log(2) / size_bytes, "perplexity": float(nats_L.mean())}
    weights = {"bits_per_byte": float(size_bytes), "perplexity": float(len(ids))}
    for start, stop in bins(len(ids)):
        name = f"perplexity@{max(FIRST_POSITIONS, 2 * start)}"
        measures[name] = float(nats_L[start:stop].mean())
        weights[name] = float(stop - start)
    return Sample(f"{TASK.name}/{packing}", "whole", text.id, measures=measures, weights=weights)


def _run(subject: Subject, _judge: Judge, text: LongText, packing: Packing, chunk_tokens: int) -> list[Sample]:
    return [score_long(subject, text, packing, chunk_tokens)]


def _groups(recipe: LongPerplexityRecipe, given: Given) -> list[Group]:
    assert given.tokenizer is not None  # the weights are here
    documents = list(given.held_out())
    groups: list[Group] = []
    for packing in recipe.packings:
        for number, text in enumerate(choose_long(documents, packing, given.tokenizer, given.seed, recipe)):
            run = partial(_run, text=text, packing=packing, chunk_tokens=recipe.chunk_tokens)
            groups.append(Group(f"{TASK.name}-{packing}-whole-{number:05d}", 1, run))
    if not groups:
        what = f"no code of {recipe.min_bytes:,} bytes or more is held out"
        raise MissingDataError(what, mend=f"lower tasks.{TASK.name}.min_bytes, or name another folder")
    return groups


TASK = Task(
    name="long_perplexity",
    recipe=LongPerplexityRecipe,
    groups=_groups,
    about="long held-out files and repositories, read from the start; perplexity against position",
    titles={
        "long_perplexity/file": "Perplexity against position, long files",
        "long_perplexity/repository": "Perplexity against position, files of a repository",
    },
    headline="bits_per_byte",
    needs_corpus=True,
    needs_scores=True,
    plot=position_curve,
)

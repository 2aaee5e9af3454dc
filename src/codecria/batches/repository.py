"""Several files of one package as one piece, its last file infilled behind the others.

A corpus built with `order: repository` places what a file imports before it, so the last file is the one that the
others tell most about.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from codecria.batches.infilling import Rendered, render_piece
from codecria.common.random import generator
from codecria.infill.repository import file_marker, path_ids, place_in_repository, repository_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codecria.batches.recipe import BatchRecipe
    from codecria.common.random import Key
    from codecria.corpus.document import Document
    from codecria.infill.layout import Sentinels
    from codecria.infill.repository import Vocabulary


def packages(
    documents: Iterable[Document], tokenizer: Vocabulary, sentinels: Sentinels | None, longest: int
) -> Iterator[tuple[str, int, Document]]:
    """Pieces of two files or more: JSON of name, language and files, planned tokens, and the last file's document.

    Files of a package follow one another in corpus order for as long as they fit; each is in one piece at most.
    Prose that was gathered from files, and files longer than a piece, are passed over.
    """
    file_marker(tokenizer, sentinels)
    assert sentinels is not None
    sources = (each for each in documents if each.kind != "natural" and "#" not in each.path)
    for name, members in groupby(sources, key=lambda document: document.origin):
        head = taken = len(repository_context(tokenizer, sentinels, name, []))
        waiting: list[Document] = []
        for document in members:
            # Marker, path, text, and the line end that some families put after it.
            size = len(path_ids(tokenizer, document.path)) + len(tokenizer.encode(document.text)) + 2
            if head + size > longest:
                continue
            if taken + size > longest:
                if len(waiting) > 1:
                    yield _text(name, waiting), taken, waiting[-1]
                waiting, taken = [], head
            waiting.append(document)
            taken += size
        if len(waiting) > 1:
            yield _text(name, waiting), taken, waiting[-1]


def render(
    tokenizer: Vocabulary,
    sentinels: Sentinels,
    text_json: str,
    recipe: BatchRecipe,
    *,
    key: tuple[Key, ...],
    slot: int,
) -> Rendered:
    """Ids and loss weights of one piece of `packages`: the last file as `render_piece` draws it, the others as text.

    Arguments are those of `render_piece`, and the JSON that `packages` gave.
    """
    package = json.loads(text_json)
    *others, (path, text) = package["files"]
    context = repository_context(tokenizer, sentinels, package["name"], others)
    room = slot - len(context) - len(path_ids(tokenizer, path)) + len(tokenizer.bos_ids)
    file = render_piece(
        tokenizer,
        sentinels,
        text,
        recipe,
        key=key,
        slot=room,
        eligible=True,
        end_ids=[file_marker(tokenizer, sentinels)],
        language=package["language"],
    )
    order = file.form if file.form in ("psm", "spm") else None
    placed = place_in_repository(tokenizer, sentinels, context, path, file.ids, order)
    drawn = generator(*key, "repository").random(len(placed.ids))
    weights = (drawn < recipe.loss.context_share).astype(np.float32)
    inside = np.r_[len(context) : placed.path_start, placed.path_stop : len(placed.ids)]
    weights[inside] = file.weights[len(tokenizer.bos_ids) :]
    weights[0] = 0.0
    return Rendered(placed.ids, weights, file.middle_start + len(placed.ids) - len(file.ids), file.form)


def _text(name: str, documents: list[Document]) -> str:
    files = [(each.path, each.text) for each in documents]
    return json.dumps({"name": name, "language": documents[-1].language, "files": files}, ensure_ascii=False)

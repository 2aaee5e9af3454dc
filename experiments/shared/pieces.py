"""Documents cut into pieces as in training, and what they cost a model left to right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from codecria.batches.pieces import cut_documents
from codecria.common.random import digest
from codecria.evaluation.scoring import Continuation, score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from codecria.batches.pieces import Piece
    from codecria.corpus.document import Document
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer


def piece_cutter(tokenizer: Tokenizer, longest: int) -> Callable[[str], list[Piece]]:
    """A function that cuts a text at line ends into pieces of like size, at most `longest` tokens each."""
    sizes = np.array([len(tokenizer.token_bytes(id)) for id in range(tokenizer.vocab_size)])

    def cut(text: str) -> list[Piece]:
        return cut_documents([text], longest, lambda texts: [*map(tokenizer.encode, texts)], sizes, even=True)[0]

    return cut


def held_out_pieces(documents: Iterable[Document], tokenizer: Tokenizer, longest: int, number: int) -> list[list[int]]:
    """Ids of `number` pieces, two of each document, in the order of a digest; all are longer than 16."""
    cut = piece_cutter(tokenizer, longest)
    found: list[list[int]] = []
    for document in sorted(documents, key=lambda each: digest("infill rate", each.content_hash)):
        pieces = cut(document.text)
        pieces.sort(key=lambda each: digest("infill rate", document.content_hash, each.start))
        texts = [document.text[each.start : each.stop] for each in pieces[:2]]
        found += [ids for ids in map(tokenizer.encode, texts) if len(ids) > 16]
    return found[:number]


def piece_losses(model: Transformer, pieces: list[list[int]]) -> np.ndarray:
    """Mean nats a token of each piece left to right, its first token given: [N]."""
    scores = score(model, [Continuation(ids[:1], ids[1:]) for ids in pieces])
    return np.array([-bits.mean() * np.log(2) for bits in scores])

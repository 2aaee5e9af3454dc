"""Documents cut into pieces as in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from codecria.batches.pieces import cut_documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from codecria.batches.pieces import Piece
    from codecria.tokenizer.tokenizer import Tokenizer


def piece_cutter(tokenizer: Tokenizer, longest: int) -> Callable[[str], list[Piece]]:
    """A function that cuts a text at line ends into pieces of like size, at most `longest` tokens each."""
    sizes = np.array([len(tokenizer.token_bytes(id)) for id in range(tokenizer.vocab_size)])

    def cut(text: str) -> list[Piece]:
        return cut_documents([text], longest, lambda texts: [*map(tokenizer.encode, texts)], sizes, even=True)[0]

    return cut

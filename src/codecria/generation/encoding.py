"""A tokenizer that remembers: at the cursor nearly the same text is encoded at every key.

The text is cut where a space or line end follows a letter. Where no token of the vocabulary crosses such a place, the
pieces' ids, joined, are the whole text's (a property test says so), and all but the piece that was typed in are
remembered. So the whole prefix is encoded at each key, as the layouts want it, in a tenth of the time: 0.1 ms for 500
tokens instead of 1.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from codecria.tokenizer.tokenizer import Tokenizer

_PIECE = re.compile(r".{120,}?[A-Za-z](?=[ \n])|.+", re.DOTALL)
_CROSSES = re.compile(rb"[A-Za-z][ \n]")
_PIECES = 4096
# Text without spaces behind letters, as Chinese or a table, is one piece, of which each key makes another.
_LONG_CHARACTERS, _LONG_PIECES = 1000, 8


class RememberingEncoder:
    """The tokenizer's `encode` and `encode_infilling`, to the id; an `infill.layout.Encoder`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._begun = _remembered(tokenizer.encode)
        self._continued = _remembered(tokenizer.encode_infilling)

    @property
    def bos_ids(self) -> list[int]:
        """The ids a sequence begins with."""
        return self._tokenizer.bos_ids

    @property
    def has_dummy_space(self) -> bool:
        """Whether `encode` puts an implicit space before the text."""
        return self._tokenizer.has_dummy_space

    def encode(self, text: str) -> list[int]:
        """Ids of a text that begins a document."""
        first, *others = self._pieces(text)
        return [*self._begun(first), *(id for each in others for id in self._continued(each))]

    def encode_infilling(self, text: str) -> list[int]:
        """Ids of a text that continues something."""
        return [id for each in self._pieces(text) for id in self._continued(each)]

    def token_bytes(self, id: int) -> bytes:
        """What an id adds to a text, in UTF-8."""
        return self._tokenizer.token_bytes(id)

    def token_id(self, spelling: str) -> int | None:
        """Id of a spelling, or None."""
        return self._tokenizer.token_id(spelling)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids that `encode` made."""
        return self._tokenizer.decode(ids)

    def decode_infilling(self, ids: Sequence[int]) -> str:
        """Text of ids that `encode_infilling` made."""
        return self._tokenizer.decode_infilling(ids)

    def _pieces(self, text: str) -> list[str]:
        return (_PIECE.findall(text) if self._separates else []) or [text]

    @functools.cached_property
    def _separates(self) -> bool:
        """Whether no token crosses a place where a piece may end."""
        return not any(_CROSSES.search(self._tokenizer.token_bytes(id)) for id in range(self._tokenizer.vocab_size))


def _remembered(encode: Callable[[str], list[int]]) -> Callable[[str], list[int]]:
    """The same, remembering what it gave: of many short pieces and of a few long ones."""
    short, long = (functools.lru_cache(most)(encode) for most in (_PIECES, _LONG_PIECES))
    return lambda text: (long if len(text) > _LONG_CHARACTERS else short)(text)

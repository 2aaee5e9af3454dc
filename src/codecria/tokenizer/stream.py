"""Text of ids as they come, never half a character."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codecria.tokenizer.tokenizer import Tokenizer


class StreamDecoder:
    """Turns ids into text one by one.

    The texts of all `push`es and of `finish`, joined, equal `decode_infilling(ids)`, or `decode(ids)` where
    `infilling` is false. A character spread over several tokens comes out with its last one; `finish` gives what an
    unfinished character leaves, as U+FFFD.
    """

    def __init__(self, tokenizer: Tokenizer, infilling: bool) -> None:
        self._tokenizer = tokenizer
        self._strips = tokenizer.has_dummy_space and not infilling
        self._decoder = codecs.getincrementaldecoder("utf-8")(tokenizer.decoding_errors)

    def push(self, id: int) -> str:
        """Text that this id completes; often empty."""
        data = self._tokenizer.token_bytes(id)
        if self._strips and data:
            self._strips = False
            if self._tokenizer.begins_with_space(id):
                data = data[1:]
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What is left at the end."""
        return self._decoder.decode(b"", final=True)

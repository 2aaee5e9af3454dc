"""One tokenizer for every checkpoint, on top of the `tokenizers` library.

Text is only text: `encode` never gives a special id, whatever the text spells (llama.cpp's `special=false`;
transformers turns such spellings into control ids). Control ids are put between encoded texts by those who mean
them: `codecria.infill` for markers, `codecria.tokenizer.chat` for conversations.
"""

from __future__ import annotations

import bisect
import codecs
import dataclasses
import functools
from typing import TYPE_CHECKING, Literal

from codecria.common.errors import CodecriaError
from codecria.tokenizer import definition as definitions
from codecria.tokenizer.definition import AddedToken
from codecria.tokenizer.folder import (
    files_with_added_tokens,
    files_with_chat_template,
    read_folder,
    read_sentencepiece,
    write_folder,
)
from codecria.tokenizer.gguf import read_metadata
from codecria.tokenizer.roles import Source
from codecria.tokenizer.sentinels import looks_special, spelled_by_merging

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import tokenizers


class Tokenizer:
    """Text to ids and back.

    Made by `from_folder`, `from_sentencepiece` or `from_gguf`. Implements `codecria.infill.layout.Encoder`. Can be
    pickled; safe to use from several threads.

    Attributes:
        definition: the content of its tokenizer.json.
        roles: BOS, ends, padding and chat template: the next five are its.
        bos_id: the id a sequence may begin with.
        eos_ids: ids that end a document or an answer.
        pad_id: the id that fills rows.
        add_bos: whether a sequence begins with BOS.
        chat_template: Jinja source.
        vocab_size: highest id + 1.
        special_ids: ids that decode to nothing and that text never becomes.
        has_dummy_space: whether `encode` puts an implicit space before the text, which `decode` takes off.
        decoding_errors: name of the codec error handler for bytes that are not UTF-8.
    """

    def __init__(self, source: Source, text: tokenizers.Tokenizer | None = None) -> None:
        definition, roles, self._files, where = source
        self.definition = definition
        self.roles = roles
        self.bos_id, self.eos_ids, self.pad_id = roles.bos_id, roles.eos_ids, roles.pad_id
        self.add_bos, self.chat_template = roles.add_bos, roles.chat_template
        self._ids = definitions.vocabulary(definition)
        self.vocab_size = max(self._ids.values()) + 1
        added = definitions.added_tokens(definition)
        special = {token.content for token in added if token.special or looks_special(token.content)}
        special |= spelled_by_merging(definition["model"]["vocab"])
        named = {roles.bos_id, *roles.eos_ids, *(roles.infill_ids or ())}
        named_spellings = {spelling for spelling, id in self._ids.items() if id in named}
        special |= {spelling for spelling in named_spellings - special if not definitions.is_text(definition, spelling)}
        self.special_ids = frozenset(self._ids[spelling] for spelling in special)
        self._spaces = definitions.spaces(definition)
        self.has_dummy_space = self._spaces != "none"
        self._beginning: dict[bytes, tuple[int, ...]] = {}
        byte_level = definitions.is_byte_level(definition)
        self.decoding_errors: Literal["replace", "codecria.each_byte"] = "replace" if byte_level else _EACH_BYTE
        try:
            self._text = definitions.text_tokenizer(definition, special) if text is None else text
        except Exception as error:  # the library raises bare Exception for what it cannot read
            raise CodecriaError(f"the tokenizers library refuses it: {error}", where=where) from error

    @classmethod
    def from_folder(cls, path: str | Path) -> Tokenizer:
        """Read a Hugging Face folder: tokenizer.json, else tokenizer.model, and the files beside it.

        Raises:
            CodecriaError: neither is there, or one cannot be read or is of an unsupported kind.
        """
        return cls(read_folder(path))

    @classmethod
    def from_sentencepiece(cls, path: str | Path) -> Tokenizer:
        """Read a bare SentencePiece tokenizer.model, as Meta ships it: BOS is added, no chat template.

        Raises:
            CodecriaError: it is not a BPE model with byte fallback that leaves text as it is.
        """
        return cls(read_sentencepiece(path))

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, object]) -> Tokenizer:
        """Build from the `tokenizer.*` keys of a GGUF file; arrays as lists.

        Raises:
            CodecriaError: a key is missing, or the model or its pre-tokenizer is unknown.
        """
        return cls(read_metadata(metadata))

    @property
    def bos_ids(self) -> list[int]:
        """What a sequence begins with: the BOS id, or nothing."""
        return [self.bos_id] if self.add_bos and self.bos_id is not None else []

    def encode(self, text: str) -> list[int]:
        """Ids of a text that begins a document: no BOS, no end, never a special id.

        Raises:
            CodecriaError: the text holds a lone surrogate, which no UTF-8 file can.
        """
        return self._plain_ids(text, self._spaced(text, begins=True))

    def encode_infilling(self, text: str) -> list[int]:
        """Ids of a text that continues something: no implicit leading space (Meta's `encode("☺" + text)[2:]`)."""
        return self._plain_ids(text, text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        spaced = [self._spaced(text, begins=True) for text in texts]
        try:
            return [each.ids for each in self._text.encode_batch_fast(spaced, add_special_tokens=False)]
        except TypeError as error:
            raise _surrogate_error(next(filter(_has_surrogate, texts), "")) from error

    def encode_run(self, text: str, begins: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a run of text between special ids, and where in the text each one's characters lie.

        `begins` says that nothing stands before the run. Tokens that spell part of a character have its whole span.
        """
        spaced = self._spaced(text, begins)
        shift = len(spaced) - len(text)
        try:
            encoding = self._text.encode(spaced, add_special_tokens=False)
        except TypeError as error:
            raise _surrogate_error(text) from error
        return encoding.ids, [(max(start - shift, 0), max(end - shift, 0)) for start, end in encoding.offsets]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids that `encode` made: the implicit space is taken off, special ids give nothing."""
        data = [self.token_bytes(id) for id in ids]
        if self.has_dummy_space:
            first = next((place for place, part in enumerate(data) if part), None)
            if first is not None and self.begins_with_space(ids[first]):
                data[first] = data[first][1:]
        return b"".join(data).decode("utf-8", self.decoding_errors)

    def decode_infilling(self, ids: Sequence[int]) -> str:
        """Text of ids that `encode_infilling` made: a leading space is kept, special ids give nothing."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", self.decoding_errors)

    def token_id(self, spelling: str) -> int | None:
        """Id of a spelling of the vocabulary (`▁def`, `<|im_end|>`), or None."""
        return self._ids.get(spelling)

    def token_text(self, id: int) -> str:
        """The vocabulary's spelling of an id.

        Raises:
            CodecriaError: there is no such id.
        """
        if id not in self._spellings:
            raise self._no_such_id(id)
        return self._spellings[id]

    def token_bytes(self, id: int) -> bytes:
        """What an id adds to a text, in UTF-8, perhaps only part of a character; nothing for special ids.

        Raises:
            CodecriaError: the id is outside the vocabulary.
        """
        if not 0 <= id < self.vocab_size:
            raise self._no_such_id(id)
        return self._bytes[id]

    def ids_beginning(self, start: bytes) -> tuple[int, ...]:
        """Ordinary tokens whose bytes begin with `start`, in order; see `codecria.infill.heal`."""
        if start not in self._beginning:
            # At the cursor nearly every key ends the prefix with another token: a search, not a look at all of them.
            first = bisect.bisect_left(self._ordered, (start, 0))
            stop = bisect.bisect_right(self._ordered, start, first, key=lambda each: each[0][: len(start)])
            self._beginning[start] = tuple(sorted(id for _, id in self._ordered[first:stop]))
        return self._beginning[start]

    def begins_with_space(self, id: int) -> bool:
        """Whether an id's piece begins with a space, as opposed to being the byte 0x20."""
        return self._spellings[id][:1] in ("▁", " ")

    def with_added_tokens(self, spellings: Sequence[str]) -> Tokenizer:
        """A tokenizer with new special tokens after the last id, in the order given.

        Raises:
            CodecriaError: a spelling is empty, given twice or in the vocabulary already.
        """
        for place, spelling in enumerate(spellings):
            if not spelling or spelling in self._ids or spelling in spellings[:place]:
                raise CodecriaError(f"cannot add the token '{spelling}': it is empty or exists already")
        new = [AddedToken(self.vocab_size + place, spelling) for place, spelling in enumerate(spellings)]
        entries = [*(self.definition.get("added_tokens") or []), *(token.to_json() for token in new)]
        definition = self.definition | {"added_tokens": entries}
        files = files_with_added_tokens(self._files, definition, new)
        return Tokenizer(Source(definition, self.roles, files, "tokenizer with added tokens"), self._text)

    def with_chat_template(self, template: str) -> Tokenizer:
        """A tokenizer with this Jinja source as its chat template, for a base model that learns to converse."""
        roles = dataclasses.replace(self.roles, chat_template=template)
        files = files_with_chat_template(self._files, template)
        return Tokenizer(Source(self.definition, roles, files, "tokenizer with a chat template"), self._text)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json and the files beside it into an existing or new folder.

        What was read from a folder and not changed is written byte for byte. transformers' AutoTokenizer loads the
        result and gives equal ids on text that spells no special token.
        """
        write_folder(self.definition, self.roles, self._files, folder)

    def __repr__(self) -> str:
        return f"Tokenizer({self.vocab_size} ids, {len(self.special_ids)} special)"

    def _spaced(self, text: str, begins: bool) -> str:
        """The text with the implicit space the tokenizer puts before it."""
        if not text or self._spaces == "none" or (self._spaces == "document" and not begins):
            return text
        return text if self._spaces != "run" and text[0] in " ▁" else " " + text

    def _plain_ids(self, text: str, spaced: str) -> list[int]:
        # The batch call leaves out where each token's characters lie: 15 to 25 % of the time.
        try:
            return self._text.encode_batch_fast([spaced], add_special_tokens=False)[0].ids
        except TypeError as error:
            raise _surrogate_error(text) from error

    @functools.cached_property
    def _ordered(self) -> list[tuple[bytes, int]]:
        """Ordinary tokens by their bytes."""
        return sorted((self._bytes[id], id) for id in range(self.vocab_size) if id not in self.special_ids)

    @functools.cached_property
    def _bytes(self) -> list[bytes]:
        return definitions.bytes_of_ids(self.definition, self.special_ids, self.vocab_size)

    @functools.cached_property
    def _spellings(self) -> dict[int, str]:
        return {id: spelling for spelling, id in self._ids.items()}

    def _no_such_id(self, id: int) -> CodecriaError:
        return CodecriaError(f"there is no token {id} in a vocabulary of {self.vocab_size}")


_EACH_BYTE = "codecria.each_byte"


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """SentencePiece writes one U+FFFD for each byte that belongs to no character; Python one for several."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error(_EACH_BYTE, _replace_each_byte)


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _surrogate_error(text: str) -> CodecriaError:
    place = next((place for place, character in enumerate(text) if _has_surrogate(character)), 0)
    what = f"the text has a lone surrogate (U+{ord(text[place]) if text else 0:04X}) at character {place}"
    return CodecriaError(what, mend="decode its source with errors='replace'")

"""The content of a `tokenizer.json` as plain data, and what is derived from it.

Every source (a folder, a SentencePiece model, GGUF metadata) becomes one such definition. Two things come out of
it: a text tokenizer that cannot produce a special id whatever the text spells, and the bytes of each id.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import tokenizers

from codecria.common.errors import CodecriaError
from codecria.tokenizer.byte_level import BYTE_OF_CHARACTER

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

Definition = dict[str, Any]
"""The parsed content of a tokenizer.json."""

Spaces = Literal["none", "document", "run", "run-unless-space"]
"""Where an implicit space is put: nowhere; before a text that begins a document and has no space of its own; before
every run of text, also after a special token; the same where the run has no space of its own."""

_STAGES = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class AddedToken:
    """An entry of `added_tokens`; the flags say whether it swallows the white space beside it."""

    id: int
    content: str
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False

    @classmethod
    def of(cls, id: int, entry: Mapping[str, Any], special: bool = False) -> AddedToken:
        """From an entry of a file; `special` counts where it does not say."""
        sides = (bool(entry.get(side)) for side in ("lstrip", "rstrip"))
        return cls(id, str(entry["content"]), bool(entry.get("special", special)), *sides)

    def to_json(self) -> dict[str, Any]:
        """The entry as tokenizer.json spells it."""
        return {
            "id": self.id,
            "content": self.content,
            "single_word": False,
            "lstrip": self.lstrip,
            "rstrip": self.rstrip,
            "normalized": False,
            "special": self.special,
        }


def added_tokens(definition: Definition) -> list[AddedToken]:
    """The added tokens, by id."""
    entries: list[dict[str, Any]] = definition.get("added_tokens") or []
    return sorted((AddedToken.of(int(entry["id"]), entry) for entry in entries), key=lambda token: token.id)


def new_definition(model: Mapping[str, Any], added: Sequence[AddedToken], **stages: Any) -> Definition:
    """A tokenizer.json of a BPE model.

    Args:
        model: its vocabulary and merges, and settings that are not the usual ones.
        added: added tokens.
        stages: `normalizer`, `pre_tokenizer` and `decoder`, where there is one.
    """
    unset = dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"))
    settings = {"type": "BPE", **unset, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    tokens = [token.to_json() for token in added]
    return {"version": "1.0", **_STAGES, "added_tokens": tokens, **stages, "model": settings | dict(model)}


def check(definition: Definition, where: Path | str) -> None:
    """Refuse what the text tokenizer cannot do exactly.

    Raises:
        CodecriaError: the model is not BPE; it spells neither bytes nor, by byte fallback, every character; or it
            puts a space before the text in a way that decoding does not take off.
    """
    model = definition.get("model")
    kind = model.get("type", "BPE") if isinstance(model, dict) else None
    if not isinstance(model, dict) or kind != "BPE" or "vocab" not in model or "merges" not in model:
        what = f"the tokenizer's model is {kind or 'missing'}, not BPE"
        raise CodecriaError(what, where=where, mend="Llama-family models use BPE")
    if is_byte_level(definition):
        if any(part.get("add_prefix_space") for part in _parts(definition, "pre_tokenizer", "ByteLevel")):
            raise CodecriaError("byte-level BPE with add_prefix_space is not supported", where=where)
        return
    if not model.get("byte_fallback") or any(f"<0x{byte:02X}>" not in model["vocab"] for byte in range(256)):
        what = "the tokenizer has neither byte-level pieces nor byte fallback: some text would be lost"
        raise CodecriaError(what, where=where, mend="use a model whose tokenizer can spell every byte")


def is_byte_level(definition: Definition) -> bool:
    """Whether the pieces spell bytes the way GPT-2 does, not characters with `▁` for the space."""
    return bool(_parts(definition, "decoder", "ByteLevel"))


def spaces(definition: Definition) -> Spaces:
    """Where the tokenizer puts an implicit space."""
    if _parts(definition, "normalizer", "Prepend"):
        return "run"
    for part in _parts(definition, "pre_tokenizer", "Metaspace"):
        scheme = part.get("prepend_scheme") or ("always" if part.get("add_prefix_space", True) else "never")
        if scheme != "never":
            return "document" if scheme == "first" else "run-unless-space"
    return "none"


def vocabulary(definition: Definition) -> dict[str, int]:
    """Every spelling and its id, added tokens included."""
    return definition["model"]["vocab"] | {token.content: token.id for token in added_tokens(definition)}


def is_text(definition: Definition, piece: str) -> bool:
    """Whether ordinary text needs a piece: a character, a byte, or what a merge makes.

    A model may end its answers with a line break; that does not make line breaks special.
    """
    if len(piece) == 1 or (not is_byte_level(definition) and BYTE_PIECE.fullmatch(piece)):
        return True
    return any(piece == left + right for left, right in merge_pairs(definition))


def text_tokenizer(definition: Definition, unreachable: Collection[str]) -> tokenizers.Tokenizer:
    """A tokenizer for text alone: no spelling in `unreachable` can come out of it, and it adds no implicit space.

    The pieces leave the vocabulary, the merges that make or use them, and the added tokens. Ordinary added tokens
    (white-space runs, rare characters) stay: they are text, and models were trained with them.
    """
    banned = set(unreachable)
    model = definition["model"]
    merges = [[*pair] for pair in merge_pairs(definition) if banned.isdisjoint((*pair, "".join(pair)))]
    kept = [entry for entry in definition.get("added_tokens") or [] if entry["content"] not in banned]
    vocab = {piece: id for piece, id in model["vocab"].items() if piece not in banned}
    # The library numbers added tokens that are not in the vocabulary anew.
    vocab |= {entry["content"]: entry["id"] for entry in kept}
    text: Definition = {
        "version": "1.0",
        **_STAGES,
        "added_tokens": kept,
        "normalizer": _without_prepend(definition.get("normalizer")),
        "pre_tokenizer": _without_space(definition.get("pre_tokenizer")),
        "model": model | {"dropout": None, "unk_token": None, "vocab": vocab, "merges": merges},
    }
    return tokenizers.Tokenizer.from_str(json.dumps(text))


def bytes_of_ids(definition: Definition, special: Collection[int], size: int) -> list[bytes]:
    """What each id adds to a decoded text; special ids and holes in the vocabulary add nothing."""
    table = [b""] * size
    spell = _byte_level_bytes if is_byte_level(definition) else _piece_bytes
    for piece, id in definition["model"]["vocab"].items():
        table[id] = spell(piece)
    for token in added_tokens(definition):
        table[token.id] = token.content.encode()
    for id in special:
        table[id] = b""
    return table


def merge_pairs(definition: Definition) -> list[Sequence[str]]:
    """Both sides of each merge: older files write `left right`."""
    merges: list[Any] = definition["model"]["merges"]
    return [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in merges]


def _byte_level_bytes(piece: str) -> bytes:
    try:
        return bytes(BYTE_OF_CHARACTER[character] for character in piece)
    except KeyError:
        return piece.encode()


def _piece_bytes(piece: str) -> bytes:
    if byte := BYTE_PIECE.fullmatch(piece):
        return bytes([int(byte[1], 16)])
    return piece.replace("▁", " ").encode()


def _parts(definition: Definition, stage: str, kind: str) -> list[Mapping[str, Any]]:
    """The components of one kind in a stage, looking through sequences."""
    return [part for part in flatten(definition.get(stage)) if part.get("type") == kind]


def flatten(part: Any) -> list[dict[str, Any]]:
    """The components of a stage, looking through sequences."""
    if not isinstance(part, dict):
        return []
    inner = part.get("normalizers") or part.get("pretokenizers") or part.get("decoders")
    return [part] if inner is None else [leaf for each in inner for leaf in flatten(each)]


def _without_prepend(normalizer: Any) -> Any:
    left = [part for part in flatten(normalizer) if part.get("type") != "Prepend"]
    return {"type": "Sequence", "normalizers": left} if left else None


def _without_space(pre_tokenizer: Any) -> Any:
    parts: list[dict[str, Any]] = []
    for part in flatten(pre_tokenizer):
        if part.get("type") == "Metaspace":
            part = {key: value for key, value in part.items() if key != "add_prefix_space"}
            part["prepend_scheme"] = "never"
        parts.append(part)
    return {"type": "Sequence", "pretokenizers": parts} if parts else None

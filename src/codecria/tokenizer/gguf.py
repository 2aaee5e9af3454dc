"""Tokenizers from the metadata of GGUF files (llama.cpp: src/llama-vocab.cpp, gguf-py constants)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from codecria.common.errors import CodecriaError
from codecria.tokenizer.byte_level import PRE_TOKENIZERS, letters_for_bytes
from codecria.tokenizer.definition import AddedToken, Definition, check, new_definition
from codecria.tokenizer.roles import Roles, Source
from codecria.tokenizer.sentencepiece import Piece, PieceKind, sentencepiece_definition

if TYPE_CHECKING:
    from collections.abc import Mapping


_KEYS = "tokenizer.ggml."


def read_metadata(metadata: Mapping[str, object]) -> Source:
    """Build from the keys `tokenizer.ggml.*` and `tokenizer.chat_template`.

    `model` is "llama" (SentencePiece BPE: tokens, scores, types) or "gpt2" (byte-level BPE: tokens, merges, types and
    the pre-tokenizer's name). Text is not normalised, as in llama.cpp.

    Raises:
        CodecriaError: a key is missing, or the model or its pre-tokenizer is unknown.
    """
    model = _text(metadata, "model")
    if model == "llama":
        definition, add_bos = _sentencepiece(metadata)
    elif model == "gpt2":
        definition, add_bos = _byte_level(metadata)
    else:
        mend = "'llama' and 'gpt2' are supported"
        raise CodecriaError(f"unknown tokenizer '{model}'", where=f"{_KEYS}model", mend=mend)
    check(definition, "GGUF metadata")
    # llama.cpp's defaults for SentencePiece files that name no ids (llama-vocab.cpp, `load`).
    defaults = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0} if model == "llama" else {}

    def id_of(*names: str) -> int | None:
        found = (metadata.get(_KEYS + name, defaults.get(name)) for name in names)
        return next((int(cast("int", id)) for id in found if id is not None), None)

    ends = [id_of(name) for name in ("eos_token_id", "eot_token_id", "eom_token_id")]
    infill = (id_of(f"fim_{part[:3]}_token_id", f"{part}_token_id") for part in ("prefix", "suffix", "middle"))
    infill_ids = [id for id in infill if id is not None]
    template = metadata.get("tokenizer.chat_template")
    roles = Roles(
        bos_id=id_of("bos_token_id"),
        eos_ids=tuple(dict.fromkeys(id for id in ends if id is not None)),
        unk_id=id_of("unknown_token_id"),
        pad_id=id_of("padding_token_id"),
        add_bos=bool(metadata.get(_KEYS + "add_bos_token", add_bos)),
        chat_template=None if template is None else str(template),
        infill_ids=(infill_ids[0], infill_ids[1], infill_ids[2]) if len(infill_ids) == 3 else None,
    )
    return Source(definition, roles, {}, "GGUF metadata")


def _sentencepiece(metadata: Mapping[str, object]) -> tuple[Definition, bool]:
    tokens, scores = _texts(metadata, "tokens"), cast("list[float]", _array(metadata, "scores"))
    kinds = _kinds(metadata, len(tokens))
    if len(scores) != len(tokens):
        raise CodecriaError(f"{len(scores)} scores for {len(tokens)} tokens", where=f"{_KEYS}scores")
    pieces = [Piece(*row) for row in zip(tokens, map(float, scores), kinds, strict=True)]
    dummy_prefix = bool(metadata.get(_KEYS + "add_space_prefix", True))
    return sentencepiece_definition(pieces, dummy_prefix), True


def _byte_level(metadata: Mapping[str, object]) -> tuple[Definition, bool]:
    """Spellings that come twice keep their first id.

    Bytes without a token are dropped in encoding, as in transformers and llama.cpp: SmolLM2 lacks six ASCII control
    characters (0x04, 0x06, 0x13, 0x14, 0x16, 0x1D) and two lead bytes of unassigned planes (0xF1, 0xF2).
    """
    name = _text(metadata, "pre")
    pre = PRE_TOKENIZERS.get(name)
    if pre is None:
        known = ", ".join(PRE_TOKENIZERS)
        raise CodecriaError(f"unknown pre-tokenizer '{name}'", where=f"{_KEYS}pre", mend=f"known: {known}")
    tokens = _texts(metadata, "tokens")
    vocab: dict[str, int] = {}
    added: list[AddedToken] = []
    for id, (token, kind) in enumerate(zip(tokens, _kinds(metadata, len(tokens)), strict=True)):
        vocab.setdefault(token, id)
        if kind != PieceKind.NORMAL:
            added.append(AddedToken(id, token, special=kind != PieceKind.USER_DEFINED))
    merges = [merge.split(" ", 1) for merge in _texts(metadata, "merges")]
    model = {"ignore_merges": pre.ignore_merges, "vocab": vocab, "merges": merges}
    parts, decoder = {"type": "Sequence", "pretokenizers": list(pre.parts)}, letters_for_bytes(use_regex=True)
    return new_definition(model, added, pre_tokenizer=parts, decoder=decoder), pre.add_bos


def _kinds(metadata: Mapping[str, object], count: int) -> list[PieceKind]:
    try:
        kinds = [PieceKind(kind) for kind in cast("list[int]", _array(metadata, "token_type"))]
    except ValueError as error:
        raise CodecriaError(f"unknown token type: {error}", where=f"{_KEYS}token_type") from error
    if len(kinds) != count:
        raise CodecriaError(f"{len(kinds)} types for {count} tokens", where=f"{_KEYS}token_type")
    return kinds


def _text(metadata: Mapping[str, object], name: str) -> str:
    value = metadata.get(_KEYS + name)
    if not isinstance(value, str):
        raise _missing(name)
    return value


def _texts(metadata: Mapping[str, object], name: str) -> list[str]:
    return [str(each) for each in _array(metadata, name)]


def _array(metadata: Mapping[str, object], name: str) -> list[object]:
    value = metadata.get(_KEYS + name)
    if value is None or isinstance(value, str):
        raise _missing(name)
    return list(cast("list[object]", value))


def _missing(name: str) -> CodecriaError:
    what = f"the key '{_KEYS}{name}' is missing"
    return CodecriaError(what, where="GGUF metadata", mend="convert the model again")

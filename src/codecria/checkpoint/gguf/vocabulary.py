"""A tokenizer as the `tokenizer.*` keys of a GGUF file, infill markers included.

Keys and token types as llama.cpp's converter and `src/llama-vocab.cpp` have them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codecria.common.errors import CodecriaError
from codecria.tokenizer.byte_level import PRE_TOKENIZERS
from codecria.tokenizer.definition import BYTE_PIECE, Definition, added_tokens, flatten, is_byte_level, merge_pairs
from codecria.tokenizer.sentencepiece import PieceKind
from codecria.tokenizer.sentinels import find_sentinels

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFWriter

    from codecria.tokenizer.tokenizer import Tokenizer

LAST_SCORE = -1e9
"""What SentencePiece gives to pieces that merge after all others: Llama's runs of spaces."""


def add_tokenizer(writer: GGUFWriter, tokenizer: Tokenizer, ends: list[int], rows: int, where: Path) -> None:
    """Add the tokenizer's keys to a file being written.

    Rows of the embedding that the tokenizer has no token for become unused tokens `[PADn]`, as in llama.cpp's
    converter.

    Args:
        writer: takes the keys.
        tokenizer: byte-level BPE becomes `gpt2`, SentencePiece BPE becomes `llama`.
        ends: ids that end a text, the document's first; GGUF has room for three.
        rows: of the embedding.
        where: named in errors.

    Raises:
        CodecriaError: llama.cpp has no name for the tokenizer's way to cut text into words.
    """
    definition = tokenizer.definition
    byte_level = is_byte_level(definition)
    spellings = _spellings(tokenizer, rows)
    writer.add_tokenizer_model("gpt2" if byte_level else "llama")
    writer.add_tokenizer_pre(pre_tokenizer_name(definition, where) if byte_level else "default")
    writer.add_token_list([f"[PAD{id}]" if text is None else text for id, text in enumerate(spellings)])
    if byte_level:
        writer.add_token_types(_kinds(tokenizer, spellings, None))
        writer.add_token_merges([" ".join(pair) for pair in merge_pairs(definition)])
    else:
        writer.add_token_scores(scores(definition, rows))
        writer.add_token_types(_kinds(tokenizer, spellings, tokenizer.roles.unk_id))
    writer.add_add_bos_token(bool(tokenizer.bos_ids))
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(tokenizer.has_dummy_space)
    _add_ids(writer, tokenizer, ends)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.chat_template)


def pre_tokenizer_name(definition: Definition, where: Path) -> str:
    """llama.cpp's name for the way a byte-level tokenizer cuts text into words (`smollm` for single digits).

    Raises:
        CodecriaError: none of the names known here stands for it.
    """
    parts = [_comparable(part) for part in flatten(definition.get("pre_tokenizer"))]
    ignore_merges = bool(definition["model"].get("ignore_merges"))
    # First match: llama.cpp treats names of the same parts alike.
    for name, pre in PRE_TOKENIZERS.items():
        if [_comparable(part) for part in pre.parts] == parts and pre.ignore_merges == ignore_merges:
            return "smollm" if name == "starcoder" else name
    kinds = ", ".join(str(part.get("type")) for part in parts) or "none"
    mend = f"named ones: {', '.join(PRE_TOKENIZERS)}"
    raise CodecriaError(f"llama.cpp has no name for this pre-tokenizer ({kinds})", where=where, mend=mend)


def scores(definition: Definition, rows: int) -> list[float]:
    """Scores with which llama.cpp merges in the order of the definition's merges.

    Llama's own scores are 0, -1, -2 … by id, and `LAST_SCORE` for runs of spaces; for its tokenizer.json, which has
    no scores, this gives them back (but for rows that are not pieces, which are 0 there).
    """
    first_rank: dict[str, int] = {}
    merges = merge_pairs(definition)
    for rank, (left, right) in enumerate(merges):
        first_rank.setdefault(left + right, rank)
    vocab: dict[str, int] = definition["model"]["vocab"]
    special = {token.id for token in added_tokens(definition)}
    pieces = {text: id for text, id in vocab.items() if id not in special and not BYTE_PIECE.fullmatch(text)}
    never = len(merges)
    runs = {text for text in pieces if not text.strip("▁")}
    others = [first_rank[text] for text in pieces.keys() - runs if text in first_rank]
    runs_last = min((first_rank.get(text, never) for text in runs), default=0) > max(others, default=0)
    values = [0.0] * rows
    ids = sorted(pieces.values())
    base = ids[0]
    ordered = sorted(pieces, key=lambda text: (first_rank.get(text, never), pieces[text]))
    if runs_last:
        for text in runs:
            values[pieces[text]] = LAST_SCORE
        held = {pieces[text] for text in runs}
        ids = [id for id in ids if id not in held]
        ordered = [text for text in ordered if text not in runs]
    for place, text in zip(ids, ordered, strict=True):
        values[pieces[text]] = float(base - place)
    return values


def _add_ids(writer: GGUFWriter, tokenizer: Tokenizer, ends: list[int]) -> None:
    roles = tokenizer.roles
    ids = {"bos": roles.bos_id, "unknown": roles.unk_id, "padding": roles.pad_id}
    if sentinels := find_sentinels(tokenizer):
        ids |= {"fim_pre": sentinels.prefix, "fim_suf": sentinels.suffix}
        ids |= {"fim_mid": sentinels.middle, "fim_sep": sentinels.file_separator}
        # The infill end is `eot` wherever it is not `eos`; llama.cpp ends a text at eos, eot and eom alike.
        ends = list(dict.fromkeys([*ends[:1], sentinels.end[0], *ends[1:]]))
    ids |= dict(zip(("eos", "eot", "eom"), ends, strict=False))
    for key, id in ids.items():
        if id is not None:
            writer.add_uint32(f"tokenizer.ggml.{key}_token_id", id)


def _spellings(tokenizer: Tokenizer, rows: int) -> list[str | None]:
    spellings: list[str | None] = [None] * rows
    for text, id in tokenizer.definition["model"]["vocab"].items():
        spellings[id] = text
    for token in added_tokens(tokenizer.definition):
        spellings[token.id] = token.content
    return spellings


def _kinds(tokenizer: Tokenizer, spellings: list[str | None], unknown: int | None) -> list[int]:
    added = {token.id for token in added_tokens(tokenizer.definition)}

    def kind(id: int, spelling: str | None) -> PieceKind:
        if spelling is None:
            return PieceKind.UNUSED
        if id == unknown:
            return PieceKind.UNKNOWN
        if id in tokenizer.special_ids:
            return PieceKind.CONTROL
        if id in added:
            return PieceKind.USER_DEFINED
        byte = not is_byte_level(tokenizer.definition) and BYTE_PIECE.fullmatch(spelling)
        return PieceKind.BYTE if byte else PieceKind.NORMAL

    return [int(kind(id, spelling)) for id, spelling in enumerate(spellings)]


def _comparable(part: dict[str, Any]) -> dict[str, Any]:
    """A component without what changes offsets only."""
    return {key: value for key, value in part.items() if key != "trim_offsets"}

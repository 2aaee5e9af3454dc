"""SentencePiece BPE models as `tokenizers` definitions that give the same ids.

`tokenizer.model` is a protocol-buffer file; the few fields needed are read here from the wire format
(sentencepiece_model.proto; https://protobuf.dev/programming-guides/encoding), so no protobuf package is needed.
Not supported, and refused with one line: unigram models, models that normalise text or drop spaces (infilling
needs text back as it was), and models without byte fallback.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from codecria.common.errors import CodecriaError
from codecria.common.files import read_bytes
from codecria.tokenizer.definition import BYTE_PIECE, AddedToken, Definition, new_definition
from codecria.tokenizer.roles import Roles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class PieceKind(IntEnum):
    """SentencePiece's types of pieces; GGUF's `tokenizer.ggml.token_type` has the same numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):
    """A row of the vocabulary. Of two merges the one whose piece has the higher score is made first."""

    text: str
    score: float
    kind: PieceKind


class SentencePieceModel(NamedTuple):
    """What a tokenizer.model says. BOS is added, as Meta's code does."""

    pieces: list[Piece]
    dummy_prefix: bool
    roles: Roles


def read_model(path: Path) -> SentencePieceModel:
    """Read a tokenizer.model.

    Raises:
        CodecriaError: it is not a SentencePiece file, not BPE, or does something to text that is not undone.
    """
    data = read_bytes(path)
    try:
        fields = list(_fields(data))
        pieces = [_piece(value) for number, value in fields if number == 1 and isinstance(value, bytes)]
        trainer = dict(_fields(_last(fields, 2)))
        normalizer = dict(_fields(_last(fields, 3)))
    except (IndexError, ValueError, struct.error) as error:
        raise CodecriaError("not a SentencePiece model", where=path, mend="fetch the file again") from error
    refusals = {
        "no pieces": not pieces,
        "not a BPE model": trainer.get(3, 1) != 2,
        "it normalises text": bool(normalizer.get(2)),
        "it drops repeated spaces": bool(normalizer.get(4, 1)),
        "it keeps spaces as they are": not normalizer.get(5, 1),
        "it writes spaces as suffixes": bool(trainer.get(24, 0)),
        "it has no byte fallback": not trainer.get(35, 0),
    }
    for reason, refused in refusals.items():
        if refused:
            raise CodecriaError(f"SentencePiece model not supported: {reason}", where=path)
    ids = (_signed(trainer.get(number, default)) for number, default in ((40, 0), (41, 1), (42, 2), (43, -1)))
    unk, bos, eos, pad = (id if id in range(len(pieces)) else None for id in ids)
    roles = Roles(bos, () if eos is None else (eos,), unk, pad, add_bos=bos is not None)
    return SentencePieceModel(pieces, bool(normalizer.get(3, 1)), roles)


def sentencepiece_definition(pieces: Sequence[Piece], dummy_prefix: bool) -> Definition:
    """A tokenizer.json that encodes as SentencePiece does.

    SentencePiece merges the neighbours whose joined piece scores best, the leftmost of equals; here each way to
    split a piece in two is a merge, ranked by the piece's score. Splits of one piece, and pieces of one score
    (Llama's runs of spaces), are ranked by the length of the left part, longest first, which lets the leftmost win
    where occurrences overlap.

    Ordinary user-defined pieces become added tokens that are not special; control, unknown and unused pieces
    special ones.
    """
    vocab: dict[str, int] = {}
    added: list[AddedToken] = []
    for id, piece in enumerate(pieces):
        text = piece.text.replace("▁", " ") if piece.kind == PieceKind.USER_DEFINED else piece.text
        vocab.setdefault(text, id)
        if piece.kind in (PieceKind.UNKNOWN, PieceKind.CONTROL, PieceKind.UNUSED, PieceKind.USER_DEFINED):
            added.append(AddedToken(id, text, special=piece.kind != PieceKind.USER_DEFINED))
    unknown = next((piece.text for piece in pieces if piece.kind == PieceKind.UNKNOWN), None)
    replace_spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prepend = [{"type": "Prepend", "prepend": "▁"}] if dummy_prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if dummy_prefix else []
    restore_spaces = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    decoders = [restore_spaces, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]
    model = {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True, "vocab": vocab, "merges": _merges(pieces)}
    normalizer = {"type": "Sequence", "normalizers": [*prepend, replace_spaces]}
    decoder = {"type": "Sequence", "decoders": decoders}
    return new_definition(model, added, normalizer=normalizer, decoder=decoder)


def _merges(pieces: Sequence[Piece]) -> list[list[str]]:
    normal = {piece.text for piece in pieces if piece.kind == PieceKind.NORMAL}
    ranked: list[tuple[float, int, int, str]] = []
    for id, piece in enumerate(pieces):
        if piece.kind == PieceKind.NORMAL and not BYTE_PIECE.fullmatch(piece.text):
            for cut in range(1, len(piece.text)):
                if piece.text[:cut] in normal and piece.text[cut:] in normal:
                    ranked.append((-piece.score, -cut, id, piece.text))
    return [[text[:-negative_cut], text[-negative_cut:]] for _, negative_cut, _, text in sorted(ranked)]


def _piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, PieceKind.NORMAL
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            text = value.decode()
        elif number == 2 and isinstance(value, bytes):
            score = struct.unpack("<f", value)[0]
        elif number == 3 and isinstance(value, int):
            kind = PieceKind(value)
    return Piece(text, score, kind)


def _last(fields: list[tuple[int, int | bytes]], wanted: int) -> bytes:
    return next((value for number, value in reversed(fields) if number == wanted and isinstance(value, bytes)), b"")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a message: integers for varints, bytes for everything else."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        wire = tag & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield tag >> 3, value
            continue
        if wire == 2:
            length, place = _varint(data, place)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if place + length > len(data):
            raise ValueError("a field is cut short")
        yield tag >> 3, data[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def _signed(value: int | bytes) -> int:
    """A 32-bit field that may be negative: protocol buffers write such numbers as 64-bit two's complement."""
    number = value if isinstance(value, int) else -1
    return number - (1 << 64) if number >= 1 << 63 else number

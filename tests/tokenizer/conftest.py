from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import pytest
import sentencepiece

from codecria.tokenizer.byte_level import CHARACTER_OF_BYTE
from codecria.tokenizer.sentencepiece import Piece, PieceKind
from codecria.tokenizer.tokenizer import Tokenizer

CODE_LLAMA_PIECES = [
    *("▁<SU", "▁<SUF", "▁<PRE", "▁<M", "▁<MID", "▁<E", "▁<EOT", "▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),
    *("▁" + "<EOT>" * count for count in range(2, 7)),
]
"""Rows 32000 to 32015 of Code Llama's vocabulary."""


def model_bytes(pieces: list[Piece]) -> bytes:
    """Pieces as a SentencePiece model's bytes. Appended to another model they come after its own pieces."""
    data = b""
    for piece in pieces:
        text = piece.text.encode()
        body = b"\x0a" + _varint(len(text)) + text + b"\x15" + struct.pack("<f", piece.score)
        body += b"\x18" + _varint(int(piece.kind))
        data += b"\x0a" + _varint(len(body)) + body
    return data


def _varint(number: int) -> bytes:
    data = b""
    while number >= 0x80:
        data += bytes([number & 0x7F | 0x80])
        number >>= 7
    return data + bytes([number])


@pytest.fixture(scope="session")
def smollm2_metadata(smollm2_gguf: Path) -> dict[str, Any]:
    fields = gguf.GGUFReader(smollm2_gguf).fields
    return {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")}


@pytest.fixture(scope="session")
def smollm2(smollm2_metadata: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_gguf(smollm2_metadata)


@pytest.fixture(scope="session")
def llama(llama_tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.from_sentencepiece(llama_tokenizer_folder / "tokenizer.model")


@pytest.fixture(scope="session")
def llama_oracle(llama_tokenizer_folder: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(llama_tokenizer_folder / "tokenizer.model"))


@pytest.fixture(scope="session")
def code_llama_model(llama_tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Code Llama's tokenizer.model: Llama's pieces and the 16 that Meta added, which text can merge into."""
    path = tmp_path_factory.mktemp("code-llama") / "tokenizer.model"
    added = [Piece(text, 1.0 + number, PieceKind.NORMAL) for number, text in enumerate(CODE_LLAMA_PIECES)]
    path.write_bytes((llama_tokenizer_folder / "tokenizer.model").read_bytes() + model_bytes(added))
    return path


@pytest.fixture(scope="session")
def code_llama(code_llama_model: Path) -> Tokenizer:
    return Tokenizer.from_sentencepiece(code_llama_model)


@pytest.fixture(scope="session")
def plain() -> Tokenizer:
    """Bytes and nothing else: 256 ids, no special token, no chat template."""
    tokens = [*CHARACTER_OF_BYTE.values()]
    kinds = {"tokenizer.ggml.token_type": [1] * 256, "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": []}
    return Tokenizer.from_gguf({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", **kinds})


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Ordinary and odd texts: code of the standard library, white space of all lengths, scripts, control characters."""
    library = Path(pytest.__file__).parent.parent
    sources = sorted(Path(struct.__file__).parent.glob("*.py"))[4:12] + sorted((library / "_pytest").glob("*.py"))[:2]
    code = [path.read_text(errors="replace").replace("▁", "_") for path in sources]
    runs = [character * count for character in " \t\n-=*." for count in (1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 33, 70)]
    odd = [
        *(
            "",
            " ",
            "a",
            " a",
            "  a",
            "a ",
            "\r\n",
            "a\r\nb\r\n",
            "\t\tx",
            "\x00",
            "a\x00b",
            "\x7f",
            "\ufeffx",
            "\u00a0 x",
        ),
        *("naïve café", "日本語のコメント", "한국어", "нещо на Български", "قيمة", "e\u0301", "\U0010fffd", "\u200d"),
        *(
            "🚀 (normal) 😶\u200d🌫️",
            "\U0001f469\u200d\U0001f469\u200d\U0001f467",
            "0123456789 3.14 1_000_000 0xFF ²³ ٣٤",
        ),
        *("'tis I'll we've DON'T", "<0x0A><0x41>", "<s>[INST] <<SYS>></s>", "<|im_start|>user", "<|endoftext|>"),
    ]
    indents = [" " * count + "return x\n" for count in range(40)]
    return [*code, *runs, *odd, *indents]

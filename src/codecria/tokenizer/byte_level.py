"""Byte-level BPE: GPT-2's letters for bytes, and the pre-tokenizers that GGUF files name.

The regular expressions are the models' own (each model's tokenizer.json); llama.cpp's `tokenizer.ggml.pre` gives
them short names (llama-vocab.cpp). Only names whose ids were compared with a reference stand here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


def _characters_of_bytes() -> dict[int, str]:
    """Printable Latin-1 bytes stand for themselves, the other 68 for U+0100 and up (GPT-2's encoder.py)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(0x100 + len(table) - len(printable))
    return table


CHARACTER_OF_BYTE: dict[int, str] = _characters_of_bytes()
BYTE_OF_CHARACTER: dict[str, int] = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def letters_for_bytes(*, use_regex: bool) -> dict[str, Any]:
    """The component that writes bytes as letters, of a pre-tokenizer or a decoder."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


_DIGITS: dict[str, Any] = {"type": "Digits", "individual_digits": True}


class PreTokenizer(NamedTuple):
    """How text is cut before merging.

    Attributes:
        parts: components of tokenizer.json's `pre_tokenizer`, in order.
        ignore_merges: whether a whole word that is in the vocabulary is taken without merging.
        add_bos: what llama.cpp does where the file does not say.
    """

    parts: tuple[dict[str, Any], ...]
    ignore_merges: bool = False
    add_bos: bool = False


_GPT2 = PreTokenizer((letters_for_bytes(use_regex=True),))
_SINGLE_DIGITS = PreTokenizer((_DIGITS, letters_for_bytes(use_regex=True)))
_LLAMA_BPE = PreTokenizer((_split(_LLAMA3), letters_for_bytes(use_regex=False)), ignore_merges=True, add_bos=True)
_DEEPSEEK_CODER = PreTokenizer(
    (
        _split("[\r\n]"),
        _split(r"\s?\p{L}+"),
        _split(r"\s?\p{P}+"),
        _split("[一-龥ࠀ-一가-퟿]+"),
        _DIGITS,
        letters_for_bytes(use_regex=False),
    )
)

PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell"), _SINGLE_DIGITS),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), _LLAMA_BPE),
    "qwen2": PreTokenizer((_split(_QWEN2), letters_for_bytes(use_regex=False))),
    "deepseek-coder": _DEEPSEEK_CODER,
}
"""Pre-tokenizers by the name a GGUF file has in `tokenizer.ggml.pre`."""

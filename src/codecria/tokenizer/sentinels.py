"""Infill markers by family: their spellings, their order, what ends a middle, and which spellings are never text.

Sources: Code Llama: Meta's llama/tokenizer.py and generation.py. StarCoder: bigcode's Megatron-LM (`permute`) and the
model cards. DeepSeek-Coder: README, "Code Insertion". Qwen2.5-Coder: examples/Qwen2.5-Coder-fim.py. CodeGemma:
ai.google.dev, "Formatting for FIM tasks". Codestral: mistral-common (`<s>[SUFFIX]…[PREFIX]…`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError
from codecria.infill.layout import Order, Sentinels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codecria.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Family:
    """Spellings of one family's markers.

    Attributes:
        prefix, suffix, middle: the markers; without `middle` the prompt is suffix first and ends with the prefix.
        end: what the model writes after a middle, the trained one first. The tokenizer's own end ids count too.
        orders: layouts the family was trained with, the preferred one first.
        marks: spellings that tell the family from others with the same markers.
        file_separator, file_name: markers of repository-level prompts.
        reserved: rows without a meaning, to be masked in sampling.
    """

    prefix: str
    suffix: str
    middle: str | None
    end: tuple[str, ...]
    orders: tuple[Order, ...] = ("psm",)
    marks: tuple[str, ...] = ()
    file_separator: str | None = None
    file_name: str | None = None
    reserved: tuple[str, ...] = ()

    @property
    def required(self) -> tuple[str, ...]:
        """Spellings a tokenizer must have to be of this family."""
        return (self.prefix, self.suffix, *([self.middle] if self.middle else []), *self.marks)

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every spelling named here."""
        optional = (self.file_separator, self.file_name)
        return (*self.required, *self.end, *self.reserved, *(each for each in optional if each))


OWN = "codecria"
"""The family of the markers that codecria adds to a model that has none."""

# Code Llama's vocabulary spells its markers by merging, so it holds their beginnings too (ids 32000 to 32015).
_CODE_LLAMA_REST = (
    *("▁<SU", "▁<SUF", "▁<PRE", "▁<M", "▁<MID", "▁<E", "▁<EOT"),
    *("▁" + "<EOT>" * count for count in range(2, 7)),
)

_PIPED = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
_PLAIN = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")

FAMILIES: dict[str, Family] = {
    OWN: Family(
        *_PIPED,
        end=("<|fim_end|>",),
        # Suffix first is preferred: the middle goes on from the prefix as all text does, so a foundation model needs
        # little training for it, and at the cursor a keystroke changes the prompt's end alone.
        orders=("spm", "psm"),
        marks=("<|fim_end|>", "<|reserved_0|>"),
        reserved=tuple(f"<|reserved_{number}|>" for number in range(12)),
    ),
    "code-llama": Family(
        *("▁<PRE>", "▁<SUF>", "▁<MID>"),
        end=("▁<EOT>",),
        orders=("psm", "spm"),
        marks=("▁<EOT>",),
        reserved=_CODE_LLAMA_REST,
    ),
    "qwen2.5-coder": Family(
        *_PIPED,
        end=("<|endoftext|>", "<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", *_PIPED),
        marks=("<|fim_pad|>", "<|file_sep|>", "<|repo_name|>"),
        file_separator="<|file_sep|>",
    ),
    "codegemma": Family(
        *_PIPED,
        end=("<|file_separator|>", *_PIPED),
        marks=("<|file_separator|>",),
        file_separator="<|file_separator|>",
    ),
    "starcoder2": Family(
        *_PLAIN,
        end=("<|endoftext|>", "<file_sep>"),
        orders=("psm", "spm"),
        marks=("<file_sep>", "<repo_name>"),
        file_separator="<file_sep>",
    ),
    "starcoder": Family(*_PLAIN, end=("<|endoftext|>",), orders=("psm", "spm"), file_name="<filename>"),
    "deepseek-coder": Family(
        "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", end=("<｜end▁of▁sentence｜>", "<|EOT|>")
    ),
    "codestral": Family("[PREFIX]", "[SUFFIX]", None, end=("</s>",), orders=("spm",)),
}
"""Families by name, the more particular before the less."""

_MARKER_SPELLINGS = frozenset(spelling for family in FAMILIES.values() for spelling in family.spellings)

# Checkpoints that mark control tokens as ordinary ones: the shapes llama.cpp's converter knows, and its own padding.
_MARKER_SHAPE = re.compile(r"<\|.*\|>|<｜.*｜>|<unused\d+>|<pad>|<mask>|<2mass>|\[@BOS@\]|\[PAD\d+\]", re.DOTALL)


def looks_special(spelling: str) -> bool:
    """Whether an added token is a marker by its looks, whatever the file says of it."""
    return spelling in _MARKER_SPELLINGS or _MARKER_SHAPE.fullmatch(spelling) is not None


def spelled_by_merging(vocab: Iterable[str]) -> set[str]:
    """Pieces that an ordinary vocabulary holds for a family's markers, so that plain text could merge into them.

    Code Llama's `▁<PRE>` and its beginnings are such pieces. Other families' spellings (`</s>`, `<pad>` …) count only
    as added tokens: a vocabulary may hold the same letters as text.
    """
    family = FAMILIES["code-llama"]
    present = set(vocab)
    return set(family.spellings) & present if present.issuperset(family.required) else set()


def find_sentinels(tokenizer: Tokenizer) -> Sentinels | None:
    """The infill markers of a tokenizer, or None where it has none: by spelling, else by the ids a GGUF file names."""
    for name, family in FAMILIES.items():
        if all(tokenizer.token_id(spelling) is not None for spelling in family.required):
            return _sentinels(tokenizer, name, family)
    named = tokenizer.roles.infill_ids
    if named is None:
        return None
    prefix, suffix, middle = named
    return Sentinels(prefix, suffix, middle, tokenizer.eos_ids, family="gguf", orders=("psm",))


def add_sentinels(tokenizer: Tokenizer) -> tuple[Tokenizer, Sentinels]:
    """Add codecria's markers as 16 rows at the end: 4 markers and 12 reserved, as Code Llama did.

    SmolLM2's 49,152 rows become 49,168, which divides for tensor parallelism.

    Raises:
        CodecriaError: the tokenizer has markers already.
    """
    if present := find_sentinels(tokenizer):
        raise CodecriaError(f"the tokenizer has infill markers already ({present.family})", mend="use find_sentinels")
    own = FAMILIES[OWN]
    marked = tokenizer.with_added_tokens([own.prefix, own.suffix, own.middle or "", *own.end, *own.reserved])
    return marked, _sentinels(marked, OWN, own)


def reserved_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Ids of rows without a meaning, which sampling must never choose."""
    found = find_sentinels(tokenizer)
    if found is None or found.family not in FAMILIES:
        return ()
    ids = (tokenizer.token_id(spelling) for spelling in FAMILIES[found.family].reserved)
    return tuple(id for id in ids if id is not None)


def _sentinels(tokenizer: Tokenizer, name: str, family: Family) -> Sentinels:
    def id_of(spelling: str | None) -> int | None:
        return None if spelling is None else tokenizer.token_id(spelling)

    prefix, suffix = tokenizer.token_id(family.prefix), tokenizer.token_id(family.suffix)
    assert prefix is not None and suffix is not None
    ends = [id for id in map(id_of, family.end) if id is not None]
    return Sentinels(
        prefix,
        suffix,
        id_of(family.middle),
        tuple(dict.fromkeys([*ends, *tokenizer.eos_ids])),
        family=name,
        orders=family.orders,
        file_separator=id_of(family.file_separator),
        file_name=id_of(family.file_name),
    )

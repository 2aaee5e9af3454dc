r"""The one place where prefix, suffix and middle become token ids.

PSM (prefix, suffix, middle) and SPM (suffix, prefix, middle) as Code Llama has them:

    PSM   BOS <PRE> enc(prefix) <SUF> enc_infilling(suffix) <MID> enc_infilling(middle) <EOT>
    SPM   BOS <PRE> <SUF> enc_infilling(suffix) <MID> enc(prefix + middle) <EOT>

`enc_infilling` adds no implicit leading space; `enc` does where the tokenizer has one. In SPM prefix and middle are
one string before they are tokens, so no token is split between them in training (paper §2.3).

Golden vector (Llama's vocabulary): prefix 'def remove_non_ascii(s: str) -> str:\n    "" ', suffix
'\n    return result\n' begins 1 32007 822 3349 …, see tests/infill/test_layout.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from codecria.common.errors import CodecriaError

if TYPE_CHECKING:
    from collections.abc import Sequence

Order = Literal["psm", "spm"]

_BEFORE_BORDER = re.compile(r".*[A-Za-z](?=[ \n])", re.DOTALL)
"""A text up to the last place where a space or line end follows a letter: no token crosses such a place."""


class Encoder(Protocol):
    """What the layouts need of a tokenizer. Text is only text: a spelling of a special token encodes as characters."""

    @property
    def bos_ids(self) -> list[int]:
        """The ids a sequence begins with: the BOS id, or none."""
        ...

    @property
    def has_dummy_space(self) -> bool:
        """Whether `encode` puts an implicit space before the text, as SentencePiece models of the Llama family do."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of a text that begins a document; no BOS, no end."""
        ...

    def encode_infilling(self, text: str) -> list[int]:
        """Ids of a text that continues something: no implicit leading space."""
        ...

    def token_bytes(self, id: int) -> bytes:
        """What an id adds to a text, in UTF-8; the implicit space included."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids that `encode` made; special ids give nothing."""
        ...

    def decode_infilling(self, ids: Sequence[int]) -> str:
        """Text of ids that `encode_infilling` made: a leading space is kept; special ids give nothing."""
        ...


@dataclass(frozen=True)
class Sentinels:
    """The ids of a model's infill markers.

    Attributes:
        prefix, suffix, middle: markers; `middle` is None for families whose prompt ends with the prefix (Codestral).
        end: ids any of which ends a generated middle; the first is the one that training writes.
        family: whose layout it is; a key of the tokenizer room's table.
        orders: layouts the family knows, the preferred one first.
        file_separator: id between files of a repository, where the family has one.
        file_name: id before a file's path, where the family has one.
    """

    prefix: int
    suffix: int
    middle: int | None
    end: tuple[int, ...]
    family: str
    orders: tuple[Order, ...] = ("psm", "spm")
    file_separator: int | None = None
    file_name: int | None = None


class Split(NamedTuple):
    """A document cut in three; `prefix + middle + suffix` is the document."""

    prefix: str
    middle: str
    suffix: str


class Example(NamedTuple):
    """A training sequence of one infilled document.

    `ids[middle_start:]` are the middle and the end marker. In SPM the first of them may also hold the prefix's last
    characters, because prefix and middle are encoded as one string: it `straddles` the border.
    """

    ids: list[int]
    middle_start: int
    straddles: bool = False


def infill_prompt(encoder: Encoder, sentinels: Sentinels, prefix: str, suffix: str, order: Order) -> list[int]:
    """Ids after which a model writes the middle.

    Raises:
        CodecriaError: the family was not trained with this order.
    """
    if order not in sentinels.orders:
        raise CodecriaError(
            f"the {sentinels.family} layout has no {order.upper()} order",
            mend=f"use {' or '.join(each.upper() for each in sentinels.orders)}",
        )
    if sentinels.middle is None:
        ids = [sentinels.suffix, *encoder.encode_infilling(suffix), sentinels.prefix, *encoder.encode(prefix)]
    elif order == "psm":
        ids = [sentinels.prefix, *encoder.encode(prefix), sentinels.suffix]
        ids += [*encoder.encode_infilling(suffix), sentinels.middle]
    else:
        ids = [sentinels.prefix, sentinels.suffix, *encoder.encode_infilling(suffix)]
        ids += [sentinels.middle, *encoder.encode(prefix)]
    return [*encoder.bos_ids, *ids]


def infill_example(
    encoder: Encoder, sentinels: Sentinels, split: Split, order: Order, *, joined: bool = True
) -> Example:
    """A whole training sequence: the prompt, the middle and the end marker.

    Without `joined` SPM too encodes the middle alone (Bavarian et al. 2022): a token may be split at the border.
    """
    prefix, middle, suffix = split
    if not joined or (order == "psm" and sentinels.middle is not None):
        prompt = infill_prompt(encoder, sentinels, prefix, suffix, order)
        return Example([*prompt, *encoder.encode_infilling(middle), sentinels.end[0]], len(prompt))
    head = infill_prompt(encoder, sentinels, "", suffix, order)
    text = prefix + middle
    whole = encoder.encode(text)
    shared, straddles = _shared_length(encoder, text, len(prefix), whole)
    return Example([*head, *whole, sentinels.end[0]], len(head) + shared, straddles)


def _shared_length(encoder: Encoder, text: str, stop: int, joined: Sequence[int]) -> tuple[int, bool]:
    """How many leading ids `encode(text[:stop])` shares with `joined`, the ids of the text; and whether it has more.

    Tokens before the last border are the same in both, so only what stands behind it is encoded once more. Should no
    token begin at the border, in a vocabulary unlike those known, everything is.
    """
    before = _BEFORE_BORDER.match(text, 0, stop)
    if before is not None:
        rest = text[before.end() :].encode()
        first, size, spelled = len(joined), 0, list[bytes]()
        while size < len(rest) and first:
            first -= 1
            spelled.append(encoder.token_bytes(joined[first]))
            size += len(spelled[-1])
        if b"".join(reversed(spelled)) == rest:
            alone = encoder.encode_infilling(text[before.end() : stop])
            shared = common_length(alone, joined[first:])
            return first + shared, shared < len(alone)
    alone = encoder.encode(text[:stop])
    shared = common_length(alone, joined)
    return shared, shared < len(alone)


def continues_prefix(sentinels: Sentinels, order: Order) -> bool:
    """Whether the middle goes on from the prefix, as one string with it, instead of following a marker."""
    return order == "spm" or sentinels.middle is None


def decode_middle(encoder: Encoder, sentinels: Sentinels, ids: Sequence[int], prefix: str, order: Order) -> str:
    """Text of a generated middle, every leading space kept.

    In SPM the middle continues the prefix's string. With an empty prefix the implicit space falls on the middle
    itself, and exactly one is taken off.
    """
    if continues_prefix(sentinels, order) and not prefix:
        return encoder.decode(ids)
    return encoder.decode_infilling(ids)


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of leading ids that two sequences share."""
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length

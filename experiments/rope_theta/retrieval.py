"""Retrieval for a model that is too small for a key's number: is a text cheaper when it is read a second time?

A few lines of one file stand at a place in another, and again at its end. The gain is what the second reading costs
less than the same reading without the first. A model that looks back so far copies; one that does not gains nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from codecria.common.random import digest
from codecria.evaluation.scoring import Continuation, score

if TYPE_CHECKING:
    from codecria.corpus.document import Document
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer

NEAR = 128
"""Tokens between the two readings in the near place; the far one is the prompt's start."""
PLACES = ("near", "far")


class Repeat(NamedTuple):
    """Lines to be read twice, and what stands around them."""

    key: list[int]
    filler: list[int]


def repeats(documents: list[Document], tokenizer: Tokenizer, items: int, longest: int, key_tokens: int) -> list[Repeat]:
    """Pairs of files in the order of a digest: lines of the first, from its middle on; the second's beginning."""
    ordered = sorted(documents, key=lambda each: digest("second reading", each.content_hash))
    texts = [ids for each in ordered if len(ids := tokenizer.encode(each.text)) >= longest]
    keys = [each.text[each.text.find("\n", len(each.text) // 2) :] for each in reversed(ordered)]
    encoded = [ids[:key_tokens] for ids in map(tokenizer.encode, keys) if len(ids) >= key_tokens]
    return [Repeat(key, filler) for key, filler in zip(encoded[:items], texts[:items], strict=False)]


def gains(model: Transformer, found: list[Repeat], length: int) -> dict[str, np.ndarray]:
    """Nats a token that a second reading at the end of `length` tokens costs less, by place of the first: [N] each."""
    once = score(model, [_reading(each, length, None) for each in found])
    gained: dict[str, np.ndarray] = {}
    for place in PLACES:
        twice = score(model, [_reading(each, length, place) for each in found])
        gained[place] = np.array(
            [(after.mean() - before.mean()) * np.log(2) for after, before in zip(twice, once, strict=True)]
        )
    return gained


def _reading(repeat: Repeat, length: int, place: str | None) -> Continuation:
    key, filler = repeat
    if place is None:
        return Continuation(filler[: length - len(key)], key)
    room = filler[: length - 2 * len(key)]
    cut = 0 if place == "far" else max(0, len(room) - NEAR)
    return Continuation([*room[:cut], *key, *room[cut:]], key)

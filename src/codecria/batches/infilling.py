"""From a piece of text to ids and loss weights: left to right, or infilled in PSM or SPM order (law 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from codecria.common.random import generator
from codecria.infill.layout import Sentinels, infill_example
from codecria.infill.split import Draws, split_document

if TYPE_CHECKING:
    from codecria.batches.recipe import BatchRecipe
    from codecria.common.random import Key
    from codecria.infill.layout import Encoder, Order


class Rendered(NamedTuple):
    """One piece as training data. `weights[i]` is the loss weight of `ids[i]` as a target; the first is always 0."""

    ids: list[int]
    weights: np.ndarray
    middle_start: int
    """`ids[middle_start:]` are the middle and its end; the length where there is none."""
    form: str
    """`plain`, `psm`, `spm`, or `outgrown`: drawn for infilling but too long for its slot, so left to right."""


def render_piece(
    encoder: Encoder,
    sentinels: Sentinels | None,
    text: str,
    recipe: BatchRecipe,
    *,
    key: tuple[Key, ...],
    slot: int,
    eligible: bool,
    end_ids: list[int],
    language: str | None = None,
) -> Rendered:
    """Encode a piece, infilled or not as its key draws it.

    Args:
        encoder: the tokenizer.
        sentinels: the infill markers; None for a model without.
        text: the piece.
        recipe: rate, units, orders and loss.
        key: (seed, source epoch, content hash, offset): what every draw depends on, and all it depends on.
        slot: most ids the piece may have.
        eligible: whether the piece may be infilled at all (`level: document` excludes cut documents).
        end_ids: ids that follow the text of a piece with which a document ends; empty for other pieces.
        language: what the text is written in, for middles by syntax.
    """
    infill, draws = recipe.infill, Draws(*key)
    form = "plain"
    long_enough = len(text) >= infill.min_characters
    if sentinels is not None and eligible and long_enough and draws.uniform() < infill.rate:
        order: Order = "psm" if draws.uniform() < infill.psm_share else "spm"
        if order not in sentinels.orders:
            order = sentinels.orders[0]
        split = split_document(text, infill.units, draws, encoder, language)
        example = infill_example(encoder, sentinels, split, order, joined=infill.spm_joined)
        if len(example.ids) <= slot:
            weights = _context_weights(len(example.ids), recipe.loss.context_share, key)
            for marker in (sentinels.prefix, sentinels.suffix, sentinels.middle):
                if marker is not None:
                    weights[example.ids.index(marker)] = 0.0
            weights[example.middle_start :] = 1.0
            if example.straddles:
                weights[example.middle_start] = recipe.loss.straddling_weight
            weights[-1] = recipe.loss.end_weight
            weights[0] = 0.0
            return Rendered(example.ids, weights, example.middle_start, order)
        form = "outgrown"
    ids = [*encoder.bos_ids, *encoder.encode(text), *end_ids][:slot]
    weights = _context_weights(len(ids), recipe.loss.context_share, key)
    weights[:1] = 0.0
    return Rendered(ids, weights, len(ids), form)


def _context_weights(length: int, share: float, key: tuple[Key, ...]) -> np.ndarray:
    if share >= 1.0:
        return np.ones(length, dtype=np.float32)
    return (generator(*key, "loss").random(length) < share).astype(np.float32)

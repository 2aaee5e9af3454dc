"""Losses on held-out documents while a stage runs: the same sequences each time, at every world size."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from codecria.batches.loader import KINDS_OF_TOKENS, Sequences
from codecria.batches.prepare import open_sources, prepare
from codecria.batches.recipe import LossRecipe
from codecria.training.step import add_losses, forward, lay_out, own_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Sequence as List

    from codecria.batches.loader import Sequence
    from codecria.model.transformer import Transformer
    from codecria.training.parallel import World
    from codecria.training.recipe import TrainRecipe, ValidationRecipe
    from codecria.training.start import Start

_KINDS = len(KINDS_OF_TOKENS)


class Validation:
    """A probe that measures the loss, in nats a target token, on the corpus's held-out documents.

    `validation_loss` and `validation_loss/SOURCE` are of all targets, left to right (perplexity is exp(loss)),
    `validation_infill_psm` and `validation_infill_spm` of infilled middles with their end. Documents are cut and packed
    as the stage's; every target counts the same, whatever the stage's loss weights.

    Args:
        asked: how often and how much.
        recipe: the stage.
        start: what the stage began with.
        folder: the run's; `held_out/` in it is prepared on the first rank.
        world: this rank; each takes a share of the sequences.
    """

    def __init__(self, asked: ValidationRecipe, recipe: TrainRecipe, start: Start, folder: Path, world: World) -> None:
        self.every_steps = asked.every_steps
        self._recipe, self._world = recipe, world
        batches = recipe.batches
        prepared = folder / "held_out"
        if world.first:
            prepare(Path(recipe.corpus), start.tokenizer, batches, prepared, recipe.seed, split="held_out")
        world.barrier()
        sources = open_sources(prepared)
        self._sources = [source.name for source in sources]
        places = [(each.name, n) for each in sources for n in range(min(asked.sequences, len(each)))]

        def rendered(rate: float, psm_share: float, context_share: float) -> list[Sequence]:
            infill = batches.infill.model_copy(update={"rate": rate, "psm_share": psm_share})
            keys = {"infill": infill, "loss": LossRecipe(context_share=context_share)}
            keys |= {"mixture_changes": (), "max_epochs": None}
            by_source = {
                name: Sequences(
                    prepared,
                    start.tokenizer,
                    start.sentinels,
                    batches.model_copy(update={**keys, "mixture": {name: 1.0}}),
                    recipe.seed,
                )
                for name in self._sources
            }
            return [
                by_source[name].sequence(n) if own else _weightless(by_source[name].sequence(n))
                for name, n, own in _share(places, world)
            ]

        self._sets = {"": rendered(0.0, 0.5, 1.0)}
        for order in start.sentinels.orders if start.sentinels and batches.infill.rate > 0 else ():
            self._sets[order] = rendered(1.0, float(order == "psm"), 0.0)

    def __call__(self, model: Transformer, step: int) -> Mapping[str, float]:
        """The figures; `step` does not matter."""
        del step
        figures: dict[str, float] = {}
        for order, rows in self._sets.items():
            losses_SK, weights_SK = self._measure(model, rows)
            if order:
                kind = KINDS_OF_TOKENS.index(order)
                figures |= _mean(f"validation_infill_{order}", losses_SK[:, kind], weights_SK[:, kind])
                continue
            figures |= _mean("validation_loss", losses_SK, weights_SK)
            for source, losses_K, weights_K in zip(self._sources, losses_SK, weights_SK, strict=True):
                figures |= _mean(f"validation_loss/{source}", losses_K, weights_K)
            figures["validation_perplexity"] = math.exp(min(figures["validation_loss"], 700.0))
        return figures

    @torch.no_grad()
    def _measure(self, model: Transformer, rows: List[Sequence]) -> np.ndarray:
        """Summed losses and weights by source and kind of token: [2, sources, kinds]."""
        world = self._world
        sums = torch.zeros(2, len(self._sources), _KINDS, dtype=torch.float64, device=world.device)
        for row in rows:
            micro = own_part(lay_out([row], self._sources, world.length_multiple, world.device), world)
            add_losses(sums, micro, forward(model, micro, self._recipe, world)[1])
        return world.add_up(sums).cpu().numpy()


def _share(places: List[tuple[str, int]], world: World) -> Iterator[tuple[str, int, bool]]:
    """Each rank takes as many sequences, so that all may compute together: the last ones may not count."""
    for place in range(world.data_rank, len(places) + -len(places) % world.data_ranks, world.data_ranks):
        yield *places[place % len(places)], place < len(places)


def _weightless(row: Sequence) -> Sequence:
    return replace(row, weights=np.zeros_like(row.weights))


def _mean(name: str, losses: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    return {name: float(losses.sum() / weights.sum())} if weights.sum() else {}

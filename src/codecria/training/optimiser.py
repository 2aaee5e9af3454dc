"""AdamW, its schedule, and the faster rows of new tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from codecria.training.lora import NEW_ROWS, own_share

if TYPE_CHECKING:
    from codecria.training.recipe import OptimiserRecipe, TrainRecipe


def learning_rate(step: int, steps: int, recipe: OptimiserRecipe) -> float:
    """Rate of step `step` (from 0) of `steps`: linear warm-up, then a cosine from the peak to `final_share` of it.

    The last step has exactly the final rate; the first step of a warm-up of w steps has peak / w.
    """
    if step < recipe.warm_up_steps:
        return recipe.peak_rate * (step + 1) / recipe.warm_up_steps
    span = max(steps - 1 - recipe.warm_up_steps, 1)
    done = min((step - recipe.warm_up_steps) / span, 1.0)
    floor = recipe.peak_rate * recipe.final_share
    return floor + (recipe.peak_rate - floor) * 0.5 * (1 + math.cos(math.pi * done))


def warm_up_note(recipe: TrainRecipe) -> str | None:
    """What a run should be told whose rate never reaches its peak."""
    warm_up, steps = recipe.optimiser.warm_up_steps, recipe.steps
    if steps >= warm_up:
        return None
    return f"a warm-up of {warm_up:,} steps in a run of {steps:,}: the rate ends at {steps / warm_up:.0%} of its peak"


def make_optimiser(model: nn.Module, recipe: OptimiserRecipe) -> torch.optim.AdamW:
    """AdamW over the parameters that require a gradient; weight decay on matrices only.

    A group's `factor` multiplies the learning rate: rows of new tokens that are a block of their own (under adapters)
    have the recipe's. Where they are the end of a table that is trained whole, `FasterRows` does it.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    rows = [parameter for name, parameter in named if name.endswith(NEW_ROWS)]
    others = [parameter for name, parameter in named if not name.endswith(NEW_ROWS)]
    groups = [
        {"params": [each for each in others if each.ndim >= 2], "weight_decay": recipe.weight_decay, "factor": 1.0},
        {"params": [each for each in others if each.ndim < 2], "weight_decay": 0.0, "factor": 1.0},
        {"params": rows, "weight_decay": 0.0, "factor": recipe.new_rows_factor},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=recipe.peak_rate, betas=recipe.betas, eps=recipe.eps, fused=True)


class FasterRows:
    """Gives the last rows of some tables a multiple of the learning rate.

    AdamW's change of an element, decay included, is linear in the rate. So multiplying the change of these rows
    after the step is the same as a parameter group of their own, and the table stays one tensor. Of a sharded table
    each rank sees to the rows it holds.
    """

    def __init__(self, tables: list[nn.Parameter], rows: int, factor: float) -> None:
        self._tables = tables if rows and factor != 1.0 else []
        self._count = rows
        self._factor = factor
        self._before: list[Tensor] = []

    @torch.no_grad()
    def before_step(self) -> None:
        """Remember the rows."""
        self._before = [last_rows(table, self._count).clone() for table in self._tables]

    @torch.no_grad()
    def after_step(self) -> None:
        """Multiply what the step changed."""
        for table, before in zip(self._tables, self._before, strict=True):
            rows = last_rows(table, self._count)
            rows.copy_(before + self._factor * (rows - before))


def last_rows(table: Tensor, rows: int) -> Tensor:
    """Those of a table's last `rows` rows that lie on this rank, as a view of it."""
    numbers = own_share(torch.arange(len(table)), table)
    count = int((numbers >= len(table) - rows).sum())
    local = table.to_local() if isinstance(table, DTensor) else table
    return local.detach()[len(local) - count :]

"""Low-rank adapters, with the rows of new tokens trained in full as a block of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from codecria.common.random import draw_bits

if TYPE_CHECKING:
    from codecria.model.transformer import Transformer
    from codecria.training.recipe import LoraRecipe


class LoraLinear(nn.Module):
    """A frozen linear layer plus scale · up(down(x)); `up` begins at zero, so the model begins unchanged."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(base.weight.detach(), requires_grad=False)
        source = torch.Generator().manual_seed(seed)
        down = torch.randn(rank, base.in_features, generator=source) / base.in_features**0.5
        self.lora_down = nn.Parameter(down.to(base.weight.device))
        self.lora_up = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        return F.linear(x, self.weight) + self.scale * F.linear(F.linear(x, self.lora_down), self.lora_up)

    def merged(self) -> Tensor:
        """The weight of the plain layer that computes the same."""
        return self.weight + self.scale * self.lora_up @ self.lora_down


class RowBlock(nn.Module):
    """A table whose last rows are a trainable block; the rest is frozen."""

    def __init__(self, table: Tensor, rows: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(table[len(table) - rows :].detach().clone())

    def forward(self, table: Tensor) -> Tensor:
        """The whole table, its last rows from the block."""
        return torch.cat([table[: len(table) - len(self.rows)], self.rows])


def add_lora(model: Transformer, recipe: LoraRecipe, new_rows: int, seed: int) -> None:
    """Freeze the model, put an adapter on every target layer, and free the last `new_rows` rows of the tables."""
    model.requires_grad_(False)
    for name, module in list(model.named_modules()):
        for child_name, child in list(module.named_children()):
            if child_name in recipe.targets and isinstance(child, nn.Linear):
                own_seed = draw_bits(seed, "lora", f"{name}.{child_name}") >> 1
                setattr(module, child_name, LoraLinear(child, recipe.rank, recipe.alpha, own_seed))
    if new_rows:
        for table in tables(model):
            parametrize.register_parametrization(table, "weight", RowBlock(table.weight, new_rows), unsafe=True)
            table.parametrizations.weight.original.requires_grad_(False)  # pyright: ignore


def tables(model: Transformer) -> list[nn.Embedding | nn.Linear]:
    """The modules that hold a row for each token: the embedding, and the head unless tied."""
    return [model.model.embed_tokens] if model.lm_head is None else [model.model.embed_tokens, model.lm_head]


def plain_weights(model: Transformer) -> dict[str, Tensor]:
    """The weights under a plain model's names, adapters merged in."""
    weights: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, LoraLinear):
            weights[f"{prefix}weight"] = module.merged().detach()
        elif isinstance(getattr(module, "weight", None), Tensor):
            weights[f"{prefix}weight"] = module.weight.detach()  # pyright: ignore
    return weights

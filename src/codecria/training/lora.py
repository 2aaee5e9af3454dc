"""Low-rank adapters, with the rows of new tokens trained in full as a block of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.nn.utils import parametrize

from codecria.common.random import draw_bits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from codecria.model.transformer import Transformer
    from codecria.training.recipe import LoraRecipe


ORIGINAL_TABLE = "parametrizations.weight.original"
NEW_ROWS = "parametrizations.weight.0.rows"
"""What `weight` of a table is split into: the frozen table, and the trainable block of its last rows."""


class LoraLinear(nn.Module):
    """A frozen linear layer plus scale · up(down(x)); `up` begins at zero, so the model begins unchanged."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        device = base.weight.device
        self.weight = nn.Parameter(base.weight.detach(), requires_grad=False)
        self.lora_down = nn.Parameter(torch.zeros(rank, base.in_features, device=device))
        self.lora_up = nn.Parameter(torch.zeros(base.out_features, rank, device=device))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        return F.linear(x, self.weight) + self.scale * F.linear(F.linear(x, self.lora_down), self.lora_up)


def merged(weight_OI: Tensor, down_RI: Tensor, up_OR: Tensor, scale: float) -> Tensor:
    """The weight of the plain layer that computes the same."""
    return weight_OI + scale * up_OR @ down_RI


def initial_adapter(name: str, base_shape: Sequence[int], recipe: LoraRecipe, seed: int) -> Tensor:
    """What `lora_down` (normal, 1 / sqrt(in)) and `lora_up` (zeros) begin with: a function of seed and name."""
    layer, _, part = name.rpartition(".")
    out_features, in_features = base_shape
    if part == "lora_up":
        return torch.zeros(out_features, recipe.rank)
    source = torch.Generator().manual_seed(draw_bits(seed, "lora", layer) >> 1)
    return torch.randn(recipe.rank, in_features, generator=source) / in_features**0.5


class RowBlock(nn.Module):
    """A table whose last rows are a trainable block; the rest is frozen.

    Args:
        table: the whole of it.
        rows: how many are in the block.
        only: the one row of the block that has a gradient other than zero; all of them when None.
    """

    def __init__(self, table: Tensor, rows: int, only: int | None = None) -> None:
        super().__init__()
        self.rows = nn.Parameter(table[len(table) - rows :].detach().clone())
        self._only = only

    def forward(self, table: Tensor) -> Tensor:
        """The whole table, its last rows from the block."""
        rows = self.rows
        if self._only is not None:
            first, stop = self._only, self._only + 1
            rows = torch.cat([rows[:first].detach(), rows[first:stop], rows[stop:].detach()])
        return torch.cat([table[: len(table) - len(rows)], rows])


def add_lora(model: Transformer, recipe: LoraRecipe, new_rows: int, end_row: int = 0) -> None:
    """Freeze the model, put an adapter on every target layer, and free the last `new_rows` rows of the tables.

    `lora_down` is left at zero: `initial_adapter` gives its values.

    Args:
        model: its linear layers are replaced, its tables parametrised.
        recipe: rank, targets, and what of it all is trained.
        new_rows: at the end of each table.
        end_row: which of them is the end marker's; looked at where it alone is trained.
    """
    alone = recipe.trains == "end_row"
    model.requires_grad_(False)
    for _, module in list(model.named_modules()):
        for child_name, child in list(module.named_children()):
            if child_name in recipe.targets and isinstance(child, nn.Linear):
                setattr(module, child_name, LoraLinear(child, recipe.rank, recipe.alpha))
    if alone:
        model.requires_grad_(False)
    if new_rows:
        for table in tables(model):
            block = RowBlock(table.weight, new_rows, end_row if alone else None)
            parametrize.register_parametrization(table, "weight", block, unsafe=True)
            table.parametrizations.weight.original.requires_grad_(False)  # pyright: ignore
        if alone and model.lm_head is not None:
            # An embedding of its own is no output: nothing reads the end marker's row there.
            model.model.embed_tokens.requires_grad_(False)


def tables(model: Transformer) -> list[nn.Embedding | nn.Linear]:
    """The modules that hold a row for each token: the embedding, and the head unless tied."""
    return [model.model.embed_tokens] if model.lm_head is None else [model.model.embed_tokens, model.lm_head]


def row_tables(model: Transformer) -> list[nn.Parameter]:
    """The parameters that hold a row for each token."""
    return [table.weight for table in tables(model)]  # pyright: ignore[reportReturnType]


def plain_weights(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """The weights under a plain model's names, adapters merged in, one at a time and whole.

    Of a sharded model every rank must go through all of them: each tensor is gathered when its turn comes.
    """
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, LoraLinear):
            weight, down, up = whole(module.weight), whole(module.lora_down), whole(module.lora_up)
            yield f"{prefix}weight", merged(weight, down, up, module.scale)
        elif parametrize.is_parametrized(module, "weight"):
            table = whole(module.parametrizations.weight.original)  # pyright: ignore
            rows = whole(module.parametrizations.weight[0].rows)  # pyright: ignore
            yield f"{prefix}weight", torch.cat([table[: len(table) - len(rows)], rows])
        elif isinstance(getattr(module, "weight", None), Tensor):
            yield f"{prefix}weight", whole(module.weight)  # pyright: ignore[reportArgumentType]


def whole(tensor: Tensor) -> Tensor:
    """A tensor without gradient, gathered from all ranks where it is sharded."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_share(whole: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that lies on this rank when it is split as `like` is; nothing is sent.

    The last mesh axis, tensor parallelism, cuts first; FSDP cuts what that left.
    """
    if not isinstance(like, DTensor):
        return whole
    mesh = like.device_mesh
    for axis in reversed(range(mesh.ndim)):
        placement = like.placements[axis]
        if not placement.is_replicate():
            dim: int = placement.dim  # pyright: ignore
            parts, rank = whole.chunk(mesh.size(axis), dim), mesh.get_local_rank(axis)
            whole = parts[rank] if rank < len(parts) else whole.narrow(dim, 0, 0)
    return whole

"""One optimiser step: the gradient of a batch, then AdamW's change.

A step's loss is the sum over all its target tokens divided by their whole weight (law 5), however the batch is cut into
micro-batches and spread over ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from codecria.batches.loader import KINDS_OF_TOKENS
from codecria.model.precision import compute_dtype
from codecria.training.context_parallel import ContextShards
from codecria.training.parallel import accumulate, clip_gradient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.batches.loader import Sequence as Row
    from codecria.model.transformer import Transformer
    from codecria.training.optimiser import FasterRows
    from codecria.training.parallel import World
    from codecria.training.recipe import TrainRecipe

_KINDS = len(KINDS_OF_TOKENS)


@dataclass(frozen=True)
class StepFigures:
    """What one step measured, over all ranks. Losses are nats a target token, means over the step.

    Attributes:
        loss: of all targets.
        loss_by_kind: by kind of token (`plain`, `context`, `psm`, `spm`); only kinds that carried loss.
        loss_by_source: by source of the documents.
        gradient_norm: before clipping.
        target_weight: summed loss weight.
        tokens: in the step, targets or not.
        forms: pieces by how they were rendered.
    """

    loss: float
    loss_by_kind: dict[str, float]
    loss_by_source: dict[str, float]
    gradient_norm: float
    target_weight: float
    tokens: int
    forms: dict[str, int]

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are numbers."""
        return bool(np.isfinite(self.loss) and np.isfinite(self.gradient_norm))


@dataclass(frozen=True)
class MicroBatch:
    """Rows laid end to end as one: attention stops at documents, so nothing is padded but the end.

    Shapes [1, L], or where context parallelism spreads the row over ranks, this rank's part of it.

    Attributes:
        ids: int64.
        targets: int64, the id after each token; 0 where there is none.
        weights: float32, loss weight of each target.
        kinds: uint8, kind of each target; an index of KINDS_OF_TOKENS.
        sources: int64, number of each token's source.
        documents: lengths of the packed documents in the whole row, padding as one of its own.
        rows: lengths of the sequences laid end to end, padding as one of its own.
        shards: which part of the row is here; all of it when None.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    kinds: torch.Tensor
    sources: torch.Tensor
    documents: list[int]
    rows: list[int]
    shards: ContextShards | None = None


def lay_out(rows: Sequence[Row], sources: Sequence[str], multiple: int, device: torch.device) -> MicroBatch:
    """Rows as one row whose length is a multiple of `multiple`."""
    documents = [length for row in rows for length in row.lengths]
    padding = -sum(documents) % multiple
    padded = [padding] if padding else []

    def joined(arrays: list[np.ndarray], shift: int) -> torch.Tensor:
        values = np.concatenate([*arrays, np.zeros(padding + shift, dtype=arrays[0].dtype)])[shift:]
        return torch.from_numpy(values)[None].to(device)

    of_source = [np.full(len(row.ids), sources.index(row.source), dtype=np.int64) for row in rows]
    return MicroBatch(
        ids=joined([row.ids for row in rows], 0),
        targets=joined([row.ids for row in rows], 1),
        weights=joined([row.weights for row in rows], 1),
        kinds=joined([row.kinds for row in rows], 1),
        sources=joined(of_source, 1),
        documents=[*documents, *padded],
        rows=[*(len(row.ids) for row in rows), *padded],
    )


def own_part(micro: MicroBatch, world: World) -> MicroBatch:
    """What this rank has of a micro-batch: all of it, but where context parallelism spreads each row over ranks."""
    if world.mesh is None or world.context_ranks == 1:
        return micro
    group = world.mesh["context"].get_group()
    shards = ContextShards(sum(micro.documents), world.context_rank, world.context_ranks, group)
    return replace(
        micro,
        ids=shards.take(micro.ids),
        targets=shards.take(micro.targets),
        weights=shards.take(micro.weights),
        kinds=shards.take(micro.kinds),
        sources=shards.take(micro.sources),
        shards=shards,
    )


def row_multiple(recipe: TrainRecipe, world: World) -> int:
    """What a micro-batch's length must be a multiple of: on a GPU its whole room, so that kernels compile once."""
    if world.device.type != "cuda":
        return world.length_multiple
    return math.lcm(recipe.sequences_per_micro_batch * recipe.batches.sequence_tokens, world.length_multiple)


def take_gradient(
    model: Transformer,
    parameters: Sequence[torch.Tensor],
    batch: list[Row],
    recipe: TrainRecipe,
    world: World,
    sources: Sequence[str],
) -> StepFigures:
    """Forward and backward over this rank's share of a step's sequences; the gradient is clipped and not yet used.

    Args:
        model: its parameters' gradients are empty.
        parameters: those that are trained.
        batch: this rank's rows.
        recipe: the stage.
        world: this rank among all.
        sources: names of all sources, the same on every rank.
    """
    device = world.device
    counted = batch if world.context_rank == 0 else []  # ranks that share sequences count them once
    weight = torch.tensor(float(sum(float(row.weights.sum()) for row in counted)), dtype=torch.float64, device=device)
    weight = max(world.add_up(weight).item(), 1.0)
    sums = torch.zeros(2, len(sources), _KINDS, dtype=torch.float64, device=device)
    size = recipe.sequences_per_micro_batch
    for first in range(0, len(batch), size):
        micro = own_part(lay_out(batch[first : first + size], sources, row_multiple(recipe, world), device), world)
        with accumulate(model, reduce=recipe.parallel.reduce_each_micro_batch or first + size >= len(batch)):
            total, losses = forward(model, micro, recipe, world)
            (total / weight).backward()
        add_losses(sums, micro, losses)
    norm = clip_gradient(parameters, recipe.optimiser.clip_norm)
    return _figures(world.add_up(sums).cpu().numpy(), sources, norm, counted, world)


def forward(
    model: Transformer, micro: MicroBatch, recipe: TrainRecipe, world: World
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed loss of a micro-batch, and the loss of each target whose weight is not 0, in order."""
    dtype = compute_dtype(recipe.precision, world.device)
    frozen = recipe.lora is not None and recipe.lora.states_frozen
    documents = [micro.documents if recipe.document_attention else micro.rows]
    with torch.autocast(world.device.type, dtype, enabled=dtype != torch.float32):
        if micro.shards is None:
            return model.loss(micro.ids, micro.targets, micro.weights, documents=documents, states_frozen=frozen)
        positions = micro.shards.positions(documents, world.device)
        packed = micro.shards.attention(documents, world.device)
        return model.loss(
            micro.ids, micro.targets, micro.weights, positions_BL=positions, packed=packed, states_frozen=frozen
        )


def take_step(optimiser: torch.optim.Optimizer, faster: FasterRows, rate: float) -> None:
    """Change the parameters by the gradient they hold, and empty it.

    Args:
        optimiser: its groups' `factor`, where they have one, multiplies the rate.
        faster: rows with a rate of their own.
        rate: the step's learning rate.
    """
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
    faster.before_step()
    optimiser.step()
    faster.after_step()
    optimiser.zero_grad(set_to_none=True)


def pass_over(optimiser: torch.optim.Optimizer, faster: FasterRows) -> None:
    """Take a step without a gradient and at rate 0: no parameter changes, the moments fade and the step is counted."""
    for group in optimiser.param_groups:
        for each in group["params"]:
            each.grad.zero_()
    take_step(optimiser, faster, 0.0)


def add_losses(sums: torch.Tensor, micro: MicroBatch, losses: torch.Tensor) -> None:
    """Add what `forward` gave for each target of a micro-batch to `sums` [2, sources, kinds]: losses and weights."""
    chosen = micro.weights > 0
    weights = micro.weights[chosen].double()
    cells = micro.sources[chosen] * _KINDS + micro.kinds[chosen].long()
    sums[0].view(-1).index_add_(0, cells, losses.double() * weights)
    sums[1].view(-1).index_add_(0, cells, weights)


def _figures(sums: np.ndarray, sources: Sequence[str], norm: float, batch: list[Row], world: World) -> StepFigures:
    losses, weights = sums
    forms: dict[str, int] = {}
    for row in batch:
        for form, count in row.forms.items():
            forms[form] = forms.get(form, 0) + count
    names = sorted(("plain", "psm", "spm", "outgrown"))
    counts = torch.tensor([sum(len(row.ids) for row in batch), *(forms.get(name, 0) for name in names)])
    tokens, *pieces = world.add_up(counts.double().to(world.device)).long().tolist()

    def means(axis: int, labels: Sequence[str]) -> dict[str, float]:
        loss, weight = losses.sum(axis=axis), weights.sum(axis=axis)
        return {label: loss[i] / weight[i] for i, label in enumerate(labels) if weight[i]}

    return StepFigures(
        loss=losses.sum() / max(weights.sum(), 1.0),
        loss_by_kind=means(0, KINDS_OF_TOKENS),
        loss_by_source=means(1, sources),
        gradient_norm=norm,
        target_weight=float(weights.sum()),
        tokens=tokens,
        forms={name: count for name, count in zip(names, pieces, strict=True) if count},
    )

"""All ranks of a run, and this one among them: who reads which sequences, who shares a weight, and sums over all."""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from codecria.common.errors import CodecriaError
from codecria.model.precision import pick_device

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor
    from torch.distributed.device_mesh import DeviceMesh

    from codecria.training.recipe import ParallelRecipe

_PATIENCE = timedelta(hours=6)
"""How long ranks wait for one another: the first packs the corpus meanwhile."""


@dataclass(frozen=True)
class World:
    """One process among all of a run.

    Attributes:
        device: where this rank computes.
        rank: its number among all; 0 writes what is written once.
        size: number of ranks.
        data_rank: which share of each step's sequences it takes, of `data_ranks`.
        data_ranks: replicate · shard: copies of the model that read different sequences.
        context_rank: which part of each sequence it takes, of `context_ranks`.
        context_ranks: ranks that share a sequence.
        length_multiple: what a micro-batch's tokens must be a multiple of.
        mesh: the ranks by what they share: axes `replicate`, `shard`, `context`, `tensor`; None when alone.
        weight_mesh: the same ranks as weights lie on them: axes `replicate`, `shard` (those of a sequence's ranks
            too, whose gradients add up as well), `tensor`.
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    data_rank: int = 0
    data_ranks: int = 1
    context_rank: int = 0
    context_ranks: int = 1
    length_multiple: int = 1
    mesh: DeviceMesh | None = None
    weight_mesh: DeviceMesh | None = None

    @property
    def first(self) -> bool:
        """Whether this rank writes what is written once."""
        return self.rank == 0

    def add_up(self, values: Tensor) -> Tensor:
        """The sum over all ranks that read different tokens; the same number on every rank."""
        if self.mesh is None:
            return values
        total = values.clone() if self.mesh.get_local_rank("tensor") == 0 else torch.zeros_like(values)
        dist.all_reduce(total)
        return total

    def any(self, value: bool) -> bool:
        """Whether it is true on any rank."""
        if self.mesh is None:
            return value
        flag = torch.tensor(int(value), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.mesh is not None:
            dist.barrier()


@contextlib.contextmanager
def open_world(recipe: ParallelRecipe, device: str = "auto") -> Generator[World]:
    """Join the other ranks that `torchrun` started (NCCL on GPUs, Gloo on CPUs), or be alone.

    Raises:
        CodecriaError: the recipe's degrees do not multiply to the number of ranks.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    replicate, shard, context, tensor = _degrees(recipe, size)
    place = pick_device(device)
    if size == 1:
        yield World(place)
        return
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    # Gloo beside NCCL carries tensors on the CPU: saved states.
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE, device_id=place if place.type == "cuda" else None)
    try:
        names = ("replicate", "shard", "context", "tensor")
        mesh = init_device_mesh(place.type, (replicate, shard, context, tensor), mesh_dim_names=names)
        yield World(
            place,
            rank=dist.get_rank(),
            size=size,
            data_rank=mesh.get_local_rank("replicate") * shard + mesh.get_local_rank("shard"),
            data_ranks=replicate * shard,
            context_rank=mesh.get_local_rank("context"),
            context_ranks=context,
            length_multiple=tensor * (2 * context if context > 1 else 1),
            mesh=mesh,
            weight_mesh=init_device_mesh(
                place.type, (replicate, shard * context, tensor), mesh_dim_names=("replicate", "shard", "tensor")
            ),
        )
    finally:
        dist.destroy_process_group()


def _degrees(recipe: ParallelRecipe, size: int) -> tuple[int, int, int, int]:
    others = recipe.replicate * recipe.context * recipe.tensor
    degrees = (recipe.replicate, recipe.shard or max(size // others, 1), recipe.context, recipe.tensor)
    ranks = math.prod(degrees)
    if ranks != size:
        raise CodecriaError(
            f"replicate {degrees[0]} · shard {degrees[1]} · context {degrees[2]} · tensor {degrees[3]} make "
            f"{ranks} ranks, but {size} {'runs' if size == 1 else 'run'}",
            where="parallel",
            mend=f"start the stage with torchrun --nproc-per-node {ranks}, or change the degrees",
        )
    return degrees

"""A stage spread over ranks, from outside the model, in one fixed order: tensor, recompute, compile, shard."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from codecria.model.precision import pick_device

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from codecria.model.transformer import Transformer
    from codecria.training.recipe import ParallelRecipe, TrainRecipe
    from codecria.training.start import Start


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
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    data_rank: int = 0
    data_ranks: int = 1
    context_rank: int = 0
    context_ranks: int = 1
    length_multiple: int = 1

    @property
    def first(self) -> bool:
        """Whether this rank writes what is written once."""
        return self.rank == 0

    def add_up(self, values: Tensor) -> Tensor:
        """The sum over all ranks that read different tokens; the same number on every rank."""
        return values

    def any(self, value: bool) -> bool:
        """Whether it is true on any rank."""
        return value

    def barrier(self) -> None:
        """Wait for all ranks."""


@contextlib.contextmanager
def open_world(recipe: ParallelRecipe, device: str = "auto") -> Generator[World]:
    """Join the other ranks that `torchrun` started, or be alone.

    Raises:
        CodecriaError: the recipe's degrees do not multiply to the number of ranks.
    """
    del recipe
    yield World(pick_device(device))


def make_model(start: Start, recipe: TrainRecipe, world: World) -> Transformer:
    """The stage's model on this rank, split as the recipe says, filled with its initial weights."""
    del recipe
    return start.model(world.device)


@contextlib.contextmanager
def accumulate(model: nn.Module, last: bool) -> Generator[None]:
    """A micro-batch's backward pass: gradients are summed over ranks only at the last one."""
    del model, last
    yield


def clip_gradient(parameters: Iterable[Tensor], clip_norm: float) -> float:
    """Scale the gradient down to `clip_norm` where it is longer; returns its norm before."""
    return torch.nn.utils.clip_grad_norm_(list(parameters), clip_norm).item()

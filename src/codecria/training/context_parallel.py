"""Context parallelism: the ranks of a group share each row, keys and values gathered, as Llama 3 was trained.

A row is cut into 2 · ranks chunks; a rank takes one from the head and its mirror from the tail, so that all have the
same number of causal products. Each layer gathers the keys and values of the whole row, which are small where heads are
grouped, and each query sees those before it in its own document. With documents as masks this works for any packing,
on any backend; the ring that hides the transfer is not built.

Shapes: B rows, L tokens of a row, l tokens of it here, H query heads, G key-value heads, K head_dim.

Source: Llama 3 (arXiv 2407.21783), section 3.3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

from codecria.model.documents import document_attention
from codecria.model.transformer import default_positions

if TYPE_CHECKING:
    from codecria.model.documents import PackedAttention


@dataclass(frozen=True)
class ContextShards:
    """Which tokens of a row lie on which rank.

    Attributes:
        length: L, a multiple of 2 · ranks.
        rank: this one, in the group.
        ranks: how many share the row.
        group: their process group; None for all ranks.
    """

    length: int
    rank: int
    ranks: int
    group: distributed.ProcessGroup | None = None

    def chunks(self, rank: int) -> list[range]:
        """The two parts of the row that lie on a rank, ascending."""
        size = self.length // (2 * self.ranks)
        head, tail = rank * size, self.length - (rank + 1) * size
        return [range(head, head + size), range(tail, tail + size)]

    def take(self, row: Tensor, rank: int | None = None, dim: int = 1) -> Tensor:
        """A rank's part, this one's by default, of a tensor with the whole row in dimension `dim`."""
        chunks = self.chunks(self.rank if rank is None else rank)
        return torch.cat([row.narrow(dim, chunk.start, len(chunk)) for chunk in chunks], dim)

    def join(self, parts: list[Tensor], dim: int = 1) -> Tensor:
        """The whole row from the parts of all ranks, in their order."""
        heads, tails = zip(*(part.chunk(2, dim) for part in parts), strict=True)
        return torch.cat([*heads, *reversed(tails)], dim)

    def positions(self, documents: list[list[int]], device: torch.device) -> Tensor:
        """Position of each token here in its document: int64 [B, l]."""
        whole = torch.empty(len(documents), self.length, device=device)
        return self.take(default_positions(whole, documents))

    def attention(self, documents: list[list[int]], device: torch.device) -> PackedAttention:
        """How the queries here take from the keys and values of all ranks.

        Args:
            documents: for each whole row the lengths of the documents packed in it.
            device: of the queries.
        """
        return _GatheredAttention(self, document_attention(documents, device, self.chunks(self.rank)))


class _GatheredAttention:
    def __init__(self, shards: ContextShards, attention: PackedAttention) -> None:
        self._shards, self._attention = shards, attention

    def __call__(self, q_BHlK: Tensor, k_BGlK: Tensor, v_BGlK: Tensor, /) -> Tensor:
        """What each query here takes: [B, H, l, K]."""
        k_BGLK, v_BGLK = _gather(torch.stack((k_BGlK, v_BGlK)), self._shards)  # pyright: ignore[reportCallIssue]
        return self._attention(q_BHlK, k_BGLK, v_BGLK)


@torch.compiler.disable
def _gather(part: Tensor, shards: ContextShards) -> Tensor:
    return _GatherRow.apply(part, shards)  # pyright: ignore[reportReturnType]


class _GatherRow(torch.autograd.Function):
    """Parts [..., l, K] to the row [..., L, K]; the gradient of a part is summed over the ranks that used it."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, shards: ContextShards) -> Tensor:
        ctx.shards = shards
        parts = [torch.empty_like(part) for _ in range(shards.ranks)]
        distributed.all_gather(parts, part.contiguous(), group=shards.group)
        return shards.join(parts, dim=-2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        shards: ContextShards = ctx.shards
        parts = [shards.take(grads[0], rank, dim=-2) for rank in range(shards.ranks)]
        summed = torch.empty_like(parts[0])
        distributed.reduce_scatter(summed, parts, group=shards.group)
        return summed, None

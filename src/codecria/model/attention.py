"""Grouped-query attention: over one causal sequence, over packed documents, or with a key-value cache.

Shapes: B rows, L tokens of this call, D width, H query heads, G key-value heads, K head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from codecria.model.documents import causal_attention
from codecria.model.products import project
from codecria.model.rotary import apply_rotary

if TYPE_CHECKING:
    from codecria.model.config import ModelConfig
    from codecria.model.documents import PackedAttention


class KeyValueCache(Protocol):
    """Keys and values of earlier tokens. How they lie in memory, and so how they are attended, is the engine's."""

    def attend(self, layer: int, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor) -> Tensor:
        """Store this call's keys and values of one layer; what its queries take from all that they may see.

        Both are turned already. Returns [B, H, L, K].
        """
        ...


@dataclass(frozen=True)
class AttentionPlan:
    """How this forward pass attends; made once, used by every layer."""

    cos_B1LK: Tensor
    sin_B1LK: Tensor
    packed: PackedAttention | None = None
    """How documents packed in one row attend, each only to itself; None where there is one sequence a row."""
    cache: KeyValueCache | None = None


class Attention(nn.Module):
    """Causal self-attention with rotary positions. Module names are Hugging Face's, so that weights keep theirs."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.groups = config.num_heads // config.num_kv_heads
        self.q_proj = nn.Linear(config.hidden_size, config.num_heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, config.num_kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, config.num_kv_heads * config.head_dim, bias=False)
        self.o_proj = nn.Linear(config.num_heads * config.head_dim, config.hidden_size, bias=False)

    def forward(self, x_BLD: Tensor, plan: AttentionPlan) -> Tensor:
        """[B, L, D] in, [B, L, D] out."""
        q_BHLK = apply_rotary(self._heads(project(self.q_proj, x_BLD)), plan.cos_B1LK, plan.sin_B1LK)
        k_BGLK = apply_rotary(self._heads(project(self.k_proj, x_BLD)), plan.cos_B1LK, plan.sin_B1LK)
        v_BGLK = self._heads(project(self.v_proj, x_BLD))
        return project(self.o_proj, self.attend(q_BHLK, k_BGLK, v_BGLK, plan))

    def attend(self, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, plan: AttentionPlan) -> Tensor:
        """What turned queries take from turned keys and values, heads side by side: [B, L, H · K]."""
        if plan.cache is not None:
            y_BHLK = plan.cache.attend(self.layer, q_BHLK, k_BGLK, v_BGLK)
        elif plan.packed is not None:
            y_BHLK = plan.packed(q_BHLK, k_BGLK, v_BGLK)
        else:
            y_BHLK = self._attend(q_BHLK, k_BGLK, v_BGLK)
        return y_BHLK.transpose(1, 2).flatten(2)

    def _heads(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _attend(self, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor) -> Tensor:
        return causal_attention(q_BHLK, k_BGLK, v_BGLK)

"""Grouped-query attention: over one causal sequence, over packed documents, or with a key-value cache.

Shapes: B rows, L tokens of this call, S tokens of the cache, D width, H query heads, G key-value heads, K head_dim,
Q queries that share keys: L of each of the H / G heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codecria.model.documents import causal_attention
from codecria.model.products import project
from codecria.model.rotary import apply_rotary

if TYPE_CHECKING:
    from codecria.model.config import ModelConfig
    from codecria.model.documents import PackedAttention


class KeyValueCache(Protocol):
    """Keys and values of earlier tokens. The engine owns the memory; attention only stores and reads."""

    def update(self, layer: int, k_BGLK: Tensor, v_BGLK: Tensor) -> tuple[Tensor, Tensor]:
        """Store this call's keys and values of one layer; return all that is to be attended: [B, G, S, K] each."""
        ...

    def mask(self, positions_BL: Tensor) -> Tensor | None:
        """Which slots each query may see, boolean [B, 1, L, S]; None when plain causal attention says the same."""
        ...


@dataclass(frozen=True)
class AttentionPlan:
    """How this forward pass attends; made once, used by every layer."""

    cos_B1LK: Tensor
    sin_B1LK: Tensor
    packed: PackedAttention | None = None
    """How documents packed in one row attend, each only to itself; None where there is one sequence a row."""
    cache: KeyValueCache | None = None
    mask_B1QS: Tensor | None = None
    """Added to the scores of the cached slots, from `grouped_mask`."""


def grouped_mask(mask_B1LS: Tensor | None, groups: int, dtype: torch.dtype) -> Tensor | None:
    """A cache's boolean mask as scores to add, once for each of the `groups` heads that share keys: [B, 1, Q, S]."""
    if mask_B1LS is None:
        return None
    scores = torch.zeros(mask_B1LS.shape, dtype=dtype, device=mask_B1LS.device).masked_fill_(~mask_B1LS, -torch.inf)
    return scores.repeat(1, 1, groups, 1)


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
            k_BGLK, v_BGLK = plan.cache.update(self.layer, k_BGLK, v_BGLK)
        if plan.packed is not None:
            y_BHLK = plan.packed(q_BHLK, k_BGLK, v_BGLK)
        elif plan.cache is not None and (plan.mask_B1QS is not None or q_BHLK.shape[2] == 1):
            y_BHLK = self._attend_cached(q_BHLK, k_BGLK, v_BGLK, plan.mask_B1QS)
        else:
            y_BHLK = self._attend(q_BHLK, k_BGLK, v_BGLK)
        return y_BHLK.transpose(1, 2).flatten(2)

    def _heads(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _attend(self, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor) -> Tensor:
        return causal_attention(q_BHLK, k_BGLK, v_BGLK)

    def _attend_cached(self, q_BHLK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask_B1QS: Tensor | None) -> Tensor:
        # The heads that share keys become queries of one head (Q = groups · L), so that no key is copied.
        rows, heads, tokens, width = q_BHLK.shape
        q_BGQK = q_BHLK.reshape(rows, -1, self.groups * tokens, width)
        y_BGQK = F.scaled_dot_product_attention(q_BGQK, k_BGSK, v_BGSK, attn_mask=mask_B1QS)
        return y_BGQK.reshape(rows, heads, tokens, width)

"""Attention over documents packed in one row: block-diagonal and causal, so that no document sees another.

Shapes: B rows, L tokens, H query heads, G key-value heads, K head_dim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

_SHORT_DOCUMENT = 1024


class PackedAttention(Protocol):
    """How the queries of a packed row take from its keys and values; made once a forward pass, used by every layer."""

    def __call__(self, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor) -> Tensor:
        """What each query takes: [B, H, L, K]."""
        ...


class DocumentAttention:
    """Each document on its own: exact, on any device, and the only one with a backward pass on a CPU.

    Args:
        documents: for each row the lengths of the documents packed in it; their sum is L.
    """

    def __init__(self, documents: list[list[int]]) -> None:
        self._documents = documents

    def __call__(self, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor) -> Tensor:
        """See `PackedAttention`."""
        rows: list[Tensor] = []
        for row, lengths in enumerate(self._documents):
            pieces = zip(
                q_BHLK[row : row + 1].split(lengths, dim=2),
                k_BGLK[row : row + 1].split(lengths, dim=2),
                v_BGLK[row : row + 1].split(lengths, dim=2),
                strict=True,
            )
            rows.append(torch.cat([_attend_document(q, k, v) for q, k, v in pieces], dim=2))
        return torch.cat(rows, dim=0)


def document_attention(documents: list[list[int]], device: torch.device) -> PackedAttention:
    """The fastest way for a device to attend within packed documents."""
    del device
    return DocumentAttention(documents)


def causal_attention(q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor) -> Tensor:
    """Plain causal attention of whole rows: [B, H, L, K]."""
    # Repeating the groups costs less than the grouped kernel, which on a CPU falls back to plain matrix products.
    groups = q_BHLK.shape[1] // k_BGLK.shape[1]
    k_BHLK = k_BGLK.repeat_interleave(groups, dim=1)
    v_BHLK = v_BGLK.repeat_interleave(groups, dim=1)
    return F.scaled_dot_product_attention(q_BHLK, k_BHLK, v_BHLK, is_causal=True)


def _attend_document(q_1HLK: Tensor, k_1GLK: Tensor, v_1GLK: Tensor) -> Tensor:
    """One document. Short ones in bfloat16 on a CPU go through plain products: 3 times as fast at 400 tokens.

    The fused kernel there computes in float32; the plain one rounds the scores to bfloat16, as eager attention
    does everywhere.
    """
    tokens, width = q_1HLK.shape[2:]
    if q_1HLK.dtype != torch.bfloat16 or q_1HLK.device.type != "cpu" or tokens > _SHORT_DOCUMENT:
        return causal_attention(q_1HLK, k_1GLK, v_1GLK)
    groups = q_1HLK.shape[1] // k_1GLK.shape[1]
    k_HLK = k_1GLK[0].repeat_interleave(groups, dim=0)
    v_HLK = v_1GLK[0].repeat_interleave(groups, dim=0)
    future_LL = torch.full((tokens, tokens), -torch.inf, dtype=q_1HLK.dtype).triu_(1)
    scores_HLL = torch.baddbmm(future_LL, q_1HLK[0], k_HLK.transpose(1, 2), alpha=width**-0.5)
    return torch.bmm(scores_HLL.softmax(dim=-1), v_HLK)[None]

"""Attention over part of the keys, and how parts become the whole.

With the logarithm of the sum of the exponentials of a query's scores over each part, what it takes from all of them is
the mean of what it takes from each, weighted by those sums.

Shapes: B rows, H query heads, G key-value heads, L tokens, Q queries of the heads that share keys (L of each of the
H / G heads), S keys, K head_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there is a fused kernel that tells the sums too. Without it the scores are held as a whole."""
    return device.type == "cpu" and dtype in (torch.float32, torch.bfloat16)


def attend_part(
    q_BGQK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Tensor | None = None, *, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """What each query takes from these keys, [B, G, Q, K], and the log of its scores' summed exponentials, [B, G, Q].

    Args:
        q_BGQK: queries.
        k_BGSK: keys.
        v_BGSK: values.
        mask: added to the scores; in the queries' dtype; broadcast to [B, G, Q, S].
        causal: query i sees keys 0 to i; as many queries as keys.
    """
    if has_kernel(q_BGQK.device, q_BGQK.dtype):
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return kernel(q_BGQK, k_BGSK, v_BGSK, 0.0, causal, attn_mask=mask)
    return attend_plainly(q_BGQK, k_BGSK, v_BGSK, mask, causal=causal)


def attend_plainly(
    q_BGQK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Tensor | None = None, *, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """As `attend_part`, from plain products."""
    scores = ((q_BGQK * q_BGQK.shape[-1] ** -0.5) @ k_BGSK.transpose(-1, -2)).float()
    if mask is not None:
        scores = scores + mask
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu_(1)
        scores = scores.masked_fill_(future, -torch.inf)
    sums_BGQ = scores.logsumexp(dim=-1)
    return (scores - sums_BGQ[..., None]).exp_().to(v_BGSK.dtype) @ v_BGSK, sums_BGQ


def merge(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Two parts as one. Outputs are float32 from here on."""
    (y_BGQK, sums_BGQ), (other_BGQK, other_BGQ) = one, other
    share_BGQ1 = torch.sigmoid(other_BGQ - sums_BGQ)[..., None]
    return y_BGQK.float().lerp(other_BGQK.float(), share_BGQ1), torch.logaddexp(sums_BGQ, other_BGQ)


def fold(q_BHLK: Tensor, kv_heads: int) -> Tensor:
    """The heads that share keys as queries of one head, so that no key is copied: [B, G, Q, K]."""
    rows, _, _, width = q_BHLK.shape
    return q_BHLK.reshape(rows, kv_heads, -1, width)


def attend_own(q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor) -> tuple[Tensor, Tensor]:
    """Causal attention of new tokens among themselves, folded as in `fold`."""
    groups = q_BHLK.shape[1] // k_BGLK.shape[1]
    k_BHLK, v_BHLK = k_BGLK.repeat_interleave(groups, dim=1), v_BGLK.repeat_interleave(groups, dim=1)
    y_BHLK, sums_BHL = attend_part(q_BHLK, k_BHLK, v_BHLK, causal=True)
    rows, kv_heads = k_BGLK.shape[:2]
    return fold(y_BHLK, kv_heads), sums_BHL.reshape(rows, kv_heads, -1)


def attend_whole(q_BGQK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention where all keys lie together."""
    return F.scaled_dot_product_attention(q_BGQK, k_BGSK, v_BGSK, attn_mask=mask)

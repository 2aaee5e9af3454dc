"""Cross-entropy and log-probabilities that never hold the logits of a whole batch.

A 135M model's logits for 16,384 tokens are 3.2 GB in float32; a chunk of 1,024 is 0.2 GB. The gradient of each
chunk is taken while its logits exist, so backward stores [N, D] and [V, D] only.

Shapes: N tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from codecria.model.products import product

CHUNK_TOKENS = 1024


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, weights_N: Tensor, chunk_tokens: int
    ) -> tuple[Tensor, Tensor]:
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        compute = hidden_ND.dtype
        head = head_VD.to(compute)
        losses_N = torch.empty(len(targets_N), dtype=torch.float32, device=hidden_ND.device)
        grad_hidden = torch.empty_like(hidden_ND) if wants_hidden else None
        # Transposed, so that a product transposes a chunk of states and not one of logits.
        grad_head_DV = head_VD.new_zeros(head_VD.shape[::-1], dtype=torch.float32) if wants_head else None
        for start in range(0, len(targets_N), chunk_tokens):
            rows = slice(start, start + chunk_tokens)
            hidden, targets, weights = hidden_ND[rows], targets_N[rows], weights_N[rows]
            logits = product(hidden, head).float()
            log_p = torch.log_softmax(logits, dim=-1, out=logits)
            losses_N[rows] = -log_p.gather(1, targets[:, None]).squeeze(1)
            if not (wants_hidden or wants_head):
                continue
            # The weights multiply the narrow sides of the products, not [chunk, V].
            grad = log_p.exp_()
            grad[torch.arange(len(targets), device=grad.device), targets] -= 1.0
            grad = grad.to(compute)
            weights = weights[:, None].to(compute)
            if grad_hidden is not None:
                grad_hidden[rows] = product(grad, head.T) * weights
            if grad_head_DV is not None:
                grad_head_DV += product((hidden * weights).T, grad.T)
        ctx.save_for_backward(grad_hidden, grad_head_DV)
        ctx.head_dtype = head_VD.dtype
        ctx.mark_non_differentiable(losses_N)
        return (losses_N * weights_N).sum(), losses_N

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        scale = grads[0]
        grad_hidden, grad_head_DV = ctx.saved_tensors
        return (
            None if grad_hidden is None else grad_hidden * scale.to(grad_hidden.dtype),
            None if grad_head_DV is None else (grad_head_DV.T * scale).to(ctx.head_dtype).contiguous(),
            None,
            None,
            None,
        )


def weighted_cross_entropy(
    hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, weights_N: Tensor, chunk_tokens: int = CHUNK_TOKENS
) -> tuple[Tensor, Tensor]:
    """Sum over tokens of weight · (-log p(target)), and each token's -log p(target).

    The caller divides the sum by the global weight (law 5). Rows of weight 0 must be left out by the caller: they
    cost as much as any other. The second value, float32 [N] in nats, carries no gradient.

    Args:
        hidden_ND: states after the final norm; their dtype is the dtype of the matrix products, the softmax is float32.
        head_VD: the head's matrix.
        targets_N: int64 ids.
        weights_N: float32.
        chunk_tokens: rows whose logits exist at a time.
    """
    total, losses = _ChunkedCrossEntropy.apply(hidden_ND, head_VD, targets_N, weights_N, chunk_tokens)  # pyright: ignore
    return total, losses  # pyright: ignore[reportReturnType]


@torch.no_grad()
def token_log_probabilities(
    hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, chunk_tokens: int = CHUNK_TOKENS
) -> Tensor:
    """log p(target) of each token in nats, float32 [N], a chunk of logits at a time."""
    ones = torch.ones(len(targets_N), device=hidden_ND.device)
    return -weighted_cross_entropy(hidden_ND, head_VD, targets_N, ones, chunk_tokens)[1]

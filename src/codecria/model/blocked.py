"""Causal attention over documents from matrix products over blocks of queries: for few CPU cores.

PyTorch's fused kernel there computes a head at a time, in float32 and through MKL. These products go through oneDNN,
the heads that share keys are one, and no document is cut out or put back. Backward computes the probabilities again,
so that memory grows with the tokens.

Shapes: Q queries, L tokens, H query heads, G key-value heads, K head_dim, R rows of scores: a block of queries of each
of H / G heads, S keys that they see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from codecria.model.products import product

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_QUERIES = 128
_FEW_THREADS = 4


class _Block(NamedTuple):
    """A block of queries of the heads that share keys.

    All blocks are of one size but the last of a row, for oneDNN compiles a product for each shape: what a document's
    last block has too many are the next one's queries, whose results are written over and whose gradient is 0.
    """

    group: int
    heads: slice
    rows: slice
    own: int
    keys: slice


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_HQK: Tensor, k_GLK: Tensor, v_GLK: Tensor, spans: Sequence[tuple[int, slice]]) -> Tensor:
        ctx.save_for_backward(q_HQK, k_GLK, v_GLK)
        ctx.spans = spans
        heads, queries, width = q_HQK.shape
        out_HQK = q_HQK.new_empty(queries, heads, width).transpose(0, 1)
        k_GLK, v_GLK = k_GLK.contiguous(), v_GLK.contiguous()
        for group, heads, rows, _, keys in _blocks(spans, q_HQK, k_GLK):
            p_RS = _probabilities(q_HQK[heads, rows], k_GLK[group, keys])
            out_HQK[heads, rows] = product(p_RS, v_GLK[group, keys].T).view_as(out_HQK[heads, rows])
        return out_HQK

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        q_HQK, k_GLK, v_GLK = ctx.saved_tensors
        q_grad_HQK = torch.empty_like(q_HQK)
        # Transposed, so that of the two matrices of a product the narrow one is what oneDNN has to transpose.
        k_grad_GKL, v_grad_GKL = (x.new_zeros(x.transpose(1, 2).shape) for x in (k_GLK, v_GLK))
        k_GLK, v_GLK = k_GLK.contiguous(), v_GLK.contiguous()
        scale = q_HQK.shape[-1] ** -0.5
        for group, heads, rows, own, keys in _blocks(ctx.spans, q_HQK, k_GLK):
            q_RK, out_grad = q_HQK[heads, rows].flatten(0, 1), grads[0][heads, rows].clone()
            out_grad[:, own:] = 0.0
            out_grad_RK = out_grad.flatten(0, 1)
            p_RS = _probabilities(q_HQK[heads, rows], k_GLK[group, keys])
            s_grad_RS = product(out_grad_RK, v_GLK[group, keys])
            s_grad_RS = torch.ops.aten._softmax_backward_data(s_grad_RS, p_RS, -1, p_RS.dtype)
            v_grad_GKL[group, :, keys] += product(out_grad_RK.T, p_RS.T)
            k_grad_GKL[group, :, keys] += product(q_RK.T * scale, s_grad_RS.T)
            q_grad_HQK[heads, rows] = product(s_grad_RS, k_GLK[group, keys].T * scale).view_as(out_grad)
        return q_grad_HQK, k_grad_GKL.transpose(1, 2), v_grad_GKL.transpose(1, 2), None


def _blocks(spans: Sequence[tuple[int, slice]], q_HQK: Tensor, k_GLK: Tensor) -> Iterator[_Block]:
    shared, total = q_HQK.shape[0] // k_GLK.shape[0], q_HQK.shape[1]
    for group in range(k_GLK.shape[0]):
        heads = slice(group * shared, (group + 1) * shared)
        done = 0
        for queries, keys in spans:
            for first in range(done, done + queries, _QUERIES):
                rows = slice(first, min(first + _QUERIES, total))
                seen = slice(keys.start, keys.stop + rows.stop - done - queries)
                yield _Block(group, heads, rows, done + queries - first, seen)
            done += queries


def _probabilities(q_HQK: Tensor, k_SK: Tensor) -> Tensor:
    """Softmax of the scores: the last query sees all keys, each one before it one less."""
    _, queries, width = q_HQK.shape
    scores_RS = product((q_HQK * width**-0.5).flatten(0, 1), k_SK)
    future = torch.ones(queries, queries, dtype=torch.bool).triu_(1)
    scores_RS.unflatten(0, (-1, queries))[..., -queries:].masked_fill_(future, -torch.inf)
    return torch.softmax(scores_RS, dim=-1, out=scores_RS)


def faster_in_blocks(q_HQK: Tensor) -> bool:
    """Whether `blocked_attention` is the faster way: float32 on few threads, which small products keep busy."""
    few = q_HQK.device.type == "cpu" and torch.get_num_threads() <= _FEW_THREADS
    return few and q_HQK.dtype == torch.float32


def blocked_attention(q_HQK: Tensor, k_GLK: Tensor, v_GLK: Tensor, spans: Sequence[tuple[int, slice]]) -> Tensor:
    """What each query takes from the keys of its document up to its own: [H, Q, K].

    Args:
        q_HQK: queries, on a CPU.
        k_GLK: keys of the whole row.
        v_GLK: values of the whole row.
        spans: for neighbouring queries, which are the last ones of some keys: how many, and those keys.
    """
    return _BlockedAttention.apply(q_HQK, k_GLK, v_GLK, spans)  # pyright: ignore[reportReturnType]

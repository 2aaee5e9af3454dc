"""Blocks run with fewer calls, for passes that train nothing.

A step of one token is short: SmolLM2-135M in bfloat16 takes 22 ms of memory traffic on one core, and 4 ms of calls
when every projection is a module of its own. Here queries, keys and values are one product, gate and up another, and
each sum with the stream is part of the product before it.

Shapes: B rows, L tokens, N = B · L, D width, H query heads, G key-value heads, K head_dim.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, nn

from codecria.generation.matrices import Plain
from codecria.model.rotary import apply_rotary
from codecria.model.transformer import Block, RMSNorm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.generation.matrices import Product
    from codecria.model.attention import Attention, AttentionPlan
    from codecria.model.transformer import Transformer


def fuse(model: Transformer) -> Transformer:
    """The same model, on the same weights, with fused blocks; `model` itself keeps running its own.

    Projections of `model` become views of common matrices, so no weight is held twice and a later change in place is
    seen here. A block in which a projection was replaced (an adapter, a quantised layer) runs as it is. Hooks on the
    modules of a fused block are not called.
    """
    with torch.inference_mode(False), torch.no_grad():
        blocks = {id(block): _fused(block) for block in model.model.layers if _is_plain(block)}

    def run_block(block: Block, x_BLD: Tensor, plan: AttentionPlan) -> Tensor:
        return blocks.get(id(block), block)(x_BLD, plan)

    fused = copy.copy(model)
    fused.run_block = run_block
    return fused


def fused_blocks(model: Transformer) -> list[FusedBlock] | None:
    """All layers of a model, if each of them is a fused block or can be one."""
    blocks: list[FusedBlock] = []
    with torch.inference_mode(False), torch.no_grad():
        for block in model.model.layers:
            own = getattr(block, "fused", None) or (_fused(block) if _is_plain(block) else None)
            if own is None:
                return None
            blocks.append(own)
    return blocks


class FusedBlock:
    """One layer, as `model.transformer.Block` computes it, on four products.

    Args:
        attention: attends; its projections are not used.
        norms: before attention and before the feed-forward.
        inward: queries, keys and values, one below the other.
        outward: from the heads back to the stream.
        gate_up: gate and up, one below the other.
        down: from the inner width back to the stream.
    """

    def __init__(
        self,
        attention: Attention,
        norms: tuple[RMSNorm, RMSNorm],
        inward: Product,
        outward: Product,
        gate_up: Product,
        down: Product,
    ) -> None:
        self.products = (inward, outward, gate_up, down)
        self._attention = attention
        self._heads = outward.inputs // attention.head_dim
        self._kv_heads = self._heads // attention.groups
        self.norms = norms

    def __call__(self, x_BLD: Tensor, plan: AttentionPlan) -> Tensor:
        """[B, L, D] in, [B, L, D] out."""
        rows, tokens, width = x_BLD.shape
        inward, outward, gate_up, down = self.products
        x_ND = x_BLD.reshape(-1, width)
        inward_BLhK = inward(x_ND, norm=self.norms[0]).view(rows, tokens, -1, self._attention.head_dim)
        turns = self._heads + self._kv_heads
        turned, v_BGLK = inward_BLhK.transpose(1, 2).split([turns, self._kv_heads], dim=1)
        turned = apply_rotary(turned, plan.cos_B1LK, plan.sin_B1LK)
        q_BHLK, k_BGLK = turned.split([self._heads, self._kv_heads], dim=1)
        attended_BLD = self._attention.attend(q_BHLK, k_BGLK, v_BGLK, plan)
        x_ND = outward(attended_BLD.flatten(0, 1), added_NO=x_ND)
        inner_NE = gate_up(x_ND, norm=self.norms[1])
        return down(inner_NE, gated=True, added_NO=x_ND).view(rows, tokens, width)


def _fused(block: Block) -> FusedBlock:
    """The block on four products; its projections become views of common matrices, unless they are already."""
    attention, feed_forward = block.self_attn, block.mlp
    return FusedBlock(
        attention,
        (block.input_layernorm, block.post_attention_layernorm),
        Plain(_stacked([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])),
        Plain(attention.o_proj.weight.detach()),
        Plain(_stacked([feed_forward.gate_proj.weight, feed_forward.up_proj.weight])),
        Plain(feed_forward.down_proj.weight.detach()),
    )


def _is_plain(block: nn.Module) -> TypeGuard[Block]:
    """Whether a block is the model's own, with every projection a matrix product and nothing else."""
    if type(block) is not Block:
        return False
    attention, feed_forward = block.self_attn, block.mlp
    projections = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    projections += [feed_forward.gate_proj, feed_forward.up_proj, feed_forward.down_proj]
    dtypes = {weight.dtype for weight in block.parameters()}
    return all(type(each) is nn.Linear for each in projections) and len(dtypes) == 1


def _stacked(weights: Sequence[Tensor]) -> Tensor:
    """Matrices one below the other as one matrix. They become views of it, unless they lie so already."""
    sizes = [weight.shape[0] for weight in weights]
    first = weights[0]
    place = first.data_ptr()
    for weight in weights:
        if weight.data_ptr() != place or not weight.is_contiguous() or not _same_memory(weight, first):
            whole = torch.cat([each.detach() for each in weights])
            for each, part in zip(weights, whole.split(sizes), strict=True):
                each.data = part
            return whole
        place += weight.nbytes
    return first.detach().as_strided((sum(sizes), first.shape[1]), (first.shape[1], 1))


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()

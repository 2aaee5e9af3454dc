"""The Llama transformer. Parameter names are Hugging Face's, so a checkpoint's names are this module's names.

Shapes: B rows, L tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codecria.model.attention import Attention, AttentionPlan, KeyValueCache
from codecria.model.documents import document_attention
from codecria.model.loss import weighted_cross_entropy
from codecria.model.products import is_plain, product, project
from codecria.model.rotary import rotary_frequencies, rotary_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from codecria.model.config import ModelConfig
    from codecria.model.documents import PackedAttention


class _RMSNorm(torch.autograd.Function):
    """On a CPU PyTorch has no kernel of its own for it; autograd over its formula keeps three copies of the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = (length.square() / x.shape[-1] + eps).rsqrt_()
        ctx.save_for_backward(x, weight_D, scale)
        return (x * scale).mul_(weight_D)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight_D, scale = ctx.saved_tensors
        aligned = grads[0] * x
        along = (aligned * weight_D).sum(dim=-1, keepdim=True)
        grad_weight = aligned.mul_(scale).flatten(0, -2).sum(dim=0)
        grad_x = (grads[0] * weight_D).addcmul_(x, along * (scale.square() / x.shape[-1]), value=-1.0).mul_(scale)
        return grad_x, grad_weight, None


class RMSNorm(nn.Module):
    """x / rms(x) · weight, computed in float32.

    Returned in the input's dtype, or under autocast in its dtype: the three or two products that follow then share
    one conversion instead of making one each.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] in, [..., D] out."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        if device == "cpu" and type(x) is Tensor and type(self.weight) is nn.Parameter:
            return _RMSNorm.apply(x.float(), self.weight.float(), self.eps).to(dtype)  # pyright: ignore
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight.float(), self.eps).to(dtype)


class _SwiGLU(torch.autograd.Function):
    """silu(gate) · up, of which backward keeps the two inputs alone."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grads[0] * up, gate), F.silu(gate).mul_(grads[0])


class _SwiGLUDown(torch.autograd.Function):
    """The same and the product after it, which then need not keep its input."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up, weight)
        return product(F.silu(gate).mul_(up), weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        gate, up, weight = ctx.saved_tensors
        active = F.silu(gate)
        grad_weight = product(grads[0].T, (active * up).T) if ctx.needs_input_grad[2] else None
        grad = product(grads[0], weight.T)
        return torch.ops.aten.silu_backward(grad * up, gate), active.mul_(grad), grad_weight


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D] in, [B, L, D] out."""
        gate, up = project(self.gate_proj, x_BLD), project(self.up_proj, x_BLD)
        if not is_plain(self.down_proj, gate):
            return self.down_proj(_SwiGLU.apply(gate, up))
        down = _SwiGLUDown.apply(gate.flatten(0, -2), up.flatten(0, -2), self.down_proj.weight)
        return down.unflatten(0, gate.shape[:-1])  # pyright: ignore


class Block(nn.Module):
    """One layer: attention and feed-forward, each on a normalised input, each added to the stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x_BLD: Tensor, plan: AttentionPlan) -> Tensor:
        """[B, L, D] in, [B, L, D] out."""
        x_BLD = x_BLD + self.self_attn(self.input_layernorm(x_BLD), plan)
        return x_BLD + self.mlp(self.post_attention_layernorm(x_BLD))


class Decoder(nn.Module):
    """Embedding, blocks and final norm: what Hugging Face names `model.`"""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)


class Transformer(nn.Module):
    """A Llama model.

    Build it under `torch.device("meta")` to have the shapes without the memory. With a tied head there is no
    `lm_head` module, so the state dict holds the table once.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = None if config.tied_embeddings else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.run_block: Callable[[Block, Tensor, AttentionPlan], Tensor] = lambda block, x, plan: block(x, plan)
        """How a block is run; training replaces it to recompute activations."""

    @property
    def head_weight(self) -> Tensor:
        """The head's matrix [V, D]: the embedding table itself when tied."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def forward(
        self,
        ids_BL: Tensor,
        *,
        positions_BL: Tensor | None = None,
        documents: list[list[int]] | None = None,
        packed: PackedAttention | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, [B, L, D]; `logits` turns them into scores.

        Args:
            ids_BL: token ids.
            positions_BL: each token's position; by default 0, 1, 2 … in each row, and from 0 in each document.
            documents: for each row the lengths of the documents packed in it (their sum is L); a document sees
                only itself.
            packed: how packed documents attend, where `documents` alone does not say it: a mask made before, or
                tokens that lie on several ranks. `positions_BL` must then be given.
            cache: keys and values of earlier tokens; `positions_BL` must then be given.
        """
        if positions_BL is None:
            positions_BL = default_positions(ids_BL, documents)
        frequencies = rotary_frequencies(self.config, ids_BL.device)
        cos, sin = rotary_table(frequencies, positions_BL)
        x_BLD = self.model.embed_tokens(ids_BL)
        if packed is None and documents is not None:
            packed = document_attention(documents, ids_BL.device)
        plan = AttentionPlan(cos, sin, packed, cache)
        for block in self.model.layers:
            x_BLD = self.run_block(block, x_BLD, plan)  # pyright: ignore[reportArgumentType]
        return self.model.norm(x_BLD)

    def loss(
        self,
        ids_BL: Tensor,
        targets_BL: Tensor,
        weights_BL: Tensor,
        *,
        positions_BL: Tensor | None = None,
        documents: list[list[int]] | None = None,
        packed: PackedAttention | None = None,
        states_frozen: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Summed weighted cross-entropy, and each target's own loss; logits exist for a chunk of tokens at a time.

        It runs under the model's own hooks, so that a sharded table is whole while the head is computed.

        Args:
            ids_BL: token ids.
            targets_BL: int64, the id that follows each token.
            weights_BL: float32, the loss weight of each target; those of weight 0 need no logits.
            positions_BL: see `forward`.
            documents: see `forward`.
            packed: see `forward`.
            states_frozen: the gradient ends at the head: blocks and embedding are run without one.

        Returns:
            The sum over targets of weight · (-log p), a scalar; and -log p of the targets whose weight is not 0, in
            their order, float32 in nats, without gradient.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not states_frozen):
            hidden_BLD = self.forward(ids_BL, positions_BL=positions_BL, documents=documents, packed=packed)
        return self.score(hidden_BLD.flatten(0, 1), targets_BL.flatten(), weights_BL.flatten())

    def score(self, hidden_ND: Tensor, targets_N: Tensor, weights_N: Tensor) -> tuple[Tensor, Tensor]:
        """The head's part of `loss`."""
        chosen = weights_N.nonzero().squeeze(1)
        return weighted_cross_entropy(hidden_ND[chosen], self.head_weight, targets_N[chosen], weights_N[chosen])

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary in float32: [..., D] in, [..., V] out."""
        return F.linear(hidden, self.head_weight).float()

    @torch.no_grad()
    def initialise(self, seed: int, std: float = 0.02) -> None:
        """Fill every weight for training from scratch: normal, `std`; output projections divided by sqrt(2 · layers).

        Each tensor's values depend on the seed and the tensor's name alone.
        """
        from codecria.common.random import draw_bits

        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                weight.fill_(1.0)
                continue
            scale = std
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                scale /= (2 * self.config.num_layers) ** 0.5
            source = torch.Generator(device="cpu").manual_seed(draw_bits(seed, name) >> 1)
            weight.copy_(torch.randn(weight.shape, generator=source) * scale)


def default_positions(ids_BL: Tensor, documents: list[list[int]] | None) -> Tensor:
    """0, 1, 2 … in each row, starting again at each packed document: int64 [B, L]."""
    if documents is None:
        return torch.arange(ids_BL.shape[1], device=ids_BL.device).expand(ids_BL.shape)
    rows = [torch.cat([torch.arange(length) for length in lengths]) for lengths in documents]
    return torch.stack(rows).to(ids_BL.device)

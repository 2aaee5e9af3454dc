"""A model whose weights have four or eight bits, from any checkpoint, read tensor by tensor.

Four-bit blocks of a GGUF file stay as they are, and an adapter's products are computed beside them: an adapter is
trained on the dequantised base, and its small differences would not survive being rounded to four bits once more.
To eight bits it is merged. The table that is the embedding and often the head has eight bits in both.

Shapes: B rows, L tokens, N tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from codecria.checkpoint.adapter import AdaptedTensors
from codecria.checkpoint.gguf.blocks import four_bit_groups
from codecria.checkpoint.gguf.model import GgufTensors
from codecria.checkpoint.open import empty_model
from codecria.checkpoint.tensors import EMBEDDING, HEAD
from codecria.generation.fused import FusedBlock
from codecria.generation.matrices import Int4, Int8, Plain, Product, beside
from codecria.generation.quantise import Grouped, eight_bits, group
from codecria.model.transformer import Block, RMSNorm, Transformer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.checkpoint.source import Checkpoint, TensorSource
    from codecria.model.attention import Attention, AttentionPlan

Form = Literal["int8", "int4"]
DTYPE = torch.bfloat16
"""Of the stream, and of keys and values: the product kernels take no other."""

_FINE_BLOCKS = ("Q5_0", "Q5_1", "Q5_K", "Q6_K")
"""Types of GGUF that lie between: rounded to eight bits, not down to four."""


class QuantisedBlock(nn.Module):
    """One layer; runs as `FusedBlock` does."""

    def __init__(self, block: Block, products: Sequence[Product]) -> None:
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            delattr(block.self_attn, name)
        self.self_attn: Attention = block.self_attn
        self.input_layernorm: RMSNorm = block.input_layernorm
        self.post_attention_layernorm: RMSNorm = block.post_attention_layernorm
        inward, outward, gate_up, down = products
        norms = (block.input_layernorm, block.post_attention_layernorm)
        self.fused = FusedBlock(block.self_attn, norms, inward, outward, gate_up, down)

    def forward(self, x_BLD: Tensor, plan: AttentionPlan) -> Tensor:
        """[B, L, D] in, [B, L, D] out."""
        return self.fused(x_BLD, plan)


class QuantisedTable(nn.Module):
    """An embedding whose rows have eight bits."""

    def __init__(self, rows: Int8) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, ids_BL: Tensor) -> Tensor:
        """[B, L] in, [B, L, D] out."""
        return self.rows.rows(ids_BL)


class QuantisedTransformer(Transformer):
    """A Llama model for passes that train nothing.

    Attributes:
        head: its product gives the scores.
    """

    head: Product

    @property
    def head_weight(self) -> Tensor:
        """The head's matrix [V, D] made wide anew: for scoring whole texts, not for a step."""
        if not isinstance(self.head, Int8):
            return self.head.tensors[0]
        return self.head.wide(DTYPE)

    def logits(self, hidden: Tensor) -> Tensor:
        """See `Transformer.logits`."""
        return self.head(hidden.reshape(-1, hidden.shape[-1])).reshape(*hidden.shape[:-1], -1).float()

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        tables = {id(each): each for each in (self.head, getattr(self.model.embed_tokens, "rows", None)) if each}
        layers = [product for layer in self.model.layers for product in layer.fused.products]  # pyright: ignore
        norms = sum(each.nbytes for each in self.parameters())
        return norms + sum(each.nbytes for each in (*tables.values(), *layers))  # pyright: ignore


def load_quantised(checkpoint: Checkpoint, form: Form, device: torch.device) -> QuantisedTransformer:
    """A model with the checkpoint's weights in few bits.

    Matrices whose shape the form's kernel does not take have the next wider form.

    Raises:
        CodecriaError: the weights do not fit the configuration, or the memory does not suffice.
    """
    model = empty_model(checkpoint, QuantisedTransformer)
    reader = _Reader(checkpoint.source, form, device)
    for name, norm in model.named_modules():
        if isinstance(norm, RMSNorm):
            norm.weight = nn.Parameter(reader.floats(f"{name}.weight"), requires_grad=False)
    for layer, block in enumerate(model.model.layers):
        assert isinstance(block, Block)
        model.model.layers[layer] = QuantisedBlock(block, reader.block(f"model.layers.{layer}."))
    table = reader.rows(EMBEDDING)
    model.head = table if model.lm_head is None else reader.rows(HEAD)
    model.lm_head = None
    model.model.embed_tokens = _embedding(table)  # pyright: ignore[reportAttributeAccessIssue]
    return model


def _embedding(table: Product) -> nn.Module:
    if isinstance(table, Int8):
        return QuantisedTable(table)
    return nn.Embedding.from_pretrained(table.tensors[0])


class _Reader:
    """Reads matrices of a source into products."""

    def __init__(self, source: TensorSource, form: Form, device: torch.device) -> None:
        self._source, self._form, self._device = source, form, device
        self._adapter = source if isinstance(source, AdaptedTensors) else None
        base = source.base if isinstance(source, AdaptedTensors) else source
        self._blocks = base if isinstance(base, GgufTensors) else None
        self._base = base

    def floats(self, name: str) -> Tensor:
        return self._source.read(name, DTYPE).to(self._device, copy=True)

    def rows(self, *names: str) -> Product:
        """Matrices below one another in eight bits, merged with the adapter."""
        if not Int8.fits(self._source.shapes[names[0]][1]):
            return Plain(torch.cat([self.floats(name) for name in names]))
        parts = [eight_bits(self._source.read(name, None)) for name in names]
        codes, scales = (torch.cat(tensors).to(self._device) for tensors in zip(*parts, strict=True))
        return Int8(codes, scales)

    def block(self, prefix: str) -> list[Product]:
        """A layer's four products."""
        stacks = (
            ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            ("self_attn.o_proj",),
            ("mlp.gate_proj", "mlp.up_proj"),
            ("mlp.down_proj",),
        )
        return [self._stack([f"{prefix}{part}.weight" for part in stack]) for stack in stacks]

    def _stack(self, names: list[str]) -> Product:
        shapes = [self._source.shapes[name] for name in names]
        fine = any(self._is_fine(name) for name in names)
        if self._form == "int8" or fine or not Int4.fits(sum(rows for rows, _ in shapes), shapes[0][1]):
            return self.rows(*names)
        parts = [self._groups(name) for name in names]
        groups = Grouped(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
        product = Int4(groups, self._device)
        adapter = self._adapter
        if adapter is None:
            return product
        layers = [name.removesuffix(".weight") for name in names]
        factors = [adapter.read_factors(layer) if layer in adapter.layers else (None, None) for layer in layers]
        sized = [(rows, down, up) for (rows, _), (down, up) in zip(shapes, factors, strict=True)]
        return beside(product, sized, adapter.alpha / adapter.rank)

    def _is_fine(self, name: str) -> bool:
        return self._blocks is not None and self._blocks.blocks(name)[1].name in _FINE_BLOCKS

    def _groups(self, name: str) -> Grouped:
        found = None if self._blocks is None else four_bit_groups(*self._blocks.blocks(name))
        if found is None:
            return group(self._base.read(name, None))
        codes, scales, minima = found
        return Grouped(codes, scales, minima + 8 * scales)

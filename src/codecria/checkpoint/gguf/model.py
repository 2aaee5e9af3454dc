"""A `llama` GGUF file as a Hugging Face checkpoint: names, rotary order, configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from codecria.checkpoint.fields import Fields, shown
from codecria.checkpoint.gguf.blocks import dequantise
from codecria.checkpoint.gguf.types import F32
from codecria.checkpoint.rotary_order import halves_from_neighbours
from codecria.checkpoint.tensors import spellings
from codecria.common.errors import CodecriaError
from codecria.model.config import ModelConfig, RopeScaling
from codecria.model.rotary import rotary_frequencies

if TYPE_CHECKING:
    from codecria.checkpoint.gguf.reader import GgufFile
    from codecria.checkpoint.gguf.types import BlockType

ROPE_FACTORS = "rope_freqs.weight"
FACTOR_KEY = "codecria.rope.factor"
LOW_FREQ_KEY = "codecria.rope.low_freq_factor"
HIGH_FREQ_KEY = "codecria.rope.high_freq_factor"


def gguf_names(num_layers: int) -> dict[str, str]:
    """GGUF's tensor name for each of Hugging Face's, in the order of the layers."""
    return {each.ours: each.gguf for each in spellings(num_layers)}


def rotated_heads(name: str, config: ModelConfig) -> int | None:
    """Heads of a query or key matrix (either spelling of its name), whose rows are permuted; None for the others."""
    if name.endswith((".q_proj.weight", ".attn_q.weight")):
        return config.num_heads
    return config.num_kv_heads if name.endswith((".k_proj.weight", ".attn_k.weight")) else None


class GgufTensors:
    """Tensors of a GGUF file under Hugging Face's names; blocks are dequantised when read."""

    def __init__(self, file: GgufFile, config: ModelConfig) -> None:
        self._file, self._config = file, config
        names = gguf_names(config.num_layers)
        self._names = {ours: theirs for ours, theirs in names.items() if theirs in file.tensors}
        foreign = file.tensors.keys() - names.values() - {ROPE_FACTORS}
        if foreign:
            raise CodecriaError(f"tensor '{min(foreign)}' has no place in a Llama model", where=file.path)
        self.shapes = {ours: file.tensors[theirs].shape for ours, theirs in self._names.items()}

    def read(self, name: str, dtype: torch.dtype | None) -> Tensor:
        """See `TensorSource.read`."""
        kind = self._file.tensors[self._names[name]].kind
        blocks = torch.from_numpy(self._file.blocks(self._names[name]))
        stored = torch.float16 if kind.name == "F16" else torch.bfloat16 if kind.name == "BF16" else torch.float32
        weight = dequantise(blocks, kind, dtype or stored)
        heads = rotated_heads(name, self._config)
        return weight if heads is None else halves_from_neighbours(weight, heads)

    def blocks(self, name: str) -> tuple[Tensor, BlockType]:
        """A matrix as it is stored, uint8 [rows, bytes of a row], rows in Hugging Face's order; and its type."""
        theirs, heads = self._names[name], rotated_heads(name, self._config)
        blocks = torch.from_numpy(self._file.blocks(theirs))
        if heads is not None:
            blocks = halves_from_neighbours(blocks, heads)
        return blocks, self._file.tensors[theirs].kind


def read_gguf_config(file: GgufFile, rope_theta: float | None = None) -> ModelConfig:
    """The model a GGUF file's metadata describes.

    Raises:
        CodecriaError: another architecture than `llama`, experts, a key that is missing or has a wrong type, or a
            rotary scaling that is not read here.
    """
    fields = _Fields(file)
    architecture = file.metadata.get("general.architecture")
    if architecture != "llama":
        raise CodecriaError(f"a model of the architecture '{architecture}'", where=file.path, mend="'llama' is read")
    if file.metadata.get("llama.expert_count", 0) != 0:
        raise CodecriaError("a mixture of experts, not a plain Llama model", where=file.path)
    table = file.tensors.get("token_embd.weight")
    if table is None:
        raise CodecriaError("tensor 'token_embd.weight' is missing", where=file.path)
    heads = fields.integer("llama.attention.head_count")
    hidden = fields.integer("llama.embedding_length")
    head_dim = fields.integer("llama.attention.key_length", hidden // heads)
    fields.must_equal("llama.attention.value_length", head_dim)
    fields.must_equal("llama.rope.dimension_count", head_dim)
    num_layers = fields.integer("llama.block_count")
    if num_layers > len(file.tensors):
        raise fields.error(f"'llama.block_count' = {num_layers}, but the file has {len(file.tensors)} tensors")
    vocab_size = fields.integer("llama.vocab_size", table.shape[0])
    config = ModelConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=fields.integer("llama.feed_forward_length"),
        num_layers=num_layers,
        num_heads=heads,
        num_kv_heads=fields.integer("llama.attention.head_count_kv", heads),
        head_dim=head_dim,
        norm_eps=fields.number("llama.attention.layer_norm_rms_epsilon"),
        rope_theta=_theta(fields, vocab_size, rope_theta),
        rope_scaling=None,
        max_positions=fields.integer("llama.context_length"),
        tied_embeddings="output.weight" not in file.tensors,
    )
    if head_dim % 2 or heads % config.num_kv_heads:
        shape = f"{heads} heads, {config.num_kv_heads} key-value heads, {head_dim} wide"
        raise CodecriaError(f"attention that cannot be: {shape}", where=file.path)
    return _with_scaling(config, fields)


class _Fields(Fields):
    """Look-ups in a file's metadata, whose numbers are float32."""

    def __init__(self, file: GgufFile) -> None:
        super().__init__(file.metadata, file.path)
        self.file = file

    def number(self, key: str, default: float | None = None) -> float:
        return _shortest(super().number(key, default))

    def must_equal(self, key: str, wanted: int) -> None:
        if (value := self.integer(key, wanted)) != wanted:
            raise self.error(f"'{key}' = {value}, but the heads are {wanted} wide")


def _shortest(value: float) -> float:
    """The shortest decimal that rounds to the same float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _theta(fields: _Fields, vocab_size: int, rope_theta: float | None) -> float:
    """The base period; absent it is 10000 by the format's rule, but never for a Code Llama.

    Its 34B and Python models have Llama 2's vocabulary; 16,384 positions without a scaling tell them from it.
    """
    if "llama.rope.freq_base" in fields.file.metadata:
        return fields.number("llama.rope.freq_base")
    scaled = {"llama.rope.scaling.type", "llama.rope.scale_linear"} & fields.file.metadata.keys()
    positions = fields.integer("llama.context_length")
    what = "the vocabulary is" if vocab_size == 32_016 else f"{positions} positions without a scaling are"
    if rope_theta is None and (vocab_size == 32_016 or (positions == 16_384 and not scaled)):
        mend = "convert the model again with a current converter, or pass --rope-theta (Code Llama: 1000000)"
        raise fields.error(f"'llama.rope.freq_base' is missing and {what} Code Llama's", mend)
    return rope_theta or 1e4


def _with_scaling(config: ModelConfig, fields: _Fields) -> ModelConfig:
    """Add the rotary scaling: `linear` stands in the keys, `llama3` as one divisor a frequency in a tensor."""
    file = fields.file
    if ROPE_FACTORS in file.tensors:
        return _llama3(config, fields)
    kind = file.metadata.get("llama.rope.scaling.type", "none")
    if kind == "linear":
        factor = fields.number("llama.rope.scaling.factor")
    elif "llama.rope.scale_linear" in file.metadata and kind == "none":
        factor = fields.number("llama.rope.scale_linear")
    elif kind == "none":
        return config
    else:
        raise fields.error(f"rotary scaling {shown(kind)}", "'linear' and 'llama3' are read")
    return config if factor == 1.0 else replace(config, rope_scaling=RopeScaling("linear", factor))


def _llama3(config: ModelConfig, fields: _Fields) -> ModelConfig:
    """The scaling whose divisors the tensor holds; the file must hold exactly these, not others made another way."""
    info = fields.file.tensors[ROPE_FACTORS]
    if info.kind != F32 or info.shape != (config.head_dim // 2,):
        raise fields.error(f"tensor '{ROPE_FACTORS}' is {info.kind.name} {list(info.shape)}")
    factors = torch.from_numpy(fields.file.blocks(ROPE_FACTORS)).view(torch.float32)
    if not torch.isfinite(factors).all() or factors.max() < 1:
        raise fields.error(f"tensor '{ROPE_FACTORS}' holds no rotary divisors")
    defaults = {FACTOR_KEY: float(factors.max()), LOW_FREQ_KEY: 1.0, HIGH_FREQ_KEY: 4.0}
    numbers = (fields.number(key, default) for key, default in defaults.items())
    original = fields.integer("llama.rope.scaling.original_context_length", 8192)
    scaled = replace(config, rope_scaling=RopeScaling("llama3", *numbers, original_max_positions=original))
    if not torch.allclose(rope_factors(scaled), factors, rtol=1e-3):
        raise fields.error(f"tensor '{ROPE_FACTORS}' is not the 'llama3' scaling", "'linear' and 'llama3' are read")
    return scaled


def rope_factors(config: ModelConfig) -> Tensor:
    """What llama.cpp divides each rotary frequency by: float32 [head_dim / 2]."""
    return rotary_frequencies(replace(config, rope_scaling=None)) / rotary_frequencies(config)

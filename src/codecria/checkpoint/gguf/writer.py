"""Write a Llama model as a GGUF file that llama.cpp loads: F16 or Q8_0 matrices, F32 norms, tokenizer and infill ids.

llama.cpp's own converter (`convert_hf_to_gguf.py`, LlamaModel) is the source of the keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import gguf
import numpy as np
import torch
from torch import Tensor

from codecria.checkpoint.gguf.blocks import quantise
from codecria.checkpoint.gguf.model import (
    FACTOR_KEY,
    HIGH_FREQ_KEY,
    LOW_FREQ_KEY,
    ROPE_FACTORS,
    gguf_names,
    rope_factors,
    rotated_heads,
)
from codecria.checkpoint.gguf.types import F16, F32, Q8_0, BlockType
from codecria.checkpoint.gguf.vocabulary import add_tokenizer
from codecria.checkpoint.rotary_order import neighbours_from_halves
from codecria.checkpoint.tensors import check_shapes, expected_shapes
from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_file
from codecria.common.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedWriter

    from codecria.checkpoint.source import Checkpoint
    from codecria.model.config import ModelConfig

GgufKind = Literal["f16", "q8_0"]

_MATRICES: dict[str, BlockType] = {"f16": F16, "q8_0": Q8_0}
_FILE_TYPES = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}


class _Writer(gguf.GGUFWriter):
    """The library's writer into a file that is already open, so that the file can be atomic."""

    def __init__(self, file: BufferedWriter) -> None:
        super().__init__(None, "llama")
        self._file = file

    def open_output_file(self, path: Path | None = None) -> None:  # noqa: ARG002
        """Take the open file; the library calls this before the header."""
        self.fout = [self._file]
        self.state = gguf.gguf_writer.WriterState.EMPTY


def export_gguf(checkpoint: Checkpoint, path: Path | str, kind: GgufKind) -> None:
    """Write `checkpoint` as one GGUF file: whole, or not at all. One tensor is in memory at a time.

    Args:
        checkpoint: any opened checkpoint.
        path: the file; an older one is replaced.
        kind: type of the matrices, `f16` or `q8_0` (8.5 bits a weight). Norms are F32; a matrix whose rows are no
            multiple of 32 stays F16, as llama.cpp has it.

    Raises:
        CodecriaError: the tokenizer has no form in GGUF, a weight is not finite or exceeds half precision's 65504,
            or the file cannot be written.
    """
    path = Path(path)
    config = checkpoint.config
    check_shapes(checkpoint.source.shapes, config, checkpoint.path)
    plan = _plan(config, _MATRICES[kind])
    with atomic_file(path) as file, progress_bar(f"writing {path.name}", len(plan), "tensors") as bar:
        writer = _Writer(file)  # pyright: ignore[reportArgumentType]
        _add_general(writer, checkpoint, kind)
        add_hyperparameters(writer, config)
        add_tokenizer(writer, checkpoint.tokenizer, checkpoint.ending_ids, config.vocab_size, checkpoint.path)
        for name, (shape, block) in plan.items():
            size = int(np.prod(shape[:-1])) * block.row_bytes(shape[-1])
            code = gguf.GGMLQuantizationType(block.code)
            writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=code)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.write_padding(file, file.tell())
        for name, data in _blocks(checkpoint, plan):
            file.write(data.numpy().data)
            writer.write_padding(file, data.nbytes)
            bar.advance(note=name)


def _plan(config: ModelConfig, matrices: BlockType) -> dict[str, tuple[tuple[int, ...], BlockType]]:
    """Name, shape and type of each tensor, in the order of the file."""
    names = gguf_names(config.num_layers)
    plan: dict[str, tuple[tuple[int, ...], BlockType]] = {}
    if config.rope_scaling is not None and config.rope_scaling.kind == "llama3":
        plan[ROPE_FACTORS] = ((config.head_dim // 2,), F32)
    for name, shape in expected_shapes(config):
        matrix = matrices if shape[-1] % matrices.numbers == 0 else F16
        plan[names[name]] = (shape, F32 if len(shape) == 1 else matrix)
    return plan


def _blocks(checkpoint: Checkpoint, plan: dict[str, tuple[tuple[int, ...], BlockType]]) -> Iterator[tuple[str, Tensor]]:
    config = checkpoint.config
    if ROPE_FACTORS in plan:
        yield ROPE_FACTORS, quantise(rope_factors(config), F32)
    names = gguf_names(config.num_layers)
    for name, _ in expected_shapes(config):
        block = plan[names[name]][1]
        numbers = checkpoint.source.read(name, None)
        heads = rotated_heads(name, config)
        if heads is not None:
            numbers = neighbours_from_halves(numbers, heads)
        # float32 first: bfloat16 reaches beyond half precision, and sums in it are coarse.
        numbers = numbers.float()
        limit = torch.finfo(torch.float16).max if block == F16 else torch.finfo(torch.float32).max
        largest = numbers.abs().max().item()
        if not largest <= limit:
            raise CodecriaError(f"tensor '{name}' holds {largest}, which {block.name} cannot", where=checkpoint.path)
        yield names[name], quantise(numbers, block)


def _add_general(writer: _Writer, checkpoint: Checkpoint, kind: GgufKind) -> None:
    writer.add_type("model")
    writer.add_name(checkpoint.path.stem if checkpoint.path.is_file() else checkpoint.path.resolve().name)
    if checkpoint.licence is not None:
        writer.add_license(checkpoint.licence)
    writer.add_file_type(_FILE_TYPES[kind])
    if kind == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_hyperparameters(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    """Add the `llama.*` keys of a model."""
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    scaling = config.rope_scaling
    if scaling is None:
        return
    if scaling.kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling.factor)
        return
    # llama.cpp needs only the divisors (rope_freqs.weight); these keys let the scaling be read back exactly.
    writer.add_rope_scaling_orig_ctx_len(scaling.original_max_positions)
    writer.add_float32(FACTOR_KEY, scaling.factor)
    writer.add_float32(LOW_FREQ_KEY, scaling.low_freq_factor)
    writer.add_float32(HIGH_FREQ_KEY, scaling.high_freq_factor)

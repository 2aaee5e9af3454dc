"""Checkpoints as Meta released them: `consolidated.NN.pth` in 1 to 8 model-parallel parts, and params.json.

The parts and the axis each tensor was cut along are those of the released inference code (`llama/model.py`:
ColumnParallelLinear cuts rows, RowParallelLinear columns, ParallelEmbedding the width).
"""

from __future__ import annotations

import math
import pickle
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from codecria.checkpoint.config_json import THETA_MEND
from codecria.checkpoint.fields import Fields
from codecria.checkpoint.rotary_order import halves_from_neighbours
from codecria.checkpoint.tensors import spellings
from codecria.common.errors import CodecriaError, explain_os_error
from codecria.model.config import ModelConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PARAMS = "params.json"
_CODE_LLAMA_VOCABULARY = 32_016

_PRECOMPUTED = "rope.freqs"


def meta_names(num_layers: int) -> dict[str, tuple[str, int | None]]:
    """Meta's tensor name and the axis its parts are joined along, for each of Hugging Face's names."""
    return {each.ours: (each.meta, each.axis) for each in spellings(num_layers)}


class MetaTensors:
    """Tensors of Meta's parts, joined, under Hugging Face's names and in its rotary order.

    The parts are memory maps: a tensor's pages are read when the tensor is.
    """

    def __init__(self, folder: Path, parts: list[Mapping[str, Tensor]], config: ModelConfig) -> None:
        self._folder, self._parts, self._config = folder, parts, config
        self._names = {ours: pair for ours, pair in meta_names(config.num_layers).items() if pair[0] in parts[0]}
        foreign = parts[0].keys() - {theirs for theirs, _ in self._names.values()} - {_PRECOMPUTED}
        if foreign:
            raise CodecriaError(f"tensor '{min(foreign)}' has no place in a Llama model", where=folder)
        self.shapes = {ours: self._joined_shape(*pair) for ours, pair in self._names.items()}

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the weights are stored in; Meta's files have one."""
        return self._parts[0]["output.weight"].dtype

    def read(self, name: str, dtype: torch.dtype | None) -> Tensor:
        """See `TensorSource.read`."""
        theirs, axis = self._names[name]
        pieces = [part[theirs] for part in self._parts]
        if axis is None:
            # Copies kept by separate processes may drift by a rounding; far apart they are other models' parts.
            if any(not torch.allclose(pieces[0], piece, rtol=0.1, atol=0.01) for piece in pieces[1:]):
                raise CodecriaError(f"tensor '{theirs}' differs between the parts", where=self._folder)
            weight = pieces[0]
        else:
            weight = torch.cat(pieces, dim=axis) if len(pieces) > 1 else pieces[0]
        weight = weight if dtype is None else weight.to(dtype)
        if name.endswith((".q_proj.weight", ".k_proj.weight")):
            query = name.endswith(".q_proj.weight")
            return halves_from_neighbours(weight, self._config.num_heads if query else self._config.num_kv_heads)
        return weight

    def _joined_shape(self, theirs: str, axis: int | None) -> tuple[int, ...]:
        pieces = [part.get(theirs) for part in self._parts]
        if any(piece is None for piece in pieces):
            raise CodecriaError(f"tensor '{theirs}' is not in every part", where=self._folder)
        shapes = [tuple(cast("Tensor", piece).shape) for piece in pieces]
        if any(shape != shapes[0] for shape in shapes):
            raise CodecriaError(f"the parts of tensor '{theirs}' differ in shape: {shapes}", where=self._folder)
        if axis is None:
            return shapes[0]
        return tuple(size * len(shapes) if at == axis else size for at, size in enumerate(shapes[0]))


def open_meta(folder: Path, params: Mapping[str, Any], rope_theta: float | None) -> tuple[ModelConfig, MetaTensors]:
    """Map the parts of a folder and read what they hold.

    Args:
        folder: holds consolidated.00.pth and so on.
        params: the parsed params.json.
        rope_theta: the base period when params.json does not state one.

    Raises:
        CodecriaError: a part is missing or damaged, params.json lacks a key or does not fit the tensors, or it
            states no `rope_theta` for Code Llama's vocabulary.
    """
    parts = _map_parts(folder)
    config = read_params(params, folder / PARAMS, parts, rope_theta)
    return config, MetaTensors(folder, parts, config)


def read_params(
    params: Mapping[str, Any], where: Path, parts: list[Mapping[str, Tensor]], rope_theta: float | None
) -> ModelConfig:
    """The model that params.json and the parts' shapes describe.

    `vocab_size` -1 (Llama 2, Code Llama) means the rows of the output matrix. Without `rope_theta` the base period
    is Llama 2's 10000, except for a vocabulary of 32016: Code Llama was trained with 1000000, and 10000 gives
    fluent nonsense, so the file must say it.
    """
    output = parts[0].get("output.weight")
    if output is None:
        raise CodecriaError("tensor 'output.weight' is missing", where=where.parent)
    fields = Fields(params, where)
    width = fields.integer("dim")
    heads = fields.integer("n_heads")
    rows = output.shape[0] * len(parts)
    vocab_size = params.get("vocab_size", -1)
    if vocab_size not in (-1, rows):
        raise CodecriaError(f"'vocab_size' = {vocab_size}, but the output matrix has {rows} rows", where=where)
    kv_heads = fields.integer("n_kv_heads", heads)
    if width % heads or heads % kv_heads or (width // heads) % 2:
        raise CodecriaError(f"{heads} heads and {kv_heads} key-value heads do not fit a width of {width}", where=where)
    theta = _theta(fields, rows, rope_theta)
    multiple_of = fields.integer("multiple_of", 256)
    return ModelConfig(
        vocab_size=rows,
        hidden_size=width,
        intermediate_size=feed_forward_size(width, multiple_of, fields.number("ffn_dim_multiplier", 1.0)),
        num_layers=fields.integer("n_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=width // heads,
        norm_eps=fields.number("norm_eps", 1e-5),
        rope_theta=theta,
        rope_scaling=None,
        max_positions=fields.integer("max_seq_len", 16_384 if theta == 1e6 else 4096),
        tied_embeddings=False,
    )


def feed_forward_size(width: int, multiple_of: int, multiplier: float = 1.0) -> int:
    """Width of the feed-forward layer, as the released code computes it: 4096 and 256 give 11008."""
    size = int(multiplier * (2 * 4 * width // 3))
    return multiple_of * math.ceil(size / multiple_of)


def _theta(fields: Fields, rows: int, rope_theta: float | None) -> float:
    if fields.values.get("rope_theta") is None and rope_theta is None and rows == _CODE_LLAMA_VOCABULARY:
        what = f"'rope_theta' is missing and the vocabulary of {rows} is Code Llama's"
        raise fields.error(what, THETA_MEND.format(file=PARAMS))
    return fields.number("rope_theta", rope_theta or 1e4)


def _map_parts(folder: Path) -> list[Mapping[str, Tensor]]:
    paths = sorted(folder.glob("consolidated.*.pth"))
    wanted = [f"consolidated.{number:02d}.pth" for number in range(max(len(paths), 1))]
    for name in wanted:
        if folder / name not in paths:
            raise CodecriaError(f"{name} is missing", where=folder, mend="all parts belong in one folder")
    if len(paths) not in (1, 2, 4, 8):
        raise CodecriaError(f"{len(paths)} parts: Meta's models have 1, 2, 4 or 8", where=folder)
    return [_map_part(path) for path in paths]


def _map_part(path: Path) -> Mapping[str, Tensor]:
    try:
        path.open("rb").close()
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        what = "holds more than tensors, or is damaged: it is not loaded"
        raise CodecriaError(what, where=path, mend="use the file as Meta released it") from error
    except Exception as error:  # a damaged archive fails in any way, also as OSError
        raise CodecriaError("damaged or cut off", where=path, mend="fetch the file again") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CodecriaError("holds no table of tensors", where=path, mend="use the file as Meta released it")
    return cast("dict[str, Tensor]", loaded)

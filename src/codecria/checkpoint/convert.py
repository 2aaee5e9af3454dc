"""One checkpoint format into another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from codecria.checkpoint.config_json import update_config, with_dtype
from codecria.checkpoint.gguf.writer import export_gguf
from codecria.checkpoint.huggingface import (
    CONFIG,
    SHARD_BYTES,
    dtype_name,
    refuse_foreign_folder,
    save_huggingface,
    write_json,
    write_weights,
)
from codecria.checkpoint.open import open_checkpoint
from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_folder
from codecria.common.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from codecria.checkpoint.source import Checkpoint

Format = Literal["huggingface", "gguf-f16", "gguf-q8_0"]

_WEIGHTS = {".safetensors", ".bin", ".pth", ".pt", ".gguf", ".h5", ".msgpack"}


def convert(
    source: str | Path,
    target: Path | str,
    format: Format,
    dtype: torch.dtype | None = None,
    *,
    rope_theta: float | None = None,
    shard_bytes: float = SHARD_BYTES,
) -> None:
    """Write the checkpoint `source` as `target`.

    From a Hugging Face folder to another every file but the weights is copied byte for byte, and each tensor keeps
    its name, dtype and bytes unless `dtype` is given.

    Args:
        source: a path or a name of the catalogue.
        target: a folder for `huggingface`, a file for the GGUF formats; an older one is replaced when the new one
            is whole.
        format: what to write.
        dtype: of the weights in a Hugging Face folder. By default they keep theirs; from GGUF blocks it is float32,
            the only one that holds every block's numbers, and from an adapter its merged products.
        rope_theta: for a source that does not state its rotary base period.
        shard_bytes: largest size of a safetensors file.

    Raises:
        CodecriaError: the source cannot be read, `target` is the source or holds something else than a checkpoint,
            or `dtype` is given for GGUF.
    """
    checkpoint = open_checkpoint(source, rope_theta=rope_theta)
    target = Path(target)
    if target.exists() and target.resolve() == checkpoint.path.resolve():
        raise CodecriaError("source and target are the same", where=target, mend="name another target")
    if format != "huggingface":
        if dtype is not None:
            raise CodecriaError("GGUF files have no dtype to choose", where=target, mend="leave --dtype away")
        export_gguf(checkpoint, target, "f16" if format == "gguf-f16" else "q8_0")
    elif checkpoint.kind == "huggingface":
        _copy(checkpoint, target, dtype, shard_bytes)
    else:
        if checkpoint.kind in ("gguf", "adapter"):
            dtype = dtype or torch.float32
        save_huggingface(target, _tracked(checkpoint, dtype), checkpoint, dtype=dtype, shard_bytes=shard_bytes)


def _copy(checkpoint: Checkpoint, target: Path, dtype: torch.dtype | None, shard_bytes: float) -> None:
    refuse_foreign_folder(target)
    with atomic_folder(target) as aside:
        for file in sorted(checkpoint.path.iterdir()):
            weights = file.suffix in _WEIGHTS or file.name.endswith(".index.json")
            if file.is_file() and not weights and not file.name.startswith("."):
                shutil.copyfile(file, aside / file.name)
        hf_config = update_config(checkpoint.hf_config, checkpoint.config)
        if dtype is not None:
            hf_config = with_dtype(hf_config, dtype_name(dtype))
        if hf_config != checkpoint.hf_config:
            write_json(aside / CONFIG, hf_config)
        write_weights(aside, _tracked(checkpoint, dtype), dtype, shard_bytes)


def _tracked(checkpoint: Checkpoint, dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    return track(checkpoint.tensors(dtype), "tensors", len(checkpoint.tensor_names()), "tensors")

"""Checkpoints as Hugging Face folders: config.json, safetensors, tokenizer files. The form models have on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from codecria.checkpoint.config_json import declared_dtype, update_config, with_dtype
from codecria.checkpoint.generation_config import list_ends
from codecria.common.errors import CodecriaError, explain_os_error
from codecria.common.files import atomic_folder, read_bytes, write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from codecria.checkpoint.source import Description

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
LINEAGE = "lineage.json"
SHARD_BYTES = 5_000_000_000
"""Default size of a shard, as transformers 4 has it."""

_AGAIN = "fetch or write the folder again"


class FolderTensors:
    """Tensors of a folder's safetensors, one file or several with an index.

    A file is opened anew for each tensor (0.1 ms): only the tensor in hand is then mapped, so that filling a model
    takes the memory of the model and of one tensor.
    """

    def __init__(self, folder: Path) -> None:
        self._files = _weight_files(folder)
        self.shapes: dict[str, tuple[int, ...]] = {}
        for path in dict.fromkeys(self._files.values()):
            with _open_weights(path) as file:
                held = set(file.keys())
                for name in (name for name, place in self._files.items() if place == path):
                    if name not in held:
                        raise CodecriaError(f"tensor '{name}' is missing: {INDEX} lists it", where=path, mend=_AGAIN)
                    view = file.get_slice(name)
                    if not view.get_dtype().startswith(("F", "BF")):
                        raise CodecriaError(f"tensor '{name}' is {view.get_dtype()}, not floating point", where=path)
                    self.shapes[name] = tuple(view.get_shape())

    def read(self, name: str, dtype: torch.dtype | None) -> Tensor:
        """See `TensorSource.read`."""
        with _open_weights(self._files[name]) as file:
            tensor = cast("Tensor", file.get_tensor(name))
        return tensor if dtype is None else tensor.to(dtype)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        CodecriaError: the file is absent or not JSON (with the line), or holds something else than an object.
    """
    try:
        values: Any = json.loads(read_bytes(path))
    except json.JSONDecodeError as error:
        raise CodecriaError(f"not JSON: {error.msg}", where=f"{path}:{error.lineno}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise CodecriaError("not JSON", where=path, mend=_AGAIN) from error
    if not isinstance(values, dict):
        raise CodecriaError("holds no JSON object", where=path)
    return cast("dict[str, Any]", values)


def save_huggingface(
    folder: Path | str,
    tensors: torch.nn.Module | Iterable[tuple[str, Tensor]],
    like: Description,
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: float = SHARD_BYTES,
    lineage: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint folder that transformers and vLLM load: whole, or not at all.

    Args:
        folder: takes the place of a checkpoint folder of that name.
        tensors: a model, or names and tensors one at a time; on any device.
        like: the description to write. `hf_config` keeps every key but those that no longer describe `config` or
            `dtype`; the generation config gets every id that ends a text (the tokenizer's and the infill end).
        dtype: of the weights written; None keeps each tensor's own. Where config.json declares one, it is kept true.
        shard_bytes: a file's largest size; with more, `model-00001-of-0000N.safetensors` and an index are written.
        lineage: written as lineage.json.

    Raises:
        CodecriaError: `folder` holds something else than a checkpoint, or cannot be written.
    """
    refuse_foreign_folder(Path(folder))
    pairs = tensors.state_dict().items() if isinstance(tensors, torch.nn.Module) else tensors
    hf_config = update_config(like.hf_config, like.config)
    with atomic_folder(folder) as aside:
        written = write_weights(aside, pairs, dtype, shard_bytes)
        # A declared dtype that is not the weights' would make transformers round them when it loads them.
        if dtype is not None or (declared_dtype(hf_config) is not None and len(written) == 1):
            hf_config = with_dtype(hf_config, dtype_name(dtype or written.pop()))
        like.tokenizer.save(aside)
        write_json(aside / CONFIG, hf_config)
        write_json(aside / GENERATION_CONFIG, list_ends(like.generation_config, like.tokenizer))
        if lineage is not None:
            write_json(aside / LINEAGE, lineage)


def write_weights(
    folder: Path, tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None, shard_bytes: float = SHARD_BYTES
) -> set[torch.dtype]:
    """Write tensors as safetensors into an existing folder, holding no more than one shard in memory.

    Returns:
        The dtypes written.

    Raises:
        CodecriaError: the disk is full.
    """
    shards: list[list[str]] = []
    held: dict[str, Tensor] = {}
    held_bytes = total_bytes = total_numbers = 0
    dtypes: set[torch.dtype] = set()

    def write_shard() -> None:
        try:
            save_file(held, folder / _part_name(len(shards)), metadata={"format": "pt"})
        except SafetensorError as error:
            mend = "free some space and start again"
            raise CodecriaError(f"the weights cannot be written: {error}", where=folder, mend=mend) from error
        shards.append(list(held))
        held.clear()

    for name, tensor in tensors:
        stored = tensor.detach().to("cpu", dtype).contiguous()
        if held and held_bytes + stored.nbytes > shard_bytes:
            write_shard()
            held_bytes = 0
        held[name] = stored
        held_bytes += stored.nbytes
        total_bytes += stored.nbytes
        total_numbers += stored.numel()
        dtypes.add(stored.dtype)
    write_shard()
    if len(shards) == 1:
        (folder / _part_name(0)).rename(folder / WEIGHTS)
        return dtypes
    places: dict[str, str] = {}
    for number, names in enumerate(shards):
        final = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / _part_name(number)).rename(folder / final)
        places |= dict.fromkeys(names, final)
    metadata = {"total_parameters": total_numbers, "total_size": total_bytes}
    write_json(folder / INDEX, {"metadata": metadata, "weight_map": dict(sorted(places.items()))})
    return dtypes


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """JSON as Hugging Face writes it: two spaces, a line end at the end; the order of the keys is kept."""
    write_atomic(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def refuse_foreign_folder(folder: Path) -> None:
    """Refuse to replace a folder that holds something else than a checkpoint.

    Raises:
        CodecriaError: `folder` is a file, or is not empty and has no config.json.
    """
    if folder.is_file():
        raise CodecriaError("is a file, not a folder", where=folder, mend="name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
        raise CodecriaError("the folder holds something else than a checkpoint", where=folder, mend="name a new folder")


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


def _part_name(number: int) -> str:
    return f"part-{number:05d}.safetensors"


def _weight_files(folder: Path) -> dict[str, Path]:
    """Each tensor's file. As in transformers, `model.safetensors` goes before an index."""
    if (folder / WEIGHTS).is_file():
        with _open_weights(folder / WEIGHTS) as file:
            return dict.fromkeys(file.keys(), folder / WEIGHTS)
    index = folder / INDEX
    if not index.is_file():
        pickled = any(folder.glob("pytorch_model*.bin"))
        mend = "save it with safe_serialization=True" if pickled else "put the weights beside config.json"
        raise CodecriaError(f"no {WEIGHTS} and no {INDEX}", where=folder, mend=mend)
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict):
        raise CodecriaError("no 'weight_map'", where=index, mend=_AGAIN)
    files: dict[str, Path] = {}
    for name, place in cast("dict[str, Any]", places).items():
        if not isinstance(place, str) or Path(place).name != place:
            raise CodecriaError(f"'weight_map' places '{name}' in {place!r}, no file's name", where=index)
        if not (folder / place).is_file():
            raise CodecriaError(f"{place} is missing: the index places '{name}' in it", where=folder, mend=_AGAIN)
        files[name] = folder / place
    return files


def _open_weights(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except SafetensorError as error:
        raise CodecriaError(f"damaged or cut off: {error}", where=path, mend=_AGAIN) from error
    except OSError as error:
        raise explain_os_error(error, path) from error

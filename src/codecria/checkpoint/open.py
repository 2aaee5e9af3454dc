"""Open a checkpoint of any of the three formats, and fill a model from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from codecria.checkpoint.adapter import ADAPTER_CONFIG, adapt
from codecria.checkpoint.catalogue import fetch, find_entry, local_path, near_name
from codecria.checkpoint.config_json import new_config, read_config
from codecria.checkpoint.generation_config import list_ends
from codecria.checkpoint.gguf.model import GgufTensors, read_gguf_config
from codecria.checkpoint.gguf.reader import MAGIC, GgufFile, read_gguf
from codecria.checkpoint.huggingface import CONFIG, GENERATION_CONFIG, FolderTensors, dtype_name, read_json
from codecria.checkpoint.licence import licence_of
from codecria.checkpoint.meta import PARAMS, open_meta
from codecria.checkpoint.source import Checkpoint
from codecria.checkpoint.tensors import EMBEDDING, HEAD, check_shapes
from codecria.common.errors import CodecriaError, explain_os_error
from codecria.model.transformer import Transformer
from codecria.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from codecria.model.config import ModelConfig

Model = TypeVar("Model", bound=Transformer)


def open_checkpoint(path_or_name: str | Path, *, rope_theta: float | None = None) -> Checkpoint:
    """Open a checkpoint without reading its weights.

    Args:
        path_or_name: a folder with config.json (Hugging Face), params.json (Meta) or adapter_config.json (an adapter,
            merged with its base), a GGUF file or a folder that holds one, or a name of the catalogue, which is fetched
            if it is not there yet.
        rope_theta: the rotary base period for a checkpoint that states none; a stated one stays.

    Raises:
        CodecriaError: no such path or name; the files are damaged, incomplete, of another architecture, or do not
            fit each other (tensors, configuration, tokenizer).
    """
    path = _resolve(path_or_name)
    if path.is_file():
        checkpoint = _open_gguf(path, rope_theta)
    elif (path / CONFIG).is_file():
        checkpoint = _open_huggingface(path, rope_theta)
    elif (path / PARAMS).is_file():
        checkpoint = _open_meta(path, rope_theta)
    elif (path / ADAPTER_CONFIG).is_file():
        checkpoint = _open_adapter(path, rope_theta)
    else:
        files = sorted(path.glob("*.gguf"))
        if len(files) != 1:
            found = "no" if not files else f"{len(files)}"
            mend = "name one of the files" if files else "name a checkpoint's folder or file"
            raise CodecriaError(f"no {CONFIG}, no {PARAMS} and {found} .gguf files", where=path, mend=mend)
        checkpoint = _open_gguf(files[0], rope_theta)
    _check(checkpoint)
    return checkpoint


def load_model(
    checkpoint: Checkpoint, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Transformer:
    """A model with the checkpoint's weights.

    The model is built without memory, then filled tensor by tensor: the peak is the model and one tensor.

    Raises:
        CodecriaError: the weights do not fit the configuration, or the memory does not suffice.
    """
    config, source = checkpoint.config, checkpoint.source
    model = empty_model(checkpoint, Transformer)
    filled: dict[str, torch.Tensor] = {}
    try:
        for name, parameter in model.named_parameters():
            filled[name] = torch.empty(parameter.shape, dtype=dtype, device=device)
            filled[name].copy_(source.read(name, None))
    except (RuntimeError, AssertionError, MemoryError) as error:  # torch's own errors of devices and memory
        gigabytes = config.parameter_count() * dtype.itemsize / 1e9
        cause = (str(error) or type(error).__name__).splitlines()[0]
        what = f"{gigabytes:.1f} GB of weights do not go to {device}: {cause}"
        mend = "use a smaller model, a 16-bit dtype or another device"
        raise CodecriaError(what, where=checkpoint.path, mend=mend) from error
    model.load_state_dict(filled, assign=True)
    return model


def empty_model(checkpoint: Checkpoint, kind: type[Model]) -> Model:
    """The checkpoint's model without memory for its weights, on the meta device.

    Raises:
        CodecriaError: the weights do not fit the configuration.
    """
    check_shapes(checkpoint.source.shapes, checkpoint.config, checkpoint.path)
    if checkpoint.config.tied_embeddings and HEAD in checkpoint.source.shapes:
        _check_tied_head(checkpoint)
    with torch.device("meta"), _Unfilled():
        return kind(checkpoint.config)


class _Unfilled(TorchFunctionMode):
    """Leaves out the random filling of new modules.

    On the meta device it computes nothing, but its first call imports 800 modules of torch and sympy: 0.8 s, 73 MB.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init" or func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _resolve(path_or_name: str | Path) -> Path:
    path = Path(path_or_name)
    if path.exists():
        return path
    entry = find_entry(str(path_or_name))
    if entry is None:
        near = near_name(str(path_or_name))
        mend = f"did you mean '{near}'?" if near else "`codecria models` lists the names"
        raise CodecriaError("no such checkpoint and no such name", where=path_or_name, mend=mend)
    return local_path(entry.name) or fetch(entry.name)


def _open_huggingface(folder: Path, rope_theta: float | None) -> Checkpoint:
    hf_config = read_json(folder / CONFIG)
    config = read_config(hf_config, folder / CONFIG, rope_theta)
    generation = folder / GENERATION_CONFIG
    return Checkpoint(
        config=config,
        tokenizer=Tokenizer.from_folder(folder),
        hf_config=hf_config,
        generation_config=read_json(generation) if generation.is_file() else {},
        path=folder,
        kind="huggingface",
        licence=licence_of(folder),
        source=FolderTensors(folder),
    )


def _open_meta(folder: Path, rope_theta: float | None) -> Checkpoint:
    config, source = open_meta(folder, read_json(folder / PARAMS), rope_theta)
    vocabularies = [place / "tokenizer.model" for place in (folder, folder.resolve().parent)]
    vocabulary = next((path for path in vocabularies if path.is_file()), None)
    if vocabulary is None:
        mend = "copy it from the release into this folder"
        raise CodecriaError("no tokenizer.model here or in the folder above", where=folder, mend=mend)
    licence = licence_of(folder) or licence_of(folder.resolve().parent)
    tokenizer = Tokenizer.from_sentencepiece(vocabulary)
    return Checkpoint(*_described(config, tokenizer, dtype_name(source.dtype)), folder, "meta", licence, source)


def _open_gguf(path: Path, rope_theta: float | None) -> Checkpoint:
    try:
        with path.open("rb") as opened:
            start = opened.read(len(MAGIC))
    except OSError as error:
        raise explain_os_error(error, path) from error
    if start != MAGIC and path.suffix != ".gguf":
        mend = "name the checkpoint's folder or a .gguf file"
        raise CodecriaError("is no checkpoint's folder and no GGUF file", where=path, mend=mend)
    file = read_gguf(path)
    config = read_gguf_config(file, rope_theta)
    tokenizer = _read_vocabulary(file)
    stated = file.metadata.get("general.license")
    licence = stated if isinstance(stated, str) else licence_of(path.resolve().parent)
    source = GgufTensors(file, config)
    return Checkpoint(*_described(config, tokenizer, "float32"), path, "gguf", licence, source)


def _described(
    config: ModelConfig, tokenizer: Tokenizer, dtype: str
) -> tuple[ModelConfig, Tokenizer, dict[str, Any], dict[str, Any]]:
    """The fields of `Description` where the format has no config.json: it is made."""
    hf_config = new_config(config, tokenizer.bos_id, tokenizer.roles.eos_id, dtype)
    return config, tokenizer, hf_config, list_ends({}, tokenizer)


def _open_adapter(folder: Path, rope_theta: float | None) -> Checkpoint:
    config = read_json(folder / ADAPTER_CONFIG)
    name = config.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise CodecriaError("names no base model", where=folder / ADAPTER_CONFIG)
    beside = folder / name
    return adapt(folder, config, open_checkpoint(beside if beside.exists() else name, rope_theta=rope_theta))


def _read_vocabulary(file: GgufFile) -> Tokenizer:
    try:
        return Tokenizer.from_gguf(file.metadata)
    except CodecriaError as error:
        where = file.path if error.where is None else f"{file.path}: {error.where}"
        raise CodecriaError(error.what, where=where, mend=error.mend) from error
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        mend = "fetch or write the file again"
        raise CodecriaError(f"damaged tokenizer keys: {error}", where=file.path, mend=mend) from error


def _check(checkpoint: Checkpoint) -> None:
    check_shapes(checkpoint.source.shapes, checkpoint.config, checkpoint.path)
    rows, ids = checkpoint.config.vocab_size, checkpoint.tokenizer.vocab_size
    if ids > rows:
        what = f"the tokenizer has ids up to {ids - 1}, but the embedding has {rows} rows"
        mend = "use the tokenizer this model was trained with"
        raise CodecriaError(what, where=checkpoint.path, mend=mend)


def _check_tied_head(checkpoint: Checkpoint) -> None:
    if not torch.equal(checkpoint.source.read(EMBEDDING, None), checkpoint.source.read(HEAD, None)):
        what = f"'tie_word_embeddings' is true, but '{HEAD}' differs from '{EMBEDDING}'"
        mend = "set it to false in config.json to keep the head"
        raise CodecriaError(what, where=checkpoint.path, mend=mend)

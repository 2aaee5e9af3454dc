"""Low-rank adapters on disk: a folder in PEFT's form that names its base, opened as a checkpoint of merged weights.

    adapter_config.json        PEFT's keys; `base_model_name_or_path` is a name of the catalogue or a path
    adapter_model.safetensors  `base_model.model.LAYER.lora_A.weight` [R, in] and `lora_B.weight` [out, R], and
                               `new_rows.TABLE` [N, D]: rows that the base lacks, for codecria's infill markers
    chat_template.jinja        where it is there, it takes the place of the base's

The header of the safetensors file has `rope_theta` and `max_positions` where they may differ from the base's.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from codecria.checkpoint.config_json import update_config
from codecria.checkpoint.fields import Fields, shown
from codecria.checkpoint.licence import licence_of
from codecria.checkpoint.source import Checkpoint, TensorSource
from codecria.checkpoint.tensors import EMBEDDING
from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_folder, read_bytes, write_atomic
from codecria.tokenizer.folder import TEMPLATE
from codecria.tokenizer.sentinels import add_sentinels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor


ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_MERGE = "merge it with the tool that made it"
_PEFT = "base_model.model."
_NEW_ROWS = "new_rows."
_NOT_PLAIN = (
    *("alora_invocation_tokens", "alpha_pattern", "fan_in_fan_out", "layer_replication", "lora_bias"),
    *("modules_to_save", "rank_pattern", "target_parameters", "trainable_token_indices"),
    *("use_dora", "use_qalora", "use_rslora"),
)
"""PEFT's keys that, where they are set, ask for more than the base + alpha / r · up · down."""
_OTHER_BASES = ("corda", "loftq", "olora", "pissa")
"""What `init_lora_weights` begins with where PEFT changes the base's own weights too."""


def save_adapter(
    folder: Path,
    layers: Iterable[tuple[str, Tensor, Tensor]],
    new_rows: Mapping[str, Tensor],
    *,
    base: str,
    alpha: float,
    changed: Mapping[str, float | None] | None = None,
    chat_template: str | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> None:
    """Write an adapter folder, bfloat16: whole, or not at all.

    Args:
        folder: takes the place of an earlier one.
        layers: name of a linear layer, its down matrix [R, in] and its up matrix [out, R].
        new_rows: by the table's tensor name, the rows at its end that the base lacks.
        base: the parent: a name of the catalogue or a path.
        alpha: the product is scaled by alpha / R.
        changed: `rope_theta` and `max_positions` where they may not be the base's.
        chat_template: written as chat_template.jinja; the base's where None.
        lineage: written as lineage.json.
    """
    tensors: dict[str, Tensor] = {f"{_NEW_ROWS}{name}": rows for name, rows in new_rows.items()}
    targets: set[str] = set()
    rank = 0
    for name, down_RI, up_OR in layers:
        tensors[f"{_PEFT}{name}.lora_A.weight"] = down_RI
        tensors[f"{_PEFT}{name}.lora_B.weight"] = up_OR
        targets.add(name.rpartition(".")[2])
        rank = len(down_RI)
    config = {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": sorted(targets),
        "task_type": "CAUSAL_LM",
    }
    stored = {name: each.detach().to("cpu", torch.bfloat16).contiguous() for name, each in tensors.items()}
    header = {key: repr(value) for key, value in (changed or {}).items() if value is not None}
    with atomic_folder(folder) as aside:
        write_atomic(aside / ADAPTER_WEIGHTS, _in_order(save(stored, metadata={"format": "pt", **header})))
        write_atomic(aside / ADAPTER_CONFIG, json.dumps(config, indent=2) + "\n")
        if chat_template is not None:
            write_atomic(aside / TEMPLATE, chat_template)
        if lineage is not None:
            write_atomic(aside / "lineage.json", json.dumps(lineage, indent=2) + "\n")


def _in_order(data: bytes) -> bytes:
    """The file with its header's metadata in the order of keys: safetensors writes any, and equal runs would differ."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
    return len(written).to_bytes(8, "little") + written + data[8 + size :]


class AdaptedTensors:
    """The base's tensors with the adapter's products added and its rows appended, one at a time.

    Attributes:
        base: the tensors without the adapter.
        base_name: how the adapter names its base.
        alpha: products are scaled by alpha / rank.
        layers: names of the linear layers that have a product.
        new_rows: rows that the base's tables lack.
        header: of the safetensors file.
    """

    def __init__(self, base: TensorSource, path: Path, config: Mapping[str, Any], known_rows: int) -> None:
        self.base, self._path, self._known_rows = base, path, known_rows
        self.base_name: str = config["base_model_name_or_path"]
        fields = Fields(config, path.with_name(ADAPTER_CONFIG))
        self.alpha, self.rank = fields.number("lora_alpha"), fields.integer("r")
        self._scale = self.alpha / self.rank
        self.shapes = dict(base.shapes)
        with _open(path) as file:
            self.header: dict[str, str] = file.metadata() or {}
            self._names = set(file.keys())
            held = {name: tuple(file.get_slice(name).get_shape()) for name in self._names}
        self.new_rows = 0
        for name in self._names:
            if name.startswith(_NEW_ROWS):
                self.new_rows, width = held.pop(name)
                self.shapes[name.removeprefix(_NEW_ROWS)] = (known_rows + self.new_rows, width)
        self.layers = {name.removeprefix(_PEFT).rpartition(".lora_")[0] for name in held if ".lora_" in name}
        self._check_factors(held)

    def _check_factors(self, held: Mapping[str, tuple[int, ...]]) -> None:
        """Every tensor is a factor, and each layer has both of them: none is left unread."""
        expected: dict[str, tuple[int, ...]] = {}
        for layer in sorted(self.layers):
            shape = self.base.shapes.get(f"{layer}.weight")
            if shape is None:
                mend = "use it with its own base"
                raise CodecriaError(f"the base has no layer '{layer}'", where=self._path, mend=mend)
            expected[f"{_PEFT}{layer}.lora_A.weight"] = (self.rank, shape[-1])
            expected[f"{_PEFT}{layer}.lora_B.weight"] = (shape[0], self.rank)
        if further := sorted(held.keys() - expected.keys()):
            raise CodecriaError(f"tensor '{further[0]}' is no plain LoRA adapter's", where=self._path, mend=_MERGE)
        for name, shape in expected.items():
            if held.get(name) != shape:
                has = f"has the shape {list(held[name])}, expected {list(shape)}" if name in held else "is missing"
                raise CodecriaError(f"tensor '{name}' {has}", where=self._path, mend="use it with its own base")

    def read(self, name: str, dtype: torch.dtype | None) -> Tensor:
        """See `TensorSource.read`; merged in float32."""
        layer = f"{_PEFT}{name.removesuffix('.weight')}"
        rows = f"{_NEW_ROWS}{name}"
        if f"{layer}.lora_A.weight" not in self._names and rows not in self._names:
            return self.base.read(name, dtype)
        weight = self.base.read(name, torch.float32)
        if rows in self._names:
            with _open(self._path) as file:
                weight = torch.cat([weight[: self._known_rows], file.get_tensor(rows).float()])
        else:
            down, up = self.read_factors(name.removesuffix(".weight"))
            weight = weight + self._scale * up @ down
        return weight if dtype is None else weight.to(dtype)

    def read_factors(self, layer: str) -> tuple[Tensor, Tensor]:
        """A layer's down matrix [R, in] and up matrix [out, R], float32."""
        with _open(self._path) as file:
            down, up = (file.get_tensor(f"{_PEFT}{layer}.lora_{part}.weight").float() for part in "AB")
        return down, up


def adapt(folder: Path, config: Mapping[str, Any], base: Checkpoint) -> Checkpoint:
    """The checkpoint that a base and an adapter folder make together.

    Args:
        folder: the adapter's.
        config: its adapter_config.json.
        base: the opened base.

    Raises:
        CodecriaError: the adapter is damaged, of another kind than plain LoRA, or of another base.
    """
    _require_plain(config, folder / ADAPTER_CONFIG)
    tokenizer, template = base.tokenizer, folder / TEMPLATE
    if template.is_file() and (text := read_bytes(template).decode()) != tokenizer.chat_template:
        tokenizer = tokenizer.with_chat_template(text)
    source = AdaptedTensors(base.source, folder / ADAPTER_WEIGHTS, config, tokenizer.vocab_size)
    adapted = base.config
    if source.new_rows:
        tokenizer, _ = add_sentinels(tokenizer)
        adapted = replace(adapted, vocab_size=source.shapes[EMBEDDING][0])
    if "rope_theta" in source.header:
        adapted = replace(adapted, rope_theta=float(source.header["rope_theta"]))
    if "max_positions" in source.header:
        adapted = replace(adapted, max_positions=int(source.header["max_positions"]))
    return Checkpoint(
        config=adapted,
        tokenizer=tokenizer,
        hf_config=update_config(base.hf_config, adapted),
        generation_config=base.generation_config,
        path=folder,
        kind="adapter",
        licence=licence_of(folder) or base.licence,
        source=source,
    )


def _require_plain(config: Mapping[str, Any], where: Path) -> None:
    plain = {
        "peft_type": config.get("peft_type") == "LORA",
        "bias": config.get("bias", "none") == "none",
        "init_lora_weights": not str(config.get("init_lora_weights")).startswith(_OTHER_BASES),
        **{key: not config.get(key) for key in _NOT_PLAIN},
    }
    wrong = next((key for key, fits in plain.items() if not fits), None)
    if wrong is not None:
        what = f"is no plain LoRA adapter: '{wrong}' = {shown(config.get(wrong))}"
        raise CodecriaError(what, where=where, mend=_MERGE)


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise CodecriaError(f"cannot be read: {error}", where=path, mend="fetch or write the adapter again") from error

"""Hugging Face's config.json and `ModelConfig`, in both directions, without losing a key.

Rotary settings come in two spellings: `rope_theta` with `rope_scaling` (transformers before 5, and most files), and
`rope_parameters` (transformers 5). Both are read; a new file is written in the first, which every version reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codecria.checkpoint.fields import Fields
from codecria.common.errors import CodecriaError
from codecria.model.config import ModelConfig, RopeScaling

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# ModelConfig's field for each key of config.json that has the same meaning.
_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "head_dim": "head_dim",
    "rms_norm_eps": "norm_eps",
    "max_position_embeddings": "max_positions",
    "tie_word_embeddings": "tied_embeddings",
}
THETA_MEND = "add it to {file} (Llama 2: 10000, Code Llama: 1000000) or pass --rope-theta"


def read_config(
    hf_config: Mapping[str, Any], where: str | Path = "config.json", rope_theta: float | None = None
) -> ModelConfig:
    """The model that a config.json describes.

    Args:
        hf_config: the parsed file.
        where: named in errors.
        rope_theta: the rotary base period when the file does not state one.

    Raises:
        CodecriaError: not a Llama model, a key is missing or has a wrong type, or the file asks for something these
            models do not have (biases, an activation other than silu, another rotary scaling, packed weights).
    """
    _refuse_other_models(hf_config, where)
    fields = Fields(hf_config, where)
    heads = fields.integer("num_attention_heads")
    hidden = fields.integer("hidden_size")
    theta, scaling = _read_rotary(hf_config, where)
    theta = theta if theta is not None else rope_theta
    if theta is None:
        raise CodecriaError("'rope_theta' is missing", where=where, mend=THETA_MEND.format(file="config.json"))
    kv_heads = fields.integer("num_key_value_heads", heads)
    if heads % kv_heads:
        raise CodecriaError(f"{heads} query heads do not divide over {kv_heads} key-value heads", where=where)
    head_dim = fields.integer("head_dim", hidden // heads)
    if head_dim % 2 or ("head_dim" not in hf_config and hidden % heads):
        raise CodecriaError(f"{heads} heads of {head_dim} do not fit a width of {hidden}", where=where)
    return ModelConfig(
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden,
        intermediate_size=fields.integer("intermediate_size"),
        num_layers=fields.integer("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        norm_eps=fields.number("rms_norm_eps"),
        rope_theta=theta,
        rope_scaling=scaling,
        max_positions=fields.integer("max_position_embeddings"),
        tied_embeddings=hf_config.get("tie_word_embeddings", False) is True,
    )


def new_config(config: ModelConfig, bos_id: int | None, eos_id: int | None, dtype: str) -> dict[str, Any]:
    """A config.json for a model that came without one."""
    values: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": dtype,
    }
    values |= {key: getattr(config, field) for key, field in _KEYS.items()}
    values["rope_theta"] = config.rope_theta
    values["rope_scaling"] = None if config.rope_scaling is None else _scaling_values(config.rope_scaling)
    return values


def update_config(hf_config: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """`hf_config` with the keys changed that no longer describe `config`; every other key and the order stay."""
    values = dict(hf_config)
    old = read_config(hf_config, rope_theta=config.rope_theta)
    for key, field in _KEYS.items():
        if getattr(old, field) != getattr(config, field):
            values[key] = getattr(config, field)
    stated = _read_rotary(hf_config, "config.json")
    if stated == (config.rope_theta, config.rope_scaling):
        return values
    scaling = None if config.rope_scaling is None else _scaling_values(config.rope_scaling)
    if isinstance(hf_config.get("rope_parameters"), dict):
        values["rope_parameters"] = {"rope_theta": config.rope_theta, **(scaling or {"rope_type": "default"})}
        if "rope_theta" not in hf_config and "rope_scaling" not in hf_config:
            return values
    values["rope_theta"] = config.rope_theta
    if scaling is not None or "rope_scaling" in hf_config:
        values["rope_scaling"] = scaling
    return values


def declared_dtype(hf_config: Mapping[str, Any]) -> str | None:
    """The dtype that config.json says its weights have (`float16`), or None."""
    return hf_config.get("torch_dtype", hf_config.get("dtype"))


def with_dtype(hf_config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """`hf_config` saying that its weights are of `dtype` (`float32`, `bfloat16`, …), under the key it already uses."""
    key = "dtype" if "dtype" in hf_config and "torch_dtype" not in hf_config else "torch_dtype"
    return {**hf_config, key: dtype}


def _refuse_other_models(hf_config: Mapping[str, Any], where: str | Path) -> None:
    kind = hf_config.get("model_type")
    if kind != "llama":
        raise CodecriaError(f"a model of the type '{kind}'", where=where, mend="Llama models are read ('llama')")
    wrong = {
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
        "hidden_act": ("silu", None),
        "quantization_config": (None,),
        "partial_rotary_factor": (1.0, None),
    }
    for key, allowed in wrong.items():
        if hf_config.get(key) not in allowed:
            shown = "" if key == "quantization_config" else f" = {hf_config[key]!r}"
            raise CodecriaError(f"'{key}'{shown} is not a plain Llama model's", where=where)


def _read_rotary(hf_config: Mapping[str, Any], where: str | Path) -> tuple[float | None, RopeScaling | None]:
    """The stated base period and scaling. As in transformers, a dictionary's own `rope_theta` goes first."""
    for key in ("rope_scaling", "rope_parameters"):
        if not isinstance(hf_config.get(key) or {}, dict):
            raise CodecriaError(f"'{key}' is a mapping, not {hf_config[key]!r}", where=where)
    scaling: dict[str, Any] = hf_config.get("rope_scaling") or {}
    parameters: dict[str, Any] = hf_config.get("rope_parameters") or {}
    settings = scaling or parameters
    theta = None
    for holder in (scaling, parameters, hf_config):
        if theta is None and holder.get("rope_theta") is not None:
            theta = Fields(holder, where).number("rope_theta")
    return theta, _read_scaling(settings, hf_config, where)


def _read_scaling(settings: dict[str, Any], hf_config: Mapping[str, Any], where: str | Path) -> RopeScaling | None:
    kind = settings.get("rope_type", settings.get("type", "default"))
    if kind == "default":
        return None
    original = hf_config.get("max_position_embeddings")
    fields = Fields({"original_max_position_embeddings": original, **settings}, where)
    if kind == "linear":
        return RopeScaling("linear", fields.number("factor"))
    if kind == "llama3":
        key = "original_max_position_embeddings"
        factors = (fields.number(factor) for factor in ("factor", "low_freq_factor", "high_freq_factor"))
        return RopeScaling("llama3", *factors, original_max_positions=fields.integer(key))
    raise CodecriaError(f"rotary scaling '{kind}'", where=where, mend="'linear' and 'llama3' are read")


def _scaling_values(scaling: RopeScaling) -> dict[str, Any]:
    values: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        values["low_freq_factor"] = scaling.low_freq_factor
        values["high_freq_factor"] = scaling.high_freq_factor
        values["original_max_position_embeddings"] = scaling.original_max_positions
    return values

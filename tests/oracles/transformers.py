"""transformers as an oracle: the configuration that describes the same Llama model there."""

from typing import Any

from transformers import LlamaConfig

from codecria.model.config import ModelConfig


def llama_config(config: ModelConfig, **more: Any) -> LlamaConfig:
    """transformers' configuration of a model; `more` are keys of its own."""
    return LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        rms_norm_eps=config.norm_eps,
        max_position_embeddings=config.max_positions,
        tie_word_embeddings=config.tied_embeddings,
        rope_parameters=rope_parameters(config),
        **more,
    )


def rope_parameters(config: ModelConfig) -> dict[str, object]:
    """The rotary settings as transformers 5 writes them."""
    scaling = config.rope_scaling
    if scaling is None:
        return {"rope_type": "default", "rope_theta": config.rope_theta}
    values: dict[str, object] = {
        "rope_type": scaling.kind,
        "rope_theta": config.rope_theta,
        "factor": scaling.factor,
    }
    if scaling.kind == "llama3":
        values["low_freq_factor"] = scaling.low_freq_factor
        values["high_freq_factor"] = scaling.high_freq_factor
        values["original_max_position_embeddings"] = scaling.original_max_positions
    return values

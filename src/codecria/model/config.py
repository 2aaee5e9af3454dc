"""The shape of a Llama model, and the exact shapes of the paper's models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained positions.

    `linear` divides every frequency by `factor`. `llama3` divides low frequencies only, with a smooth band
    between the wavelengths `original_max_positions / low_freq_factor` and `/ high_freq_factor`.
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the tensors of a Llama model and what they compute. Sizes are counts, not bytes."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    max_positions: int
    tied_embeddings: bool

    def parameter_count(self) -> int:
        """Number of parameters; a tied head counts once, as transformers counts it."""
        attention = self.hidden_size * self.head_dim * 2 * (self.num_heads + self.num_kv_heads)
        block = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        tables = (1 if self.tied_embeddings else 2) * self.vocab_size * self.hidden_size
        return tables + self.num_layers * block + self.hidden_size

    def flops_per_token(self, sequence_tokens: int) -> float:
        """Training FLOPs a token: 6 for each weight in a matrix product, 12 · layers · width · length for attention.

        The length term counts the full square, as published MFU figures do; causal attention needs half of it.
        The embedding table is looked up, not multiplied, so it counts only as the head.
        """
        products = self.parameter_count()
        if not self.tied_embeddings:
            products -= self.vocab_size * self.hidden_size
        width = self.num_heads * self.head_dim
        return 6.0 * products + 12.0 * self.num_layers * width * sequence_tokens


_LLAMA_2_7B = ModelConfig(
    vocab_size=32_000,
    hidden_size=4096,
    intermediate_size=11_008,
    num_layers=32,
    num_heads=32,
    num_kv_heads=32,
    head_dim=128,
    norm_eps=1e-5,
    rope_theta=1e4,
    rope_scaling=None,
    max_positions=4096,
    tied_embeddings=False,
)
_LLAMA_2_13B = replace(
    _LLAMA_2_7B, hidden_size=5120, intermediate_size=13_824, num_layers=40, num_heads=40, num_kv_heads=40
)
_LLAMA_2_34B = replace(
    _LLAMA_2_7B, hidden_size=8192, intermediate_size=22_016, num_layers=48, num_heads=64, num_kv_heads=8
)
_LLAMA_2_70B = replace(
    _LLAMA_2_7B, hidden_size=8192, intermediate_size=28_672, num_layers=80, num_heads=64, num_kv_heads=8
)


def _code(config: ModelConfig, vocab_size: int) -> ModelConfig:
    """After long-context fine-tuning: base period 1e6, 16,384 positions (paper §2.4)."""
    return replace(config, vocab_size=vocab_size, rope_theta=1e6, max_positions=16_384)


PRESETS: dict[str, ModelConfig] = {
    "llama-2-7b": _LLAMA_2_7B,
    "llama-2-13b": _LLAMA_2_13B,
    "llama-2-34b": _LLAMA_2_34B,
    "llama-2-70b": _LLAMA_2_70B,
    "codellama-7b": _code(_LLAMA_2_7B, 32_016),
    "codellama-13b": _code(_LLAMA_2_13B, 32_016),
    "codellama-34b": _code(_LLAMA_2_34B, 32_000),
    "codellama-70b": _code(_LLAMA_2_70B, 32_016),
    "codellama-7b-python": _code(_LLAMA_2_7B, 32_000),
    "codellama-13b-python": _code(_LLAMA_2_13B, 32_000),
    "codellama-34b-python": _code(_LLAMA_2_34B, 32_000),
    "smollm2-135m": ModelConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        norm_eps=1e-5,
        rope_theta=1e5,
        rope_scaling=None,
        max_positions=8192,
        tied_embeddings=True,
    ),
}
"""Shapes by name. Dimensions: Code Llama's and Llama 2's released configurations (paper §2, table in the model cards);
34B and the Python models carry Llama 2's 32,000 rows, the infilling models 16 more."""

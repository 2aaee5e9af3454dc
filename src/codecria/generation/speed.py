"""How fast a model reads and writes on this machine, and how near that is to what its memory allows.

A step of one stream reads every weight once, so tokens a second are at most bandwidth / bytes of a step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from codecria.common.random import draw_bits
from codecria.generation.quantised import QuantisedTable, QuantisedTransformer
from codecria.generation.sampling import SamplingOptions

if TYPE_CHECKING:
    from codecria.generation.engine import Engine
    from codecria.model.transformer import Transformer

_BANDWIDTH_BYTES = 1 << 29


@dataclass(frozen=True)
class Run:
    """One prompt read and continued.

    Attributes:
        prompt_tokens: of the prompt, none of which was in the cache.
        first_s: until the first token was chosen.
        rest_tokens: tokens after the first.
        rest_s: they took.
    """

    prompt_tokens: int
    first_s: float
    rest_tokens: int
    rest_s: float

    @property
    def prefill_rate(self) -> float:
        """Prompt tokens a second, the first token's choice included."""
        return self.prompt_tokens / self.first_s

    @property
    def decode_rate(self) -> float:
        """Tokens a second after the first."""
        return self.rest_tokens / self.rest_s


def run_once(engine: Engine, prompt: list[int], tokens: int) -> Run:
    """Read a prompt and write `tokens` tokens, at least 2, greedily, whatever ends they spell.

    The prompt has to begin with another token than the last one did, or its beginning is found in the cache.
    """
    steps = engine.stream([prompt], SamplingOptions(max_tokens=tokens))
    began = time.perf_counter()
    next(steps)
    first = time.perf_counter()
    rest = sum(1 for _ in steps)
    return Run(len(prompt), first - began, rest, time.perf_counter() - first)


def random_prompt(vocab_size: int, tokens: int, number: int) -> list[int]:
    """Ids drawn from a vocabulary; consecutive numbers give prompts that differ in their first id."""
    ids = [draw_bits(number, "prompt", place) % vocab_size for place in range(tokens)]
    ids[0] = number % vocab_size
    return ids


def weight_bytes(model: Transformer) -> int:
    """Memory of a model's weights."""
    return model.nbytes if isinstance(model, QuantisedTransformer) else sum(each.nbytes for each in model.parameters())


def step_bytes(model: Transformer, context_tokens: float) -> float:
    """Bytes that a step of one stream reads: the weights, of an embedding that is not the head one row, and the keys
    and values of `context_tokens` tokens.
    """
    config = model.config
    cached = (
        2
        * config.num_layers
        * config.num_kv_heads
        * config.head_dim
        * model.model.norm.weight.element_size()
        * context_tokens
    )
    weights = weight_bytes(model)
    if not config.tied_embeddings:
        table: nn.Module = model.model.embed_tokens
        rows = (
            table.rows.nbytes if isinstance(table, QuantisedTable) else sum(each.nbytes for each in table.parameters())
        )
        weights -= rows * (1 - 1 / config.vocab_size)
    return weights + cached


def memory_bandwidth(device: torch.device, repeats: int = 5) -> float:
    """Bytes a second that all threads together read from memory: the best of `repeats` sums over half a gigabyte, on a
    GPU over four.
    """
    # A GPU reads half a gigabyte in the time that a few calls take.
    nbytes = 8 * _BANDWIDTH_BYTES if device.type == "cuda" else _BANDWIDTH_BYTES
    numbers = torch.ones(nbytes // 4, device=device)
    best = float("inf")
    for _ in range(repeats + 1):
        began = time.perf_counter()
        numbers.sum().item()
        best = min(best, time.perf_counter() - began)
    return numbers.nbytes / best

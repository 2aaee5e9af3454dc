"""From scores to the next token.

The filters act in this order, as transformers' do: temperature, top-k, top-p, min-p. What is left is drawn from by
inverting its cumulative distribution at a number keyed by (seed, sample, step), so a sample depends neither on the
other rows of its batch nor on the draws before it.

Shapes: B rows, V vocabulary, C candidates.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from codecria.common.errors import CodecriaError
from codecria.common.random import draw_uniform

if TYPE_CHECKING:
    from collections.abc import Sequence

NEAR_TIE = 1e-4
"""Two scores closer than this may change places with the batch or the chunk size."""

_FIRST_CANDIDATES = 256
_MORE_CANDIDATES = 8


@dataclass(frozen=True)
class SamplingOptions:
    """How a text is generated.

    Attributes:
        max_tokens: at most so many tokens; 0 only reads the prompt into the cache.
        temperature: scores are divided by it; 0 always takes the best token.
        top_p: keep the fewest best tokens whose probabilities sum to this share; 1 keeps all.
        top_k: keep so many best tokens; 0 keeps all.
        min_p: keep tokens at least this share as probable as the best; 0 keeps all.
        seed: of the draws; None takes a new one for each call.
        stop: strings that end the text and are cut from it.
        stop_ids: token ids that end the text and are no part of it.
        forbidden_ids: token ids never chosen.
        n: samples of each prompt.
        logprobs: whether to report each token's log probability under the model (before temperature and filters).
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    forbidden_ids: tuple[int, ...] = ()
    n: int = 1
    logprobs: bool = False

    def __post_init__(self) -> None:
        limits = {
            "max_tokens": (self.max_tokens >= 0, "0 or more"),
            "temperature": (0 <= self.temperature < math.inf, "0 or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "0 or more"),
            "min_p": (0 <= self.min_p <= 1, "from 0 to 1"),
            "n": (self.n >= 1, "1 or more"),
        }
        for name, (fits, allowed) in limits.items():
            if not fits:
                raise CodecriaError(f"{name} is {getattr(self, name)}", mend=f"give {allowed}")
        if not all(self.stop):
            raise CodecriaError("a stop string is empty", mend="leave it out")


def sampling_draw(seed: int, sample: int, step: int) -> float:
    """The number in [0, 1) that chooses token `step` of sample `sample`."""
    return draw_uniform("sampling", seed, sample, step)


class Choice(NamedTuple):
    """A token chosen for one row.

    Attributes:
        id: the token.
        log_probability: under the model, natural logarithm; None unless asked for.
        near_tie: whether a greedy choice had a rival within `NEAR_TIE`.
    """

    id: int
    log_probability: float | None
    near_tie: bool


def choose(logits_BV: Tensor, options: SamplingOptions, draws: Sequence[float]) -> list[Choice]:
    """`sample` without the forbidden ids, with what is to be known of each choice."""
    allowed_BV = logits_BV
    if options.forbidden_ids:
        allowed_BV = logits_BV.index_fill(-1, _id_tensor(options.forbidden_ids, logits_BV.device), -torch.inf)
    ids_B = sample(allowed_BV, options, draws)
    near_ties = [False] * len(draws)
    if options.temperature == 0:
        # Two passes over the scores cost less than a top 2.
        best_B1 = allowed_BV.gather(-1, ids_B[:, None])
        second_B1 = allowed_BV.scatter(-1, ids_B[:, None], -torch.inf).amax(dim=-1, keepdim=True)
        near_ties = (best_B1 - second_B1 < NEAR_TIE)[:, 0].tolist()
    log_probabilities: list[float | None] = [None] * len(draws)
    if options.logprobs:
        chosen_B = logits_BV.gather(-1, ids_B[:, None])[:, 0]
        log_probabilities = (chosen_B - logits_BV.logsumexp(dim=-1)).tolist()
    return list(map(Choice, ids_B.tolist(), log_probabilities, near_ties))


def sample(logits_BV: Tensor, options: SamplingOptions, draws: Sequence[float]) -> Tensor:
    """Choose one token for each row: int64 [B].

    Args:
        logits_BV: scores, float32; at least one of a row is finite.
        options: temperature and filters.
        draws: a number in [0, 1) for each row; not looked at when the temperature is 0.
    """
    if options.temperature == 0:
        return logits_BV.argmax(dim=-1)
    # Measured from the best score, so that no temperature is too small.
    scaled_BV = (logits_BV - logits_BV.amax(dim=-1, keepdim=True)) / options.temperature
    weights_BC, ids_BC = candidates(scaled_BV, options)
    cumulative_BC = weights_BC.cumsum(dim=-1)
    draws_B1 = torch.tensor(draws, dtype=torch.float64, device=logits_BV.device)[:, None]
    # A draw of at most 1 - 2**-53 times the total rounds to less than it: the place found always has a weight.
    places_B1 = torch.searchsorted(cumulative_BC, draws_B1 * cumulative_BC[:, -1:], right=True)
    return (places_B1 if ids_BC is None else ids_BC.gather(-1, places_B1))[:, 0]


def candidates(scaled_BV: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor | None]:
    """What the filters leave: weights float64 [B, C], not normalised, 0 for what is dropped, and their ids.

    The ids are None when every token is a candidate, in the vocabulary's order; else they go from best to worst.
    """
    if options.top_k:
        scores_BC, ids_BC = scaled_BV.topk(min(options.top_k, scaled_BV.shape[-1]), dim=-1)
        weights_BC = scores_BC.double().softmax(dim=-1)
    elif options.top_p < 1:
        weights_BC, ids_BC = _head(scaled_BV, options.top_p)
    else:
        weights_BC, ids_BC = scaled_BV.softmax(dim=-1).double(), None
    if options.top_p < 1:
        before_BC = weights_BC.cumsum(dim=-1) - weights_BC
        weights_BC = weights_BC.where(before_BC < options.top_p, 0.0)
    if options.min_p:
        weights_BC = weights_BC.where(weights_BC >= options.min_p * weights_BC.amax(dim=-1, keepdim=True), 0.0)
    return weights_BC, ids_BC


def _head(scaled_BV: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Probabilities and ids of the best tokens, enough to sum to `share`; all are sorted only if nothing less does."""
    vocabulary = scaled_BV.shape[-1]
    normaliser_B1 = scaled_BV.double().logsumexp(dim=-1, keepdim=True)
    count = _FIRST_CANDIDATES
    while True:
        scores_BC, ids_BC = scaled_BV.topk(min(count, vocabulary), dim=-1)
        weights_BC = (scores_BC.double() - normaliser_B1).exp()
        if count >= vocabulary or bool((weights_BC.sum(dim=-1) >= share).all()):
            return weights_BC, ids_BC
        count *= _MORE_CANDIDATES


@functools.lru_cache(maxsize=64)
def _id_tensor(ids: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(ids, device=device)

"""From scores to the next token.

In this order: logit bias and penalties, forbidden ids, then, as transformers' do, temperature, top-k, top-p, min-p.
What is left is drawn from by inverting its cumulative distribution at a number keyed by (seed, sample, step), so a
sample depends neither on the other rows of its batch nor on the draws before it. Rows of a batch may have different
options.

Shapes: B rows, V vocabulary, C candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from codecria.common.errors import CodecriaError
from codecria.common.random import draw_uniform
from codecria.generation.penalties import forbid, penalise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NEAR_TIE = 1e-4
"""Two scores closer than this may change places with the batch or the chunk size."""

_FIRST_CANDIDATES = 256
_MORE_CANDIDATES = 8
_FOLDS = 16


@dataclass(frozen=True)
class SamplingOptions:
    """How a text is generated.

    Attributes:
        max_tokens: at most so many tokens; 0 only reads the prompt into the cache. A prompt's last token that healing
            took back and that comes again is none of them.
        min_tokens: before so many tokens none of `stop_ids` is chosen; strings and rules of the text still end it.
        temperature: scores are divided by it; 0 always takes the best token.
        top_p: keep the fewest best tokens whose probabilities sum to this share; 1 keeps all.
        top_k: keep so many best tokens; 0 keeps all.
        min_p: keep tokens at least this share as probable as the best; 0 keeps all.
        seed: of the draws; None takes a new one for each call.
        stop: strings that end the text and are cut from it.
        stop_ids: token ids that end the text and are no part of it.
        forbidden_ids: token ids never chosen.
        n: samples of each prompt.
        repetition_penalty: scores of ids in the prompt or text are divided by it where above 0, else multiplied (CTRL,
            Keskar et al. 2019; transformers); 1 changes nothing.
        presence_penalty: taken from the score of an id that the text has.
        frequency_penalty: taken from an id's score for each time that the text has it.
        logit_bias: added to the scores of ids; a mapping, kept as sorted pairs.
        logprobs: whether to report each token's log probability under the model (before temperature and filters).
        top_logprobs: with `logprobs`, also those of so many best tokens.
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
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...] = ()
    top_logprobs: int = 0
    min_tokens: int = 0

    def __post_init__(self) -> None:
        limits = {
            "max_tokens": (self.max_tokens >= 0, "0 or more"),
            "min_tokens": (self.min_tokens >= 0, "0 or more"),
            "temperature": (0 <= self.temperature < math.inf, "0 or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "0 or more"),
            "min_p": (0 <= self.min_p <= 1, "from 0 to 1"),
            "n": (self.n >= 1, "1 or more"),
            "top_logprobs": (self.top_logprobs >= 0, "0 or more"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "above 0; 1 changes nothing"),
            "presence_penalty": (math.isfinite(self.presence_penalty), "a number, mostly from -2 to 2"),
            "frequency_penalty": (math.isfinite(self.frequency_penalty), "a number, mostly from -2 to 2"),
        }
        for name, (fits, allowed) in limits.items():
            if not fits:
                raise CodecriaError(f"{name} is {getattr(self, name)}", mend=f"give {allowed}")
        pairs = self.logit_bias.items() if isinstance(self.logit_bias, Mapping) else self.logit_bias
        # Sorted pairs, so that options stay hashable and equal ones are equal.
        object.__setattr__(self, "logit_bias", tuple(sorted((int(id), float(bias)) for id, bias in pairs)))
        if any(math.isnan(bias) or bias == math.inf for _, bias in self.biases):
            raise CodecriaError("a logit_bias is not a number", mend="give a finite one, or -inf to forbid the id")
        if not all(self.stop):
            raise CodecriaError("a stop string is empty", mend="leave it out")

    @property
    def biases(self) -> tuple[tuple[int, float], ...]:
        """`logit_bias` as pairs."""
        assert isinstance(self.logit_bias, tuple)
        return self.logit_bias


def sampling_draw(seed: int, sample: int, step: int) -> float:
    """The number in [0, 1) that chooses token `step` of sample `sample`."""
    return draw_uniform("sampling", seed, sample, step)


class Wanted(NamedTuple):
    """What a row is chosen by.

    Attributes:
        options: temperature, filters, penalties.
        draw: a number in [0, 1); not looked at when the temperature is 0.
        prompt: ids of the prompt, for the repetition penalty.
        written: ids written so far, for all penalties.
        narrow: a filter of the text's own, which takes scores of one row out in place before the others act.
        guess: the token that healing took back; written first, it is the prompt's.
    """

    options: SamplingOptions
    draw: float
    prompt: Sequence[int] = ()
    written: Sequence[int] = ()
    narrow: Callable[[Tensor], None] | None = None
    guess: int | None = None

    @property
    def of_prompt(self) -> int:
        """How many of `written` are the prompt's: 1 where the token taken back has come again."""
        return int(bool(self.written) and self.written[0] == self.guess)


class Choice(NamedTuple):
    """A token chosen for one row.

    Attributes:
        id: the token.
        log_probability: under the model, natural logarithm; None unless asked for.
        near_tie: whether a greedy choice had a rival within `NEAR_TIE`.
        best: the ids with the highest log probabilities and these, from best to worst, as many as were asked for.
    """

    id: int
    log_probability: float | None
    near_tie: bool
    best: tuple[tuple[int, float], ...] = ()


def choose(logits_BV: Tensor, wanted: Sequence[Wanted]) -> list[Choice | None]:
    """A token for each row, with what is to be known of the choice.

    Args:
        logits_BV: scores, float32; they are changed.
        wanted: one for each row.

    Returns:
        None for a row without a finite best score: its scores are no numbers, or all of its ids are forbidden.
    """
    reported = [row for row, each in enumerate(wanted) if each.options.logprobs]
    plain_BV = logits_BV[reported] if reported else logits_BV
    for row, each in enumerate(wanted):
        penalise(logits_BV[row], each.options, each.prompt, each.written, each.of_prompt)
    forbid(logits_BV, [_forbidden(each) for each in wanted])
    for row, each in enumerate(wanted):
        if each.narrow is not None:
            each.narrow(logits_BV[row])
    greedy = [each.options.temperature == 0 for each in wanted]
    ids_B = sample(logits_BV, [each.options for each in wanted], [each.draw for each in wanted])
    finite = [math.isfinite(best) for best in _largest(logits_BV).tolist()]
    near_ties = [False] * len(wanted)
    if any(greedy):
        chosen_B1 = ids_B[:, None]
        best_B = logits_BV.gather(-1, chosen_B1)[:, 0]
        second_B = _largest(logits_BV.scatter_(-1, chosen_B1, -torch.inf))
        near_ties = (best_B - second_B < NEAR_TIE).tolist()
    log_probabilities: dict[int, float] = {}
    tops: dict[int, tuple[tuple[int, float], ...]] = {}
    if reported:
        chosen_B = plain_BV.gather(-1, ids_B[reported][:, None])[:, 0]
        totals_B = plain_BV.logsumexp(dim=-1)
        log_probabilities = dict(zip(reported, (chosen_B - totals_B).tolist(), strict=True))
        for place, row in enumerate(reported):
            count = wanted[row].options.top_logprobs
            if count:
                tops[row] = _most_probable(plain_BV[place] - totals_B[place], count)
    return [
        Choice(id, log_probabilities.get(row), greedy[row] and near_ties[row], tops.get(row, ()))
        if finite[row]
        else None
        for row, id in enumerate(ids_B.tolist())
    ]


def _forbidden(wanted: Wanted) -> tuple[int, ...]:
    options, written = wanted.options, wanted.written
    if len(written) - wanted.of_prompt >= options.min_tokens:
        return options.forbidden_ids
    return (*options.forbidden_ids, *(id for id in options.stop_ids if written or id != wanted.guess))


def _most_probable(log_probabilities_V: Tensor, count: int) -> tuple[tuple[int, float], ...]:
    values_C, ids_C = log_probabilities_V.topk(min(count, len(log_probabilities_V)))
    found = zip(ids_C.tolist(), values_C.tolist(), strict=True)
    return tuple((id, value) for id, value in found if value > -math.inf)


def sample(logits_BV: Tensor, options: Sequence[SamplingOptions], draws: Sequence[float]) -> Tensor:
    """Choose one token for each row by temperature and filters: int64 [B].

    Args:
        logits_BV: scores, float32; where the best of a row is not finite, any token may come.
        options: one for each row.
        draws: a number in [0, 1) for each row; not looked at when the temperature is 0.
    """
    ways = [_way(each) for each in options]
    if len(set(ways)) == 1:
        return _greedy(logits_BV) if ways[0] == "greedy" else _drawn(logits_BV, options, draws)
    ids_B = torch.empty(len(options), dtype=torch.int64, device=logits_BV.device)
    for way in set(ways):
        rows = [row for row, each in enumerate(ways) if each == way]
        ids_B[rows] = sample(logits_BV[rows], [options[row] for row in rows], [draws[row] for row in rows])
    return ids_B


def candidates(scaled_BV: Tensor, options: Sequence[SamplingOptions]) -> tuple[Tensor, Tensor | None]:
    """What the filters leave: weights float64 [B, C], not normalised, 0 for what is dropped, and their ids.

    The ids are None when every token is a candidate, in the vocabulary's order; else they go from best to worst. Either
    all rows have a top-k or a top-p, or none has.

    Args:
        scaled_BV: scores divided by the temperature, the best of each row 0.
        options: one for each row.
    """
    device = scaled_BV.device
    min_p_B1 = torch.tensor([each.min_p for each in options], dtype=torch.float64, device=device)[:, None]
    if _way(options[0]) == "all":
        weights_BV = scaled_BV.exp().double()
        return weights_BV.where(weights_BV >= min_p_B1, 0.0) if bool(min_p_B1.any()) else weights_BV, None
    vocabulary = scaled_BV.shape[-1]
    top_k_B1 = torch.tensor([min(each.top_k or vocabulary, vocabulary) for each in options], device=device)[:, None]
    top_p_B1 = torch.tensor([each.top_p for each in options], dtype=torch.float64, device=device)[:, None]
    counted = any(not each.top_k for each in options)
    limited = torch.tensor([bool(each.top_k) for each in options], device=device)[:, None]
    all_B1 = scaled_BV.exp().sum(dim=-1, keepdim=True).double() if counted else top_p_B1
    count = max(each.top_k or _FIRST_CANDIDATES for each in options)
    while True:
        scores_BC, ids_BC = best(scaled_BV, count)
        weights_BC = scores_BC.double().exp()
        weights_BC = weights_BC.where(torch.arange(weights_BC.shape[-1], device=device) < top_k_B1, 0.0)
        total_B1 = weights_BC.sum(dim=-1, keepdim=True)
        enough = limited | (total_B1 >= top_p_B1 * all_B1)
        if count >= vocabulary or bool(enough.all()):
            break
        count *= _MORE_CANDIDATES
    weights_BC = weights_BC / total_B1.where(limited, all_B1)
    before_BC = weights_BC.cumsum(dim=-1) - weights_BC
    weights_BC = weights_BC.where(before_BC < top_p_B1, 0.0)
    return weights_BC.where(weights_BC >= min_p_B1 * weights_BC[:, :1], 0.0), ids_BC


def best(scores_BV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best scores of each row from best to worst, and their ids.

    As `topk`, in a third of the time: the tokens are folded into columns, of which only those whose best is among the
    best columns are looked at.
    """
    vocabulary = scores_BV.shape[-1]
    columns = vocabulary // _FOLDS
    if count >= columns // 4:
        return scores_BV.topk(min(count, vocabulary), dim=-1)
    folded = columns * _FOLDS
    columns_BC = scores_BV[:, :folded].unflatten(-1, (_FOLDS, columns)).amax(dim=1).topk(count, dim=-1).indices
    ids_BN = (columns_BC[:, None] + torch.arange(0, folded, columns, device=scores_BV.device)[:, None]).flatten(1)
    rest = torch.arange(folded, vocabulary, device=scores_BV.device).expand(len(scores_BV), -1)
    ids_BN = torch.cat([ids_BN, rest], dim=-1)
    scores_BC, places_BC = scores_BV.gather(-1, ids_BN).topk(count, dim=-1)
    return scores_BC, ids_BN.gather(-1, places_BC)


def _way(options: SamplingOptions) -> Literal["greedy", "best", "all"]:
    if options.temperature == 0:
        return "greedy"
    return "best" if options.top_k or options.top_p < 1 else "all"


def _greedy(logits_BV: Tensor) -> Tensor:
    # NumPy's is ten times as fast as torch's on a CPU; of equal scores both take the first.
    on_cpu = logits_BV.device.type == "cpu"
    return torch.from_numpy(logits_BV.numpy().argmax(axis=-1)) if on_cpu else logits_BV.argmax(dim=-1)


def _largest(logits_BV: Tensor) -> Tensor:
    on_cpu = logits_BV.device.type == "cpu"
    return torch.from_numpy(logits_BV.numpy().max(axis=-1)) if on_cpu else logits_BV.amax(dim=-1)


def _drawn(logits_BV: Tensor, options: Sequence[SamplingOptions], draws: Sequence[float]) -> Tensor:
    device = logits_BV.device
    temperatures_B1 = torch.tensor([each.temperature for each in options], dtype=torch.float64, device=device)[:, None]
    # Measured from the best score, so that no temperature is too small.
    scaled_BV = (logits_BV - logits_BV.amax(dim=-1, keepdim=True)).div_(temperatures_B1.float().clamp_(min=1e-30))
    weights_BC, ids_BC = candidates(scaled_BV, options)
    cumulative_BC = weights_BC.cumsum(dim=-1)
    draws_B1 = torch.tensor(draws, dtype=torch.float64, device=device)[:, None]
    # A draw of at most 1 - 2**-53 times the total rounds to less than it: the place found always has a weight.
    places_B1 = torch.searchsorted(cumulative_BC, draws_B1 * cumulative_BC[:, -1:], right=True)
    places_B1 = places_B1.clamp_(max=cumulative_BC.shape[-1] - 1)  # of rows that are not numbers
    return (places_B1 if ids_BC is None else ids_BC.gather(-1, places_B1))[:, 0]

"""How probable a model finds given text: teacher-forced, one forward pass for many texts packed in rows.

Shapes: L tokens of a row, N scored tokens, D width, V vocabulary.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from codecria.common.errors import CodecriaError
from codecria.generation.reading import read_chunks
from codecria.model.loss import token_log_probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from codecria.model.transformer import Transformer

ROW_TOKENS = 2048


@dataclass(frozen=True)
class Continuation:
    """Ids to score after ids that are given.

    Attributes:
        context: what the model has read; at least one id.
        target: what is scored; at least one id.
        first_among: when not None, the first target is known to be one of these ids, and its probability is taken
            among them only. Used where a token reaches from the context's text into the target's.
        end_among: when not None, what follows the target is scored too: that it is any one of these ids.
    """

    context: Sequence[int]
    target: Sequence[int]
    first_among: Sequence[int] | None = None
    end_among: Sequence[int] | None = None

    @property
    def read(self) -> list[int]:
        """The ids the model reads: a last target is predicted only, unless what follows it is scored too."""
        return [*self.context, *(self.target[:-1] if self.end_among is None else self.target)]

    @property
    def scores(self) -> int:
        """How many figures come out: one a target, and one for the end."""
        return len(self.target) + (self.end_among is not None)


@torch.inference_mode()
def score(
    model: Transformer, continuations: Sequence[Continuation], row_tokens: int = ROW_TOKENS
) -> list[NDArray[np.float64]]:
    """log2 p of each target token, and of the end where it is scored: one float64 array a continuation, ≤ 0.

    Continuations are packed in their order into rows of up to `row_tokens` tokens, each a document of its own; one
    that is longer has a row to itself. The same list gives the same rows and so the same numbers.

    Raises:
        CodecriaError: an empty context or target, or more tokens than the model has positions.
    """
    for each in continuations:
        _check(model, each)
    scores: list[NDArray[np.float64]] = []
    for row in _rows([len(each.read) for each in continuations], row_tokens):
        scores += _score_row(model, continuations[row])
    return scores


def score_in_chunks(
    model: Transformer, context: Sequence[int], target: Sequence[int], chunk_tokens: int = 512
) -> NDArray[np.float64]:
    """As `score` for one text of any length, of which a chunk is held at a time, beside its keys and values.

    Raises:
        CodecriaError: as of `score`; the keys and values do not fit the memory.
    """
    each = Continuation(context, target)
    _check(model, each)
    head, first = model.head_weight, len(context) - 1
    scores: list[NDArray[np.float64]] = []
    start = 0
    for hidden_CD in read_chunks(model, each.read, chunk_tokens):
        skipped = max(0, first - start)
        stop = start + len(hidden_CD)
        if skipped < len(hidden_CD):
            targets_N = torch.tensor(list(target[start + skipped - first : stop - first]), device=head.device)
            bits_N = token_log_probabilities(hidden_CD[skipped:], head, targets_N).double().cpu().numpy() / np.log(2)
            scores.append(bits_N)
        start = stop
    return np.concatenate(scores)


def _check(model: Transformer, each: Continuation) -> None:
    if not each.context or not each.target:
        raise CodecriaError("a text is scored after at least one token, and has at least one", where="scoring")
    tokens = len(each.read)
    if tokens > model.config.max_positions:
        what = f"{tokens} tokens to score, the model has {model.config.max_positions} positions"
        raise CodecriaError(what, where="scoring", mend="shorten the context")


def _rows(lengths: Sequence[int], row_tokens: int) -> list[slice]:
    """Neighbours that share a row of up to `row_tokens` tokens."""
    starts: list[int] = []
    room = 0
    for place, length in enumerate(lengths):
        if length > room:
            starts.append(place)
            room = row_tokens
        room -= length
    return [slice(start, stop) for start, stop in itertools.pairwise([*starts, len(lengths)])]


def _score_row(model: Transformer, row: Sequence[Continuation]) -> list[NDArray[np.float64]]:
    head = model.head_weight
    ids: list[int] = []
    places: list[int] = []
    for each in row:
        # The state that predicts a token is the one before it.
        first = len(ids) + len(each.context) - 1
        places += range(first, first + each.scores)
        ids += each.read
    ids_1L = torch.tensor([ids], dtype=torch.int64, device=head.device)
    hidden_ND = model(ids_1L, documents=[[len(each.read) for each in row]])[0, places]
    # Where an end is scored, its first id stands in; the mass of all of them replaces it below.
    targets = [[*each.target, *(each.end_among or ())[:1]] for each in row]
    targets_N = torch.tensor([id for ids in targets for id in ids], dtype=torch.int64, device=head.device)
    bits_N = token_log_probabilities(hidden_ND, head, targets_N).double().cpu().numpy() / np.log(2)
    scores = np.split(bits_N, np.cumsum([each.scores for each in row])[:-1])
    start = 0
    for each, bits in zip(row, scores, strict=True):
        if each.first_among is not None:
            bits[0] -= _mass(model, hidden_ND[start], each.first_among)
        if each.end_among is not None:
            bits[-1] = _mass(model, hidden_ND[start + len(each.target)], each.end_among)
        start += each.scores
    return scores


def _mass(model: Transformer, hidden_D: Tensor, among: Sequence[int]) -> float:
    """log2 of the probability that the next token is one of these."""
    log_p_V = torch.log_softmax(model.logits(hidden_D), dim=-1)
    chosen = torch.as_tensor(list(among), dtype=torch.int64, device=log_p_V.device)
    return torch.logsumexp(log_p_V[chosen], dim=0).item() / math.log(2)

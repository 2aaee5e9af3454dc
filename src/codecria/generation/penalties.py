"""What changes scores before a token is drawn: biases, penalties for repetition, ids that are never chosen.

Shapes: B rows, V vocabulary, U different ids.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.generation.sampling import SamplingOptions

# What is asked for is held to where float32 makes no infinity of a score, nor NaN of one that is out already.
_MOST = 1e30


def penalise(
    scores_V: Tensor, options: SamplingOptions, prompt: Sequence[int], written: Sequence[int], of_prompt: int = 0
) -> None:
    """Add biases and take penalties off one row, in place; the first `of_prompt` of `written` are the prompt's.

    The repetition penalty is transformers' `RepetitionPenaltyLogitsProcessor`; presence and frequency are those of
    OpenAI's interface, which look at the text alone.
    """
    if options.biases:
        ids_U, biases_U = (torch.tensor(each, device=scores_V.device) for each in zip(*options.biases, strict=True))
        scores_V.index_add_(0, ids_U, biases_U.clamp(max=_MOST).to(scores_V.dtype))
    if options.repetition_penalty != 1:
        ids_U = torch.tensor(list({*prompt, *written}), device=scores_V.device)
        found_U = scores_V[ids_U]
        penalty = min(max(options.repetition_penalty, 1 / _MOST), _MOST)
        scores_V[ids_U] = torch.where(found_U < 0, found_U * penalty, found_U / penalty)
    own = written[of_prompt:]
    if own and (options.presence_penalty or options.frequency_penalty):
        counts = Counter(own)
        ids_U = torch.tensor(list(counts), device=scores_V.device)
        counts_U = torch.tensor(list(counts.values()), device=scores_V.device)
        penalties_U = options.presence_penalty + options.frequency_penalty * counts_U.double()
        scores_V[ids_U] -= penalties_U.clamp(-_MOST, _MOST).to(scores_V.dtype)


def forbid(scores_BV: Tensor, forbidden: Sequence[tuple[int, ...]]) -> None:
    """Take each row's forbidden ids out, in place. Ids that the model lacks, such as another's end, are let be."""
    if not any(forbidden):
        return
    vocabulary, device = scores_BV.shape[-1], scores_BV.device
    if len(set(forbidden)) == 1:
        scores_BV.index_fill_(-1, _id_tensor(forbidden[0], vocabulary, device), -torch.inf)
        return
    for row, ids in enumerate(forbidden):
        scores_BV[row, _id_tensor(ids, vocabulary, device)] = -torch.inf


@functools.lru_cache(maxsize=64)
def _id_tensor(ids: tuple[int, ...], vocabulary: int, device: torch.device) -> Tensor:
    return torch.tensor([id for id in ids if 0 <= id < vocabulary], dtype=torch.int64, device=device)

"""A filter that would rather end a middle than write a word too much: the sampler that llama.cpp calls `infill`.

Ghost text that goes on past what is sure is worse than a short one, for a person must read it before refusing it. The
rules are those of llama.cpp's `llama_sampler_init_infill`, told anew: what top-k and top-p leave is looked at; where
the ends together are likely enough, only they stay; of tokens one of which begins another the likelier takes the
other's share; what then has less than a fifth goes, and with nothing but ends left the text ends.

Shapes: V vocabulary, C candidates.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from codecria.generation.sampling import SamplingOptions, candidates

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_LEAST_SHARE = 0.2
_END_WEIGHT = 3
# Beyond so many candidates none can have a share worth keeping that a better one has not.
_MOST_CANDIDATES = 64


class FavourEnd:
    """Narrows a row of scores, in place.

    Args:
        spell: what an id adds to a text.
        ends: ids that end it.
        options: whose `top_k`, `top_p` and `min_p` act before; the temperature does not.
    """

    def __init__(self, spell: Callable[[int], bytes], ends: frozenset[int], options: SamplingOptions) -> None:
        self._spell = spell
        self._ends = ends
        self._before = SamplingOptions(
            temperature=1.0, top_k=options.top_k or _MOST_CANDIDATES, top_p=options.top_p, min_p=options.min_p
        )

    def __call__(self, logits_V: Tensor) -> None:
        """Leave the ids that pass, scored by their shares; a row without a finite best score stays as it is."""
        best = logits_V.amax()
        if not bool(best.isfinite()):
            return
        weights_1C, ids_1C = candidates((logits_V - best)[None], [self._before])
        assert ids_1C is not None
        weights_C = (weights_1C[0] / weights_1C[0].sum()).tolist()
        shares = {id: share for id, share in zip(ids_1C[0].tolist(), weights_C, strict=True) if share > 0}
        # An end that a healed prompt's first token may not be is none here, nor one that the model lacks.
        possible = [id for id in self._ends if 0 <= id < len(logits_V) and bool(logits_V[id].isfinite())]
        last = max(possible, key=lambda id: float(logits_V[id]), default=None)
        kept = self._kept(shares, last)
        logits_V.fill_(-torch.inf)
        for id, share in kept.items():
            logits_V[id] = math.log(share)

    def _kept(self, shares: dict[int, float], last: int | None) -> dict[int, float]:
        """Ids that pass and their shares; `last` is the likeliest end."""
        ends = {id: share for id, share in shares.items() if id in self._ends}
        end_share = sum(ends.values())
        if ends and _END_WEIGHT * end_share * len(shares) > sum(shares.values()) - end_share:
            return ends
        merged = self._merged({id: share for id, share in shares.items() if id not in ends})
        sure = {id: share for id, share in merged.items() if share >= _LEAST_SHARE}
        if not sure:
            # Nothing is sure, so nothing is written.
            best = last if last is not None else max(merged, key=lambda id: merged[id])
            return {best: 1.0}
        total, least = sum(sure.values()) + end_share, 1 / (len(sure) + 1)
        return {**{id: share for id, share in sure.items() if share / total >= least}, **ends}

    def _merged(self, shares: dict[int, float]) -> dict[int, float]:
        """Shares where of two tokens one of which begins the other the likelier has both; the best first."""
        texts = {id: self._spell(id) for id in shares}
        merged: dict[int, float] = {}
        for id in sorted(shares, key=lambda id: -shares[id]):
            text = texts[id]
            akin = (other for other in merged if texts[other].startswith(text) or text.startswith(texts[other]))
            home = next(akin, None)
            merged[home if home is not None else id] = merged.get(home if home is not None else id, 0.0) + shares[id]
        return merged

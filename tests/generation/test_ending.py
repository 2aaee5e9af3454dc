import math

import pytest
import torch

from codecria.generation.ending import FavourEnd
from codecria.generation.sampling import SamplingOptions, Wanted, choose

WORDS = {0: b"", 1: b"re", 2: b"return", 3: b"x", 4: b"y", 5: b"z", 6: b"", 7: b"a", 8: b"b"}
ENDS = frozenset({0, 6})
UNSURE = {1: 0.16, 3: 0.16, 4: 0.16, 5: 0.16, 7: 0.16, 8: 0.16}


def narrowed(shares, options=None):
    scores = torch.full((9,), -math.inf)
    for id, share in shares.items():
        scores[id] = math.log(share)
    FavourEnd(lambda id: WORDS[id], ENDS, options or SamplingOptions())(scores)
    kept = scores.softmax(dim=-1)
    return {id: round(float(kept[id]), 3) for id in range(9) if kept[id] > 0}


def test_an_end_that_is_likely_for_so_many_candidates_is_all_that_stays():
    # 3 · 0.1 · 5 candidates = 1.5 > 0.9
    assert narrowed({0: 0.1, 1: 0.3, 3: 0.2, 4: 0.2, 5: 0.2}) == {0: 1.0}
    # 3 · 0.01 · 2 = 0.06 < 0.99
    assert narrowed({0: 0.01, 3: 0.99}) == {3: 0.99, 0: 0.01}


def test_the_likelier_of_two_that_begin_alike_has_the_share_of_both():
    assert narrowed({1: 0.15, 2: 0.45, 3: 0.4}) == {2: 0.6, 3: 0.4}


def test_what_is_not_sure_is_not_written():
    # 0.1 < 0.2 goes; of two 1 / (2 + 1) must be had.
    assert narrowed({3: 0.6, 4: 0.3, 5: 0.1}) == {3: 1.0}
    assert narrowed({**UNSURE, 6: 1e-9}) == {6: 1.0}


def test_without_an_end_the_best_token_stays():
    assert narrowed({**UNSURE, 3: 0.19}) == {3: 1.0}


def test_top_k_acts_before():
    assert narrowed({3: 0.5, 4: 0.3, 0: 0.2}, SamplingOptions(top_k=2)) == {3: 0.625, 4: 0.375}


def test_a_row_without_scores_stays_one():
    scores = torch.full((9,), -math.inf)
    FavourEnd(lambda id: WORDS[id], ENDS, SamplingOptions())(scores)
    assert not scores.isfinite().any()


def test_it_acts_on_its_own_row_and_reports_the_models_probabilities():
    shares = torch.tensor([0.1, 0.3, 1e-9, 0.2, 0.2, 0.2, 1e-9, 1e-9, 1e-9])
    options = SamplingOptions(logprobs=True, top_logprobs=2)
    narrow = FavourEnd(lambda id: WORDS[id], ENDS, options)
    first, second = choose(shares.log().repeat(2, 1), [Wanted(options, 0.0, narrow=narrow), Wanted(options, 0.0)])
    assert (first.id, second.id) == (0, 1)
    assert first.log_probability == pytest.approx(math.log(0.1), abs=1e-4)
    assert [id for id, _ in first.best] == [id for id, _ in second.best] and first.best[0][0] == 1
    assert first.best[0][1] == pytest.approx(math.log(0.3), abs=1e-4)

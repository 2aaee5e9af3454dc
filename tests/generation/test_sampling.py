import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from codecria.common.errors import CodecriaError
from codecria.generation.sampling import SamplingOptions, Wanted, best, candidates, choose, sample, sampling_draw


def random_scores(vocabulary, seed=0, rows=1, spread=3.0):
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread


def distribution(logits_V, options):
    """Probabilities over the vocabulary that the filters leave."""
    weights, ids = candidates((logits_V - logits_V.max())[None] / options.temperature, [options])
    full = torch.zeros(logits_V.shape[0], dtype=torch.float64)
    full[torch.arange(logits_V.shape[0]) if ids is None else ids[0]] = weights[0]
    return (full / full.sum()).numpy()


def plain_distribution(logits_V, options):
    """The definition, written for reading: one token after the other in plain numbers."""
    scores = [float(score) / options.temperature for score in logits_V]
    order = sorted(range(len(scores)), key=lambda id: -scores[id])
    if options.top_k:
        order = order[: options.top_k]
    total = math.fsum(math.exp(scores[id] - scores[order[0]]) for id in order)
    chances = {id: math.exp(scores[id] - scores[order[0]]) / total for id in order}
    kept, before = [], 0.0
    for id in order:
        if before < options.top_p:
            kept.append(id)
        before += chances[id]
    kept = [id for id in kept if chances[id] >= options.min_p * chances[kept[0]]]
    share = math.fsum(chances[id] for id in kept)
    return np.array([chances[id] / share if id in kept else 0.0 for id in range(len(scores))])


filters = st.builds(
    SamplingOptions,
    temperature=st.sampled_from([0.05, 0.7, 1.0, 3.0]),
    top_k=st.sampled_from([0, 1, 3, 40, 1000]),
    top_p=st.sampled_from([0.01, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.4, 1.0]),
)


@settings(max_examples=150, deadline=None)
@given(filters, st.integers(0, 20), st.sampled_from([2, 30, 700]))
def test_filters_equal_a_plain_reference(options, seed, vocabulary):
    scores = random_scores(vocabulary, seed)[0]
    np.testing.assert_allclose(distribution(scores, options), plain_distribution(scores, options), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(filters, st.integers(0, 5))
def test_filters_equal_those_of_transformers(options, seed):
    scores = random_scores(300, seed)
    warpers = [TemperatureLogitsWarper(options.temperature)]
    warpers += [TopKLogitsWarper(options.top_k)] if options.top_k else []
    warpers += [TopPLogitsWarper(options.top_p)] if options.top_p < 1 else []
    warpers += [MinPLogitsWarper(options.min_p)] if options.min_p else []
    warped = scores.double()
    for warper in warpers:
        warped = warper(None, warped)
    np.testing.assert_allclose(distribution(scores[0], options), warped.softmax(-1)[0].numpy(), atol=1e-5)


def test_a_flat_distribution_needs_more_candidates_than_the_first_few():
    options = SamplingOptions(temperature=1.0, top_p=0.9)
    scores = random_scores(5000, spread=0.1)[0]
    made = distribution(scores, options)
    assert 4000 < (made > 0).sum() < 5000
    np.testing.assert_allclose(made, plain_distribution(scores, options), atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        SamplingOptions(temperature=1.0),
        SamplingOptions(temperature=0.7, top_k=5),
        SamplingOptions(temperature=1.3, top_p=0.8),
        SamplingOptions(temperature=1.0, min_p=0.1),
        SamplingOptions(temperature=1.5, top_k=8, top_p=0.95, min_p=0.05),
    ],
    ids=str,
)
def test_draws_follow_the_distribution(options):
    scores = random_scores(12, spread=1.0)
    count = 20_000
    draws = [sampling_draw(5, number, 0) for number in range(count)]
    made = np.bincount(sample(scores.expand(count, -1), [options] * count, draws).numpy(), minlength=12)
    expected = plain_distribution(scores[0], options) * count
    assert not made[expected == 0].any()
    assert chisquare(made[expected > 0], expected[expected > 0]).pvalue > 1e-3


@pytest.mark.parametrize("draw", [0.0, 1 - 2.0**-53])
def test_the_ends_of_the_draw_choose_a_possible_token(draw):
    scores = torch.full((1, 50), -torch.inf)
    scores[0, [10, 20, 30]] = torch.tensor([0.3, 0.1, 0.2])
    for options in (SamplingOptions(temperature=1.0), SamplingOptions(temperature=1.0, top_k=40)):
        assert sample(scores, [options], [draw]).item() in (10, 20, 30)


def test_a_count_of_candidates_that_no_tensor_holds_keeps_all():
    scores, draws = random_scores(400, rows=2), [0.3, 0.9]
    few, huge, all_of_them = (SamplingOptions(temperature=1.0, top_k=count) for count in (5, 2**63, 400))
    assert sample(scores, [few, huge], draws).tolist() == sample(scores, [few, all_of_them], draws).tolist()


def test_a_row_does_not_depend_on_its_batch():
    scores = random_scores(400, rows=7)
    draws = [sampling_draw(0, row, 3) for row in range(7)]
    for options in (
        SamplingOptions(temperature=1.0),
        SamplingOptions(temperature=1.0, top_p=0.7),
        SamplingOptions(temperature=1.0, top_k=9, min_p=0.01),
        SamplingOptions(),
    ):
        together = sample(scores, [options] * 7, draws)
        alone = [sample(scores[row : row + 1], [options], draws[row : row + 1]).item() for row in range(7)]
        assert together.tolist() == alone


def test_rows_of_different_options_are_chosen_as_alone():
    ways = [
        SamplingOptions(),
        SamplingOptions(temperature=1.0),
        SamplingOptions(temperature=0.7, min_p=0.1),
        SamplingOptions(temperature=0.7, top_k=5),
        SamplingOptions(temperature=1.3, top_p=0.8, min_p=0.01),
        SamplingOptions(temperature=2.0, top_k=300, top_p=0.99),
        SamplingOptions(temperature=1.0, top_p=0.999),
        SamplingOptions(temperature=1.0, repetition_penalty=1.3, logprobs=True),
        SamplingOptions(temperature=1.0, forbidden_ids=(1, 2, 3)),
    ]
    scores = random_scores(9000, rows=len(ways), spread=1.0)
    for step in range(20):
        wanted = [Wanted(each, sampling_draw(0, row, step), [5, 6], [7]) for row, each in enumerate(ways)]
        together = choose(scores.clone(), wanted)
        assert together == [choose(scores[row, None].clone(), [each])[0] for row, each in enumerate(wanted)]


@pytest.mark.parametrize(("vocabulary", "count"), [(50_000, 256), (49_153, 40), (5000, 256), (300, 300), (100, 200)])
def test_the_best_are_those_of_a_sort(vocabulary, count):
    scores = random_scores(vocabulary, rows=3)
    found, ids = best(scores, count)
    expected = scores.topk(min(count, vocabulary), dim=-1)
    assert torch.equal(found, expected.values) and torch.equal(scores.gather(-1, ids), found)


def test_scores_that_are_no_numbers_choose_nothing_and_spoil_no_other_row():
    scores = random_scores(300, rows=6)
    expected = choose(scores[3:].clone(), [Wanted(SamplingOptions(temperature=1.0, top_p=0.9), 0.4)] * 3)
    scores[0, 17] = scores[1, 3] = torch.nan
    scores[2] = -torch.inf
    for first in (SamplingOptions(temperature=1.0, top_p=0.9), SamplingOptions(), SamplingOptions(temperature=1.0)):
        wanted = [Wanted(first, 0.4)] * 3 + [Wanted(SamplingOptions(temperature=1.0, top_p=0.9), 0.4)] * 3
        assert choose(scores.clone(), wanted) == [None, None, None, *expected]


def test_draws_are_keyed_by_seed_sample_and_step():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]
    assert len({sampling_draw(*key) for key in keys}) == len(keys)
    assert sampling_draw(3, 4, 5) == sampling_draw(3, 4, 5)


def test_the_smallest_temperature_is_greedy():
    scores = random_scores(100, rows=4, spread=30.0)
    options = SamplingOptions(temperature=1e-30, top_p=0.9)
    assert sample(scores, [options] * 4, [0.99] * 4).tolist() == scores.argmax(-1).tolist()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_forbidden_ids_are_never_chosen_and_keep_their_share_of_the_log_probability(temperature):
    scores = random_scores(40)
    most = tuple(scores[0].topk(39).indices.tolist())
    options = SamplingOptions(temperature=temperature, forbidden_ids=most, logprobs=True)
    (choice,) = choose(scores.clone(), [Wanted(options, 0.5)])
    assert choice.id not in most
    assert choice.log_probability == pytest.approx(scores[0].log_softmax(-1)[choice.id].item(), abs=1e-5)


def test_near_ties_are_noted_when_greedy_and_the_first_of_equals_wins():
    scores = torch.tensor([[1.0, 3.0, 3.0, 0.0], [1.0, 3.0, 3.00005, 0.0], [1.0, 3.0, 3.001, 0.0]])
    choices = choose(scores, [Wanted(SamplingOptions(), 0.0)] * 3)
    assert [(choice.id, choice.near_tie) for choice in choices] == [(1, True), (2, True), (2, False)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", -1),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", 1.5),
        ("n", 0),
        ("repetition_penalty", 0.0),
        ("presence_penalty", math.nan),
        ("logit_bias", {3: math.inf}),
        ("stop", ("a", "")),
    ],
)
def test_an_option_out_of_range_is_named(name, value):
    with pytest.raises(CodecriaError, match=name.split("_")[0]):
        SamplingOptions(**{name: value})


def test_a_logit_bias_is_kept_as_sorted_pairs():
    options = SamplingOptions(logit_bias={7: 1, 3: -2.0})
    assert options.logit_bias == ((3, -2.0), (7, 1.0))
    assert options == SamplingOptions(logit_bias=((7, 1.0), (3, -2.0))) and hash(options)

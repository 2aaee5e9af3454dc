import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from codecria.generation.engine import Engine
from codecria.generation.sampling import SamplingOptions
from codecria.generation.speculative import PromptLookup
from tests.generation.conftest import random_model


def test_what_followed_the_last_tokens_before_is_guessed():
    lookup = PromptLookup([1, 2, 3, 4, 5, 6, 7, 2, 3], 8)
    assert lookup.draft(8) == [4, 5, 6, 7]
    assert lookup.draft(2) == [4, 5] and lookup.draft(0) == []
    lookup.extend([9])
    assert lookup.draft(8) == []
    lookup.extend([2, 3])
    assert lookup.draft(8) == [9, 2, 3], "the last time they stood counts"


def test_drafts_grow_while_they_are_right():
    lookup = PromptLookup([*range(20), 0, 1], 8)
    assert len(lookup.draft(100)) == 4
    lookup.learn(4, 4)
    assert len(lookup.draft(100)) == 8
    lookup.learn(8, 1)
    assert len(lookup.draft(100)) == 2


@given(st.lists(st.sampled_from([0, 1, 255, 256, 65536, 16777216]), min_size=1, max_size=60))
def test_a_draft_continues_an_earlier_place_of_the_longest_ending(ids):
    draft = PromptLookup(ids, 4).draft(4)
    endings = {
        length: [n for n in range(len(ids) - length) if ids[n : n + length] == ids[-length:]] for length in (4, 3, 2)
    }
    found = next((length for length in (4, 3, 2) if len(ids) > length and endings[length]), None)
    expected = [] if found is None else ids[endings[found][-1] + found :][:4]
    assert draft == expected


def counting_model(strength, vocab_size):
    """A random model that tends to write the next number after each, in a circle."""
    model = random_model(seed=3, vocab_size=vocab_size, hidden_size=32, num_layers=1)
    with torch.no_grad():
        table = model.model.embed_tokens.weight
        table.copy_(torch.randn(table.shape, generator=torch.Generator().manual_seed(0)) * 4)
        model.lm_head.weight.mul_(0.3).add_(strength * torch.nn.functional.normalize(table.roll(1, dims=0)))
    return model


PROMPT = [*range(12)] * 3


def texts(model, draft_tokens, count, **options):
    engine = Engine(model, draft_tokens=draft_tokens)
    made = [engine.generate([PROMPT], SamplingOptions(seed=seed, **options))[0][0] for seed in range(count)]
    return made, engine.statistics()


def test_drafts_change_neither_greedy_nor_sampled_texts():
    model = counting_model(1.0, vocab_size=12)
    for options in (
        {"max_tokens": 60},
        {"max_tokens": 61, "temperature": 1.0},
        {"max_tokens": 40, "temperature": 1.0, "top_p": 0.9},
        {"max_tokens": 40, "temperature": 1.0, "repetition_penalty": 1.1, "logprobs": True},
        {"max_tokens": 40, "temperature": 1.0, "stop_ids": (5,)},
    ):
        plain, none = texts(model, 0, 6, **options)
        quick, some = texts(model, 8, 6, **options)
        assert [each.ids for each in quick] == [each.ids for each in plain]
        assert none.drafted_tokens == 0
        assert some.accepted_tokens > 0
        assert "temperature" not in options or some.drafted_tokens > some.accepted_tokens


def test_texts_with_drafts_have_the_models_distribution():
    """Draws of other seeds, so that the two sets have nothing in common but the distribution."""
    model = counting_model(0.7, vocab_size=12)
    counts = []
    for draft_tokens, first in ((0, 0), (8, 100_000)):
        engine = Engine(model, draft_tokens=draft_tokens)
        made = [0] * 12
        for seed in range(first, first + 400):
            options = SamplingOptions(max_tokens=4, temperature=1.0, seed=seed)
            made[engine.generate([PROMPT], options)[0][0].ids[-1]] += 1
        counts.append(made)
    assert engine.statistics().accepted_tokens > 100
    pairs = [pair for pair in zip(*counts, strict=True) if sum(pair) > 10]
    assert chi2_contingency(list(zip(*pairs, strict=True))).pvalue > 1e-3

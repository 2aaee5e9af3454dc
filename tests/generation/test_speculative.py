import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from codecria.generation.engine import Engine
from codecria.generation.sampling import SamplingOptions
from codecria.generation.speculative import PromptLookup
from codecria.generation.stopping import TextPlan
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
COUNTING = counting_model(1.0, vocab_size=12)


class Silent:
    """A decoder for ids that stand for no text."""

    def push(self, _id, /):
        return ""

    def finish(self):
        return ""


def texts(model, draft_tokens, count, **options):
    engine = Engine(model, draft_tokens=draft_tokens)
    made = [engine.generate([PROMPT], SamplingOptions(seed=seed, **options))[0][0] for seed in range(count)]
    return made, engine.statistics()


def test_drafts_change_neither_greedy_nor_sampled_texts():
    model = COUNTING
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


@given(st.integers(0, 11), st.integers(1, 4), st.sampled_from([0.0, 1.0]))
@settings(max_examples=60)
def test_a_first_guess_changes_no_text_and_saves_a_pass_where_it_is_right(guess, tokens, temperature):
    model, passes = COUNTING, []
    options = SamplingOptions(max_tokens=tokens, temperature=temperature, seed=guess)
    plain = Engine(model, draft_tokens=0).generate([PROMPT], options)[0][0]
    engine = Engine(model)
    plan = TextPlan(Silent, first_ids=(guess, 7), guess=guess)
    restricted = Engine(model, draft_tokens=0).generate([PROMPT], options, [plan])
    [sequence] = engine.submit(PROMPT, options, plan)
    while not sequence.finished:
        engine.step()
        passes.append(len(sequence.ids))
    assert sequence.ids == restricted[0][0].ids
    right = sequence.ids[0] == guess
    assert passes[0] == (2 if right else 1)
    assert len(sequence.ids) == tokens + right
    # What the guess left behind is not found by the next text.
    assert engine.generate([PROMPT], options)[0][0].ids == plain.ids

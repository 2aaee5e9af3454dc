from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.batches.mixture import Mixture
from codecria.common.errors import CodecriaError

NAMES = "abcde"


@st.composite
def sources(draw, most=5):
    weights = draw(st.lists(st.floats(0.01, 1), min_size=1, max_size=most))
    tokens = [draw(st.lists(st.integers(50, 100), min_size=1, max_size=9)) for _ in weights]
    return weights, tokens


def run(mixture, tokens, length):
    """Tokens of each source before every n."""
    spent = np.zeros((length + 1, len(tokens)))
    for n in range(length):
        place = mixture.place(n)
        spent[n + 1] = spent[n]
        spent[n + 1, place.source] += tokens[place.source][place.row]
    return spent


@settings(max_examples=60, deadline=None)
@given(sources(), st.integers(1, 150))
def test_shares_count_tokens_at_every_prefix(given_sources, length):
    weights, tokens = given_sources
    spent = run(Mixture(weights, tokens, NAMES[: len(weights)], seed=1), tokens, length)
    share = np.array(weights) / sum(weights)
    off = np.abs(spent - share * spent.sum(axis=1, keepdims=True)) / 100
    assert (off <= (1 + share * max(len(weights) - 2, 0)) / 2 + 0.03).all()
    if len(weights) <= 3:
        assert off.max() < 1


@pytest.mark.parametrize("weights", [(0.85, 0.08, 0.07), (0.75, 0.10, 0.10, 0.05)])
def test_the_paper_s_mixtures_are_within_one_sequence_though_sources_fill_theirs_differently(weights):
    tokens = [[4000] * 50, [2000] * 9, [3000] * 8, [3900] * 5][: len(weights)]
    spent = run(Mixture(weights, tokens, NAMES[: len(weights)], seed=0), tokens, 3000)
    off = np.abs(spent - np.array(weights) * spent.sum(axis=1, keepdims=True))
    assert off.max() < 4000


@settings(max_examples=30, deadline=None)
@given(sources(), st.lists(st.integers(0, 2000), min_size=1, max_size=20), st.data())
def test_order_is_a_function_of_seed_and_number_alone(given_sources, numbers, data):
    weights, tokens = given_sources
    later = data.draw(st.permutations(weights))

    def make():
        return Mixture(weights, tokens, NAMES[: len(weights)], seed=3, changes=[(40, later)])

    one = make()
    assert [one.place(n) for n in numbers] == [make().place(n) for n in numbers]


@settings(max_examples=30, deadline=None)
@given(sources())
def test_an_epoch_visits_every_sequence_once_in_an_order_of_its_own(given_sources):
    weights, tokens = given_sources
    mixture = Mixture(weights, tokens, NAMES[: len(weights)], seed=0)
    rows = {}
    for n in range(200):
        place = mixture.place(n)
        rows.setdefault((place.source, place.epoch), []).append(place.row)
    for (source, epoch), seen in rows.items():
        if (source, epoch + 1) in rows:
            assert sorted(seen) == list(range(len(tokens[source])))
    counts = Counter(source for (source, _), seen in rows.items() for _ in seen)
    assert mixture.epochs(200) == {NAMES[i]: counts[i] / len(each) for i, each in enumerate(tokens)}


def test_a_second_epoch_has_another_order():
    mixture = Mixture([1], [20], ["code"], seed=0)
    assert [mixture.place(n).row for n in range(20)] != [mixture.place(n).row for n in range(20, 40)]


def test_adding_a_source_does_not_reorder_another():
    alone = Mixture([1], [30], ["code"], seed=0)
    together = Mixture([1, 1], [30, 4], ["code", "natural"], seed=0)
    rows = [together.place(n).row for n in range(60) if together.place(n).source == 0]
    assert rows == [alone.place(n).row for n in range(30)]


def test_shares_change_at_their_step_and_epochs_go_on():
    mixture = Mixture([1, 0], [50, 50], ["a", "b"], 0, changes=[(40, [1, 3]), (120, [0, 1])])
    drawn = [mixture.place(n).source for n in range(200)]
    assert Counter(drawn[:40]) == {0: 40}
    assert Counter(drawn[40:120]) == {0: 20, 1: 60}
    assert Counter(drawn[120:]) == {1: 80}
    first = [mixture.place(n) for n in range(120) if drawn[n] == 0]
    assert [place.epoch for place in first] == [0] * 50 + [1] * 10


@settings(max_examples=40, deadline=None)
@given(sources(3), st.integers(1, 3))
def test_a_source_that_was_seen_enough_gives_way_to_the_others(given_sources, times):
    weights, tokens = given_sources
    # A share of a hundredth would be seen three times after more sequences than are looked at.
    weights, tokens = [*(max(each, 0.05) for each in weights), 0.2], [*tokens, [70] * 1000]
    names = [*NAMES[: len(weights) - 1], "rest"]
    mixture = Mixture(weights, tokens, names, seed=2, max_epochs={"a": times})
    at = next(n for n in range(4000) if mixture.epochs(n)["a"] == times)
    length = at + 60
    lines = mixture.check(length)
    assert len(lines) == 1
    assert f"a will have been seen {times} times" in lines[0]
    assert mixture.check(at) == []
    assert mixture.epochs(length)["a"] == times
    spent = run(mixture, tokens, length)
    later = spent[at:] - spent[at]
    share = np.array(weights[1:]) / sum(weights[1:])
    off = np.abs(later[:, 1:] - share * later.sum(axis=1, keepdims=True)) / 100
    assert later[-1, 0] == 0
    assert off.max() < 2 * (1 + share.max() * len(weights)) / 2


def test_nothing_left_is_one_line_with_the_numbers_before_training_begins():
    mixture = Mixture([3, 1], [6, 5], ["code", "natural"], 0, max_epochs={"code": 2, "natural": 4})
    assert len(mixture.check(32)) == 1
    drawn = Counter((mixture.place(n).source, mixture.place(n).epoch, mixture.place(n).row) for n in range(32))
    assert set(drawn.values()) == {1}
    assert mixture.epochs(32) == {"code": 2, "natural": 4}
    with pytest.raises(CodecriaError, match=r"needs 33 sequences .* leaves 32 \(code 6, natural 5 an epoch\)"):
        mixture.check(33)


def test_ten_million_sequences_on_is_as_quick_as_the_first():
    tokens = [np.full(3000, 4000), np.full(500, 3900), np.full(100, 3000)]
    mixture = Mixture([0.85, 0.08, 0.07], tokens, NAMES[:3], 0, changes=[(5_000_000, [0.5, 0.3, 0.2])])
    place = mixture.place(10_000_000)
    assert place == Mixture([0.85, 0.08, 0.07], tokens, NAMES[:3], 0, [(5_000_000, [0.5, 0.3, 0.2])]).place(10_000_000)
    epochs = mixture.epochs(10_000_000).values()
    assert sum(count * len(each) for count, each in zip(epochs, tokens, strict=True)) == pytest.approx(10_000_000)

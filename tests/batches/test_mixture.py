from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.batches.mixture import Mixture


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5), st.integers(1, 500))
def test_every_prefix_is_within_one_sequence_of_the_weights(weights, length):
    mixture = Mixture(weights, [7] * len(weights), [str(n) for n in range(len(weights))], seed=1)
    counts = Counter(mixture.place(n).source for n in range(length))
    for source, weight in enumerate(weights):
        assert abs(counts[source] - length * weight / sum(weights)) < len(weights)


def test_order_is_a_function_of_seed_and_number_alone():
    def make():
        return Mixture([85, 8, 7], [50, 5, 3], ["code", "code-related", "natural"], seed=3)

    forward = [make().place(n) for n in range(0, 9000, 450)]
    one = make()
    assert [one.place(n) for n in reversed(range(0, 9000, 450))] == forward[::-1]


def test_an_epoch_visits_every_sequence_once_in_an_order_of_its_own():
    mixture = Mixture([1], [20], ["code"], seed=0)
    epochs = [[mixture.place(n) for n in range(start, start + 20)] for start in (0, 20)]
    for number, epoch in enumerate(epochs):
        assert sorted(place.row for place in epoch) == list(range(20))
        assert {place.epoch for place in epoch} == {number}
    assert [place.row for place in epochs[0]] != [place.row for place in epochs[1]]


def test_adding_a_source_does_not_reorder_another():
    alone = Mixture([1], [30], ["code"], seed=0)
    together = Mixture([1, 1], [30, 4], ["code", "natural"], seed=0)
    rows = [together.place(n).row for n in range(60) if together.place(n).source == 0]
    assert rows == [alone.place(n).row for n in range(30)]


@pytest.mark.parametrize("n", [63, 64, 65, 20_000])
def test_block_boundaries(n):
    fresh, walked = Mixture([3, 1], [9, 2], ["a", "b"], 0), Mixture([3, 1], [9, 2], ["a", "b"], 0)
    for earlier in range(n - 3, n):
        walked.place(earlier)
    assert fresh.place(n) == walked.place(n)

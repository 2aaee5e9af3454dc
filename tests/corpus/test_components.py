import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from codecria.corpus.components import NO_KEY, Components, bucket_pairs, group_components

TABLES = st.integers(1, 60).flatmap(
    lambda count: st.lists(
        st.lists(st.integers(0, 25), min_size=count, max_size=count).map(lambda keys: np.array(keys, dtype=np.uint64)),
        max_size=5,
    ).map(lambda bands: (count, bands))
)


def joined(count: int, bands: list[np.ndarray]) -> np.ndarray:
    components = Components(count)
    for keys in bands:
        components.link(*bucket_pairs(keys))
    return components.labels()


def by_brute_force(count: int, bands: list[np.ndarray]) -> np.ndarray:
    """The smallest document of each component, from the edges between all documents of every bucket."""
    edges = [
        (one, other)
        for keys in bands
        for one in range(count)
        for other in range(one)
        if keys[one] == keys[other] != NO_KEY
    ]
    first, second = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    _, numbers = connected_components(coo_matrix((np.ones(first.size), (first, second)), shape=(count, count)))
    smallest = np.full(count, count)
    np.minimum.at(smallest, numbers, np.arange(count))
    return smallest[numbers]


@settings(max_examples=150, deadline=None)
@given(TABLES)
def test_labels_are_those_of_joining_every_pair_of_a_bucket(table):
    count, bands = table
    assert joined(count, bands).tolist() == by_brute_force(count, bands).tolist()


@settings(max_examples=50, deadline=None)
@given(TABLES, st.randoms())
def test_labels_do_not_depend_on_the_order_of_bands_or_parts(table, random):
    count, bands = table
    expected = joined(count, bands).tolist()
    components = Components(count)
    for keys in random.sample(bands, len(bands)):
        order = np.array(random.sample(range(count), count))
        first, other = bucket_pairs(keys[order])
        components.link(order[first], order[other])
    assert components.labels().tolist() == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 8), max_size=50).map(lambda keys: np.array(keys, dtype=np.uint64)))
def test_a_bucket_of_k_documents_gives_a_star_of_k_less_one_edges(keys):
    first, other = bucket_pairs(keys)
    for key in set(keys.tolist()) - {int(NO_KEY)}:
        places = np.flatnonzero(keys == key)
        assert sorted(other[keys[first] == key].tolist()) == places[1:].tolist()
        assert set(first[keys[first] == key].tolist()) <= {int(places[0])}
    assert (keys[first] == keys[other]).all()
    assert (keys[first] != NO_KEY).all()


def test_bands_joined_apart_are_bands_joined_together():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 3_000, (8, 2_000), dtype=np.uint64)
    apart = Components(2_000)
    for first, other in map(bucket_pairs, keys[::-1]):
        apart.link(first, other)
    assert (apart.labels() == joined(2_000, list(keys))).all()


@pytest.mark.parametrize("seed", [None, 1])
def test_a_chain_of_100_000_documents_takes_no_time(seed):
    places = np.arange(100_000) if seed is None else np.random.default_rng(seed).permutation(100_000)
    components = Components(100_000)
    began = time.process_time()
    components.link(places[:-1], places[1:])
    assert (components.labels() == 0).all()
    assert time.process_time() - began < 10


def test_a_bucket_of_a_million_documents_takes_no_time():
    began = time.process_time()
    components = Components(1_000_000)
    components.link(*bucket_pairs(np.full(1_000_000, 7, dtype=np.uint64)))
    assert (components.labels() == 0).all()
    assert time.process_time() - began < 10


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), max_size=60), st.integers(1, 30))
def test_groups_hold_whole_components_and_keep_to_the_limit(drawn, limit):
    labels = np.array([label for label, _ in drawn], dtype=np.int64)
    # A label is the smallest document of the component.
    labels = np.array([np.flatnonzero(labels == label)[0] for label in labels], dtype=np.int64)
    weights = np.array([weight for _, weight in drawn], dtype=np.int64)
    groups = group_components(labels, weights, limit)
    together = np.concatenate([*groups, np.empty(0, dtype=np.int64)])
    assert sorted(together.tolist()) == [one for one in range(len(drawn)) if (labels == labels[one]).sum() > 1]
    for number, group in enumerate(groups):
        assert (np.diff(group) > 0).all()
        assert not set(labels[group]) & {label for other in groups[:number] for label in labels[other]}
        assert weights[group].sum() <= limit or len(set(labels[group])) == 1


def test_small_components_share_a_group():
    labels = np.array([0, 0, 2, 2, 4, 5, 5, 5])
    groups = group_components(labels, np.ones(8, dtype=np.int64), limit=4)
    assert [group.tolist() for group in groups] == [[0, 1, 2, 3], [5, 6, 7]]

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from codecria.corpus.components import NO_KEY, Components, bucket_pairs, group_components
from codecria.corpus.near_duplicates import (
    NearDuplicateRecipe,
    band_keys,
    find_near_duplicates,
)
from codecria.corpus.shingles import ShingleSets, jaccard, shingle_hashes

THOROUGH = NearDuplicateRecipe(bands=51, rows=5)


def words(rng: np.random.Generator, count: int) -> list[str]:
    return [f"w{number}" for number in rng.integers(0, 5_000, count)]


def edited(rng: np.random.Generator, tokens: list[str], changes: int) -> list[str]:
    """The same words with some of them replaced."""
    result = list(tokens)
    for place in rng.choice(len(tokens), changes, replace=False):
        result[place] = f"edit{rng.integers(0, 10**9)}"
    return result


def planted(seed: int, originals: int = 120) -> list[str]:
    """Texts of 200 words, each with four copies of which 1, 3, 6 and 20 words are replaced."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(originals):
        tokens = words(rng, 200)
        texts += [" ".join(tokens)] + [" ".join(edited(rng, tokens, changes)) for changes in (1, 3, 6, 20)]
    return texts


def search(texts: list[str], recipe: NearDuplicateRecipe, rank: list[int] | None = None):
    sets = ShingleSets.of([shingle_hashes(text) for text in texts])
    order = np.array(range(len(texts)) if rank is None else rank, dtype=np.int64)
    return sets, find_near_duplicates(sets, order, recipe)


def by_brute_force(sets: ShingleSets, rank: list[int], threshold: float) -> set[int]:
    kept: list[int] = []
    dropped: set[int] = set()
    for document in rank:
        if any(jaccard(sets[document], sets[one]) >= threshold for one in kept):
            dropped.add(document)
        else:
            kept.append(document)
    return dropped


@pytest.mark.parametrize("method", ["rensa", "numpy"])
def test_finds_what_comparing_every_pair_finds(method):
    texts = planted(seed=0)
    recipe = NearDuplicateRecipe(bands=51, rows=5, signatures=method)
    sets, found = search(texts, recipe)
    expected = by_brute_force(sets, list(range(len(texts))), recipe.threshold)
    dropped = set(np.flatnonzero(found.kept_for >= 0).tolist())
    assert 240 <= len(expected) <= 400
    assert len(dropped & expected) >= 0.995 * len(expected)
    assert dropped <= expected


@pytest.mark.parametrize(("bands", "rows"), [(25, 10), (12, 12), (42, 6)])
def test_bands_find_what_their_formula_says(bands, rows):
    rng = np.random.default_rng(7)
    recipe = NearDuplicateRecipe(bands=bands, rows=rows)
    texts: list[str] = []
    for _ in range(300):
        tokens = words(rng, 200)
        texts += [" ".join(tokens), " ".join(edited(rng, tokens, 6))]
    sets, found = search(texts, recipe)
    hits, chances = 0, []
    for first in range(0, len(texts), 2):
        similarity = jaccard(sets[first], sets[first + 1])
        if similarity >= recipe.threshold:
            chances.append(1 - (1 - similarity**rows) ** bands)
            hits += bool(found.kept_for[first + 1] == first)
    assert len(chances) > 150
    deviation = np.sqrt(sum(chance * (1 - chance) for chance in chances))
    assert abs(hits - sum(chances)) <= 4 * deviation + 1


def test_every_dropped_document_is_similar_to_its_kept_one():
    texts = planted(seed=1)
    sets, found = search(texts, NearDuplicateRecipe())
    dropped = np.flatnonzero(found.kept_for >= 0).tolist()
    assert dropped
    for document in dropped:
        kept = int(found.kept_for[document])
        assert found.kept_for[kept] == -1
        assert kept < document
        assert jaccard(sets[document], sets[kept]) == pytest.approx(float(found.similarity[document]))
        assert found.similarity[document] >= 0.7


def test_a_chain_deletes_only_its_links():
    # A chain of windows over one long text: neighbours are 0.82 similar, the ends not at all.
    tokens = words(np.random.default_rng(3), 2_000)
    texts = [" ".join(tokens[at : at + 204]) for at in range(0, 1_000, 20)]
    sets, found = search(texts, THOROUGH)
    neighbours = [jaccard(sets[one], sets[one + 1]) for one in range(len(texts) - 1)]
    assert min(neighbours) > 0.7
    assert jaccard(sets[0], sets[2]) < 0.7
    # Union-find would leave one of 50; stars leave every second one.
    assert np.flatnonzero(found.kept_for == -1).tolist() == list(range(0, 50, 2))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_the_result_does_not_depend_on_the_order_of_the_input(seed: int):
    texts = planted(seed=2, originals=25) + boilerplate(20)
    recipe = NearDuplicateRecipe(comparisons=8)
    assert dropped_texts(texts, recipe) == dropped_texts(
        [texts[one] for one in np.random.default_rng(seed).permutation(len(texts))], recipe
    )


def dropped_texts(texts: list[str], recipe: NearDuplicateRecipe) -> dict[str, str]:
    by_text = sorted(range(len(texts)), key=lambda one: texts[one])
    _, found = search(texts, recipe, rank=by_text)
    return {texts[one]: texts[kept] for one, kept in enumerate(found.kept_for.tolist()) if kept >= 0}


@st.composite
def families(draw: st.DrawFn) -> ShingleSets:
    """Sets of hashes: originals, edited copies of them, chains of windows, boilerplate, strangers, empty sets."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sets: list[np.ndarray] = []
    for kind in draw(st.lists(st.sampled_from(["copies", "chain", "boilerplate", "stranger", "empty"]), max_size=8)):
        long = rng.integers(0, 2**32, 600, dtype=np.uint32)
        if kind == "copies":
            sets += [long[rng.random(600) < rng.uniform(0.7, 1)] for _ in range(draw(st.integers(2, 6)))]
        elif kind == "chain":
            sets += [long[at : at + 200] for at in range(0, 300, draw(st.integers(15, 60)))]
        elif kind == "boilerplate":
            own = rng.integers(0, 2**32, (12, 100), dtype=np.uint32)
            sets += [np.concatenate([long[:200], each]) for each in own]
        else:
            sets.append(long[: 0 if kind == "empty" else 50])
    order = rng.permutation(len(sets)).tolist()
    return ShingleSets.of([np.unique(sets[one]) for one in order])


@settings(max_examples=60, deadline=None)
@given(families(), st.sampled_from([3, 512]), st.integers(0, 3000), st.booleans(), st.randoms())
def test_components_searched_apart_give_what_one_search_gives(sets, comparisons, limit, with_fixed, random):
    recipe = NearDuplicateRecipe(comparisons=comparisons)
    rank = np.array(random.sample(range(len(sets)), len(sets)), dtype=np.int64)
    fixed = np.array([random.random() < 0.3 for _ in range(len(sets))], dtype=np.bool_) if with_fixed else None
    whole = find_near_duplicates(sets, rank, recipe, fixed=fixed)
    components = Components(len(sets))
    for keys in band_keys(sets, recipe):
        components.link(*bucket_pairs(keys))
    kept_for, similarity = np.full(len(sets), -1), np.zeros(len(sets), dtype=np.float32)
    candidates = 0
    for group in group_components(components.labels(), np.diff(sets.offsets), limit):
        part = ShingleSets.of([sets[one] for one in group.tolist()])
        place = np.argsort(rank)
        local = np.argsort(place[group])
        found = find_near_duplicates(part, local, recipe, fixed=None if fixed is None else fixed[group])
        kept_for[group] = np.where(found.kept_for >= 0, group[found.kept_for], -1)
        similarity[group] = found.similarity
        candidates += found.candidates
    assert kept_for.tolist() == whole.kept_for.tolist()
    assert similarity.tolist() == whole.similarity.tolist()
    assert candidates == whole.candidates


def test_keys_of_parts_are_the_keys_of_the_whole():
    sets = ShingleSets.of([shingle_hashes(text) for text in [*planted(seed=4, originals=30), "too short"]])
    whole = band_keys(sets, THOROUGH, seed=5)
    parts = [
        ShingleSets.of([sets[one] for one in range(at, min(at + 70, len(sets)))]) for at in range(0, len(sets), 70)
    ]
    assert (np.concatenate([band_keys(part, THOROUGH, seed=5) for part in parts], axis=1) == whole).all()
    assert whole.shape == (51, 151)
    assert (whole[:, -1] == NO_KEY).all()
    assert (whole[:, :-1] != NO_KEY).all()
    assert (band_keys(sets, THOROUGH, seed=6) != whole)[:, :-1].mean() > 0.99


def test_documents_of_an_earlier_corpus_stay_and_new_ones_fall_to_them():
    rng = np.random.default_rng(9)
    tokens = words(rng, 200)
    texts = [" ".join(edited(rng, tokens, changes)) for changes in (0, 2, 2, 2)] + [" ".join(words(rng, 200))]
    sets = ShingleSets.of([shingle_hashes(text) for text in texts])
    fixed = np.array([False, False, True, True, False])
    found = find_near_duplicates(sets, np.arange(5), NearDuplicateRecipe(), fixed=fixed)
    assert found.kept_for[2:].tolist() == [-1, -1, -1]
    assert set(found.kept_for[:2].tolist()) <= {2, 3}


def test_short_files_are_not_copies_of_each_other():
    # BigCode's first recipe gives all files under five tokens one signature and keeps one of them.
    texts = ["", "pass", "import os", "x = 1", "from . import a, b", "from . import c, d"]
    _, found = search(texts, NearDuplicateRecipe())
    assert (found.kept_for == -1).all()


def test_blank_space_is_not_a_word():
    # Splitting on each single blank counts empty words as tokens, so that indentation makes two texts alike.
    first = "\n".join(f"{' ' * 60}alpha{n}" for n in range(6))
    second = "\n".join(f"{' ' * 60}omega{n}" for n in range(6))
    _, found = search([first, second], THOROUGH)
    assert (found.kept_for == -1).all()


def boilerplate(count: int) -> list[str]:
    """Files that are half the same text and half their own."""
    rng = np.random.default_rng(5)
    common = words(rng, 150)
    return [" ".join(common + words(rng, 150)) for _ in range(count)]


@pytest.mark.parametrize("count", [300, 1_200])
def test_a_bucket_full_of_boilerplate_is_not_quadratic(count):
    # One row per band: nearly every pair of these files shares a bucket.
    recipe = NearDuplicateRecipe(bands=64, rows=1, comparisons=40)
    texts = boilerplate(count)
    _, found = search(texts, recipe)
    assert found.capped > 0.8 * count
    assert found.candidates <= 40 * count
    assert (found.kept_for == -1).all()


def test_10_000_files_of_one_licence_header_take_seconds():
    # A self-join of their buckets, as text-dedup does, makes 50 million pairs a band.
    rng = np.random.default_rng(11)
    header = words(rng, 180)
    sets = ShingleSets.of([shingle_hashes(" ".join(header + words(rng, own))) for own in [20] * 5_000 + [150] * 5_000])
    began = time.process_time()
    found = find_near_duplicates(sets, np.arange(10_000), NearDuplicateRecipe())
    assert time.process_time() - began < 60
    assert (found.kept_for[1:5_000] == 0).all()
    assert (found.kept_for[5_000:] == -1).all()
    assert found.candidates <= 10_000 * 512


def test_the_cap_still_finds_copies_through_rare_buckets():
    texts = boilerplate(600)
    rng = np.random.default_rng(6)
    copies = [" ".join(edited(rng, text.split(), 2)) for text in texts[400:]]
    _, found = search(texts + copies, NearDuplicateRecipe(bands=128, rows=2, comparisons=40))
    assert found.kept_for[600:].tolist() == list(range(400, 600))


def test_candidates_that_only_share_a_bucket_are_not_dropped():
    # 0.45 similar: with one row per band all are candidates, none is a copy.
    _, found = search(boilerplate(50), NearDuplicateRecipe(bands=256, rows=1))
    assert found.candidates == 50 * 49 // 2
    assert (found.kept_for == -1).all()


def test_documents_outside_the_rank_are_left_alone():
    text = " ".join(words(np.random.default_rng(8), 100))
    _, found = search([text, text, text], NearDuplicateRecipe(), rank=[2, 1])
    assert found.kept_for.tolist() == [-1, 2, -1]


def test_bands_must_fit_the_signature():
    with pytest.raises(ValidationError, match="30 bands of 10 rows need 300 permutations, not 256"):
        NearDuplicateRecipe(bands=30, rows=10)

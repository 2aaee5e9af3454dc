import numpy as np
import pytest

from codecria.common.random import draw_uniform
from codecria.corpus.parts import INDEX
from codecria.corpus.selection import Census, HeldOutRecipe, choose_held_out, choose_taken, rank_documents


def census_of(rows: list[tuple[str, dict]]) -> Census:
    """A census of documents given by package and the fields that differ from 1,000 bytes of code."""
    names = list(dict.fromkeys(package for package, _ in rows))
    index = np.zeros(len(rows), dtype=INDEX)
    for number, (package, fields) in enumerate(rows):
        index[number]["size_bytes"] = 1_000
        index[number]["package"] = names.index(package)
        index[number]["draw"] = draw_uniform("draw", package, number)
        index[number]["held_out_draw"] = draw_uniform("held out", package, number)
        for field, value in ((name, value) for name, value in fields.items() if name != "_"):
            index[number][field] = value
    fixed = np.array(["earlier" in fields.get("_", "") for _, fields in rows])
    return Census([], index, np.array([0, len(rows)]), fixed, names)


def packages(count: int = 40, files: int = 10) -> list[tuple[str, dict]]:
    return [(f"p{package:02}", {}) for package in range(count) for _ in range(files)]


def held_names(census: Census, held: np.ndarray) -> set[str]:
    return {census.packages[number] for number in census.index["package"][held].tolist()}


def test_packages_are_held_out_whole():
    census = census_of(packages())
    held_out = choose_held_out(census, HeldOutRecipe(share=0.1), seed=0)
    assert held_out.unit == "package"
    assert len(held_out.packages) == 4
    held = held_out.of(census)
    assert held.sum() == 40
    assert held_names(census, held) == held_out.packages
    assert not held_names(census, ~held) & held_out.packages


def test_the_draw_depends_on_seed_and_names_alone():
    recipe = HeldOutRecipe(share=0.1)
    first = choose_held_out(census_of(packages()), recipe, seed=0)
    assert choose_held_out(census_of(packages()[::-1]), recipe, seed=0) == first
    assert choose_held_out(census_of(packages()), recipe, seed=1) != first
    fewer = [one for one in packages() if one[0] not in ("p00", "p01")]
    assert len(choose_held_out(census_of(fewer), recipe, seed=0).packages & first.packages) >= 3


def test_named_numbered_large_and_no_packages():
    census = census_of([*packages(), ("huge", {"size_bytes": 500_000})])
    for seed in range(20):
        assert "huge" not in choose_held_out(census, HeldOutRecipe(share=0.5), seed).packages
    named = choose_held_out(census, HeldOutRecipe(packages=2, names=["huge"]), 0)
    assert len(named.packages) == 3
    assert "huge" in named.packages
    assert choose_held_out(census, HeldOutRecipe(share=0), 0).unit == "none"
    assert choose_held_out(census, HeldOutRecipe(packages=0), 0).unit == "none"
    again = choose_held_out(census, HeldOutRecipe(packages=2), 0, kept_out=frozenset({"p07"}))
    assert "p07" in again.packages


def test_a_single_package_is_split_by_files():
    census = census_of(packages(count=1, files=400))
    held_out = choose_held_out(census, HeldOutRecipe(share=0.1), 0)
    assert held_out.unit == "file"
    assert 20 <= held_out.of(census).sum() <= 60


def test_a_cap_takes_the_smallest_draws_of_its_kind():
    census = census_of([*packages(count=2, files=30), *[("q", {"kind": 1})] * 5])
    nothing = np.zeros(len(census), dtype=bool)
    taken = choose_taken(census, nothing, {"code": 20_500}, HeldOutRecipe())
    code = census.index["kind"] == 0
    assert taken[code].sum() == 20
    assert census.index["draw"][taken & code].max() < census.index["draw"][~taken & code].min()
    assert taken[~code].all()
    more = choose_taken(census, nothing, {"code": 30_000}, HeldOutRecipe())
    assert (more | ~taken).all()


def test_held_out_packages_are_cut_by_files_and_bytes():
    census = census_of(packages(count=4, files=20))
    held = census.index["package"] < 3
    few = choose_taken(census, held, {}, HeldOutRecipe(max_files_per_package=5))
    assert np.bincount(census.index["package"][few]).tolist() == [5, 5, 5, 20]
    small = choose_taken(census, held, {}, HeldOutRecipe(max_bytes=7_999))
    assert small[held].sum() == 7
    assert small[~held].all()


def test_earlier_documents_are_kept_and_stay_in_their_split():
    census = census_of([("a", {"_": "earlier", "held_out": True}), ("a", {"_": "earlier"}), ("a", {}), ("b", {})])
    held_out = choose_held_out(census, HeldOutRecipe(names=["a"], share=0), 0)
    held = held_out.of(census)
    assert held.tolist() == [True, False, True, False]
    assert choose_taken(census, held, {"code": 1}, HeldOutRecipe(max_bytes=1)).tolist() == [True, True, False, False]


BEST_FIRST = [
    {"_": "earlier", "permissive": False},
    {"permissive": True, "published_s": 200},
    {"permissive": True, "published_s": 100},
    {"permissive": True, "published_s": 100, "depth": 3},
    {"permissive": True, "published_s": 900, "kind": 1},
    {"permissive": True, "published_s": 900, "vendored": True},
    {"permissive": False, "published_s": 999},
]


@pytest.mark.parametrize("seed", range(5))
def test_the_rank_is_licence_then_recency_then_path(seed):
    order = np.random.default_rng(seed).permutation(len(BEST_FIRST))
    census = census_of([("a", BEST_FIRST[place]) for place in order])
    nothing = np.zeros(len(census), dtype=bool)
    ranked = rank_documents(census, nothing, np.arange(len(census)))
    assert order[ranked].tolist() == list(range(len(BEST_FIRST)))


def test_training_ranks_before_held_out():
    census = census_of([("a", {"permissive": True}), ("b", {})])
    assert rank_documents(census, np.array([True, False]), np.arange(2)).tolist() == [1, 0]

import pytest

from codecria.corpus.selection import Budget, HeldOutRecipe, choose_held_out, list_candidates, order_candidates
from codecria.corpus.sources.source import Candidate, docstrings_of


def candidate(package: str, number: int, size_bytes: int = 1_000) -> Candidate:
    path = f"{package}/m{number}.py"
    return Candidate(f"/s/{path}", "file", "code", "Python", "MIT", package, f"{package} 1", path, size_bytes, 0)


def candidates(packages: int = 40, files: int = 10) -> list[Candidate]:
    plain = [candidate(f"p{package:02}", number) for package in range(packages) for number in range(files)]
    return [form for one in plain for form in (one, docstrings_of(one))]


class Listed:
    def __init__(self, files: list[Candidate]) -> None:
        self.files = files

    def documents(self):
        return iter(self.files)

    def describe(self):
        return "a list"


def test_packages_are_held_out_whole():
    held_out = choose_held_out(candidates(), HeldOutRecipe(share=0.1), seed=0)
    assert held_out.unit == "package"
    assert len(held_out.packages) == 4
    splits = {one.package: held_out.split(one) for one in candidates()}
    assert {name for name, split in splits.items() if split == "held_out"} == held_out.packages


def test_the_draw_depends_on_seed_and_names_alone():
    recipe = HeldOutRecipe(share=0.1)
    first = choose_held_out(candidates(), recipe, seed=0)
    assert choose_held_out(candidates()[::-1], recipe, seed=0) == first
    assert choose_held_out(candidates(), recipe, seed=1) != first
    fewer = [one for one in candidates() if one.package not in ("p00", "p01")]
    kept = choose_held_out(fewer, recipe, seed=0).packages
    assert len(kept & first.packages) >= 3


def test_named_numbered_large_and_no_packages():
    everything = [*candidates(), candidate("huge", 0, size_bytes=500_000)]
    for seed in range(20):
        assert "huge" not in choose_held_out(everything, HeldOutRecipe(share=0.5), seed).packages
    named = choose_held_out(everything, HeldOutRecipe(packages=2, names=["huge"]), 0)
    assert len(named.packages) == 3
    assert "huge" in named.packages
    assert choose_held_out(everything, HeldOutRecipe(share=0), 0).unit == "none"
    assert choose_held_out(everything, HeldOutRecipe(packages=0), 0).unit == "none"


def test_a_single_package_is_split_by_files():
    files = candidates(packages=1, files=400)
    held_out = choose_held_out(files, HeldOutRecipe(share=0.1), 0)
    assert held_out.unit == "file"
    held = [one for one in files if held_out.split(one) == "held_out"]
    assert 40 <= len(held) <= 120
    assert {one.file for one in held if one.form == "file"} == {one.file for one in held if one.form == "docstrings"}


def test_max_files_is_a_keyed_sample_of_files():
    files = candidates()
    held_out = choose_held_out(files, HeldOutRecipe(share=0), 0)

    def sample(listed, count, seed=0):
        return [one for _, one in order_candidates(listed, held_out, count, False, seed)]

    some = sample(files, 50)
    assert len({one.file for one in some}) == 50
    assert len(some) == 100
    assert sample(files[::-1], 50) == some
    assert sample(files, 60)[:100] == some
    assert sample(files, 50, seed=1) != some
    assert len({one.package for one in some}) > 20
    assert sample(files, None) == files


def test_training_comes_first_and_held_out_in_drawn_order():
    files = candidates()
    held_out = choose_held_out(files, HeldOutRecipe(packages=4), 0)
    ordered = list(order_candidates(files, held_out, None, False, 0))
    splits = [split for split, _ in ordered]
    assert splits == sorted(splits, reverse=True)
    held = [one for split, one in ordered if split == "held_out"]
    assert held != sorted(held, key=lambda one: one.path)


def test_budget():
    one, other = candidate("a", 0), docstrings_of(candidate("a", 0))
    budget = Budget({"code": 250}, HeldOutRecipe(max_files_per_package=2, max_bytes=1_000))
    assert budget.take("train", one, 100)
    assert budget.take("train", one, 150)
    assert budget.open_for("train", one)
    assert not budget.take("train", one, 1)
    assert not budget.open_for("train", one)
    assert budget.take("train", other, 10**9)
    assert budget.take("held_out", one, 400)
    assert budget.take("held_out", other, 400)
    assert not budget.open_for("held_out", one)
    assert not budget.take("held_out", candidate("b", 0), 300)
    assert not budget.open_for("held_out", candidate("c", 0))


def test_a_file_that_two_sources_give_is_taken_once():
    files = candidates(2, 2)
    once, twice = list_candidates([Listed(files)]), list_candidates([Listed(files), Listed(files)])
    assert twice.candidates == files
    assert once.digest == twice.digest


@pytest.mark.parametrize("change", [{"size_bytes": 7}, {"modified_ns": 5}, {"origin": "other 2"}])
def test_the_digest_tells_that_files_changed(change):
    one = candidate("a", 0)
    fields = {name: getattr(one, name) for name in Candidate.__dataclass_fields__}
    changed = Candidate(**{**fields, **change})
    assert list_candidates([Listed([one])]).digest != list_candidates([Listed([changed])]).digest

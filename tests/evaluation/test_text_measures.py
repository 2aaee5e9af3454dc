from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.evaluation.text_measures import edit_distance, edit_similarity, exact_match, line_similarity

words = st.text(alphabet="ab \n(é😀", max_size=12)


def by_definition(first: str, second: str) -> int:
    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        substitution = distance(i - 1, j - 1) + (first[i - 1] != second[j - 1])
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, substitution)

    return distance(len(first), len(second))


@given(words, words)
def test_the_distance_is_levenshtein_by_its_definition(first: str, second: str) -> None:
    assert edit_distance(first, second) == by_definition(first, second)


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [("kitten", "sitting", 3), ("flaw", "lawn", 2), ("", "abc", 3), ("abc", "abc", 0), ("intention", "execution", 5)],
)
def test_known_distances(first: str, second: str, distance: int) -> None:
    assert edit_distance(first, second) == distance == edit_distance(second, first)


def test_similarity_is_one_less_distance_over_the_longer() -> None:
    assert edit_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert edit_similarity("", "") == 1.0
    assert edit_similarity("", "abcd") == 0.0
    assert edit_similarity("return x", "return x") == 1.0


def test_exact_match_forgives_blanks_at_the_end_only() -> None:
    assert exact_match("    return x  \n", "    return x")
    assert not exact_match("return x", "    return x")
    assert not exact_match("    return  x", "    return x")
    assert not exact_match("    return x\n    pass", "    return x")


@given(words, words)
def test_line_similarity_is_fuzz_ratio_by_its_definition(first: str, second: str) -> None:
    @cache
    def common(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return 0
        if first[i - 1] == second[j - 1]:
            return common(i - 1, j - 1) + 1
        return max(common(i - 1, j), common(i, j - 1))

    both = len(first) + len(second)
    expected = 200 * common(len(first), len(second)) / both if first and second else 0.0
    assert 100 * line_similarity(first, second) == pytest.approx(round(expected))


def test_known_ratios() -> None:
    # thefuzz's own examples.
    assert line_similarity("this is a test", "this is a test!") == 0.97
    assert line_similarity("fuzzy wuzzy was a bear", "wuzzy fuzzy was a bear") == 0.91
    assert line_similarity("", "") == line_similarity("a", "") == 0.0

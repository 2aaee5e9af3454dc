from __future__ import annotations

import math

import pytest

from codecria.common.errors import CodecriaError
from codecria.evaluation.measures import find_measure


def test_figures_are_shown_in_their_units() -> None:
    assert find_measure("exact_match").show(0.4567) == "45.7 %"
    assert find_measure("bits_per_character").show(1.23456) == "1.235"
    assert find_measure("perplexity").show(math.log(12.344)) == "12.34"
    assert find_measure("exact_match").show_change(-0.0312) == "−3.1"
    assert find_measure("bits_per_byte").show_change(-0.0004) == "±0"
    assert find_measure("bits_per_byte").show_change(0.5) == "+0.500"
    assert find_measure("perplexity").show_change(math.log(0.9)) == "× 0.900"


def test_pass_at_any_k_is_a_measure() -> None:
    assert find_measure("pass@1").title == "pass@1"
    assert "100 samples" in find_measure("pass@100").explanation
    for name in ("pass@", "pass@x", "perplexity@", "retrieved@4000", "exactness"):
        with pytest.raises(CodecriaError, match=f"no measure is named '{name}'"):
            find_measure(name)


def test_figures_of_positions_and_of_depths_are_measures() -> None:
    assert find_measure("perplexity@128").title == "perplexity, first 128"
    assert find_measure("perplexity@4096").title == "perplexity, 2,048 to 4,095"
    assert find_measure("perplexity@4096").show(math.log(3)) == "3.00"
    cell = find_measure("retrieved@16384/0.25")
    assert (cell.title, cell.unit, cell.better) == ("key found, 16,384 tokens, depth 0.25", "%", "higher")

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
    for name in ("pass@", "pass@x", "exactness"):
        with pytest.raises(CodecriaError, match=f"no measure is named '{name}'"):
            find_measure(name)

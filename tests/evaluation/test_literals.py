from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.evaluation.literals import literal

NAMES = st.sampled_from(["inf", "-inf", "nan", "info", "banana", "float('nan')", "'", '"', "\\", "\n", "\ud800"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.builds(complex, st.floats(), st.floats())
    | st.text()
    | NAMES
    | st.binary(max_size=4)
)
KEYS = st.recursive(SCALARS, lambda parts: st.lists(parts, max_size=3).map(tuple), max_leaves=4)
VALUES = st.recursive(
    KEYS | st.sets(KEYS, max_size=3),
    lambda parts: (
        st.lists(parts, max_size=4) | st.lists(parts, max_size=3).map(tuple) | st.dictionaries(KEYS, parts, max_size=3)
    ),
    max_leaves=12,
)


def spelt(value: Any) -> Any:
    """What is equal exactly where values are of the same types, nan equal to nan and the signs of zeros told apart."""
    if isinstance(value, complex):
        return complex, repr(value.real), repr(value.imag)
    if isinstance(value, dict):
        return dict, [(spelt(key), spelt(part)) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [spelt(part) for part in value]
    if isinstance(value, set):
        return set, sorted(repr(spelt(part)) for part in value)
    return type(value), repr(value)


@given(VALUES)
def test_a_literal_evaluates_to_its_value(value: Any) -> None:
    assert spelt(eval(literal(value), {"__builtins__": {"float": float, "complex": complex, "set": set}})) == spelt(
        value
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([[math.nan, "info", "banana"]], "[[float('nan'), 'info', 'banana']]"),
        ([{"a": math.inf}], "[{'a': float('inf')}]"),
        ({-math.inf: ()}, "{float('-inf'): ()}"),
        (((1,), set(), {2}), "((1,), set(), {2},)"),
        (complex(-0.0, math.inf), "complex(-0.0, float('inf'))"),
        ({}, "{}"),
        (True, "True"),
    ],
)
def test_texts_are_left_alone_and_odd_floats_found_in_every_container(value: Any, text: str) -> None:
    assert literal(value) == text

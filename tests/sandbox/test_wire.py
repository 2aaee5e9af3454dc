from __future__ import annotations

import contextlib
import datetime
import math
import os
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.sandbox.server import wire

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**200), max_value=2**200),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.dates(),
    st.datetimes(timezones=st.sampled_from([None, datetime.UTC, datetime.timezone(datetime.timedelta(hours=-3))])),
    st.timedeltas(),
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 4)),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.lists(inner).map(deque),
        st.dictionaries(scalars, inner),
        st.dictionaries(scalars, inner).map(OrderedDict),
        st.frozensets(scalars),
        st.sets(scalars),
        st.dictionaries(scalars, st.integers()).map(Counter),
    ),
    max_leaves=20,
)


def no_reference(value: object) -> tuple[object, ...]:
    raise AssertionError(f"{value!r} is plain data")


def same(one: Any, other: Any) -> bool:
    """Equal, of equal types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(a, c) and same(b, d) for (a, b), (c, d) in zip(one.items(), other.items(), strict=True)
        )
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@given(values)
def test_plain_data_comes_back_equal_and_of_its_type(value: object) -> None:
    assert same(wire.decode(wire.encode(value, no_reference), no_reference), value)


@pytest.mark.parametrize("value", [0.0, -0.0, math.inf, -math.inf, math.nan, 1 << 63, -(1 << 63), -(1 << 63) - 1])
def test_numbers_at_the_edges(value: float) -> None:
    back = wire.decode(wire.encode(value, no_reference), no_reference)
    assert type(back) is type(value)
    assert repr(back) == repr(value)


def test_other_types_of_data() -> None:
    held = [bytearray(b"ab"), slice(1, None, 2), Ellipsis, NotImplemented, datetime.time(1, 2, tzinfo=datetime.UTC)]
    assert wire.decode(wire.encode(held, no_reference), no_reference) == held
    back = wire.decode(wire.encode(defaultdict(None, {1: [2]}), no_reference), no_reference)
    assert type(back) is defaultdict
    assert back == {1: [2]}
    assert wire.decode(wire.encode(deque([1, 2], 2), no_reference), no_reference).maxlen == 2
    assert wire.decode(wire.encode(Decimal("-0.10"), no_reference), no_reference).as_tuple().exponent == -2
    assert wire.decode(wire.encode(Fraction(1, 3), no_reference), no_reference) == Fraction(1, 3)


def test_subclasses_are_references() -> None:
    class Sly(int):
        pass

    assert wire.decode(wire.encode([Sly(3)], lambda value: ("mine", int(value))), list) == [["mine", 3]]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        wire.decode(data, repr)


@given(values, st.data())
def test_damaged_bytes_are_read_or_refused(value: object, data: st.DataObject) -> None:
    written = bytearray(wire.encode(value, no_reference))
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(wire.WireError):
        wire.decode(bytes(written), repr)


@pytest.mark.parametrize(
    "claim", [b"l\xff\xff\xff\xff", b"s\xff\xff\xff\xff", b"d\x01\x00\x00\x00l\0\0\0\0N", b"k", b"?"]
)
def test_claims_are_not_believed(claim: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(claim, no_reference)


def test_values_without_end_are_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(wire.WireError, match="holds itself"):
        wire.encode(loop, no_reference)
    with pytest.raises(wire.WireError, match="too deeply"):
        wire.decode(b"l\x01\x00\x00\x00" * 100_000 + b"N", no_reference)


def test_frames() -> None:
    reader, writer = os.pipe()
    wire.write_all(writer, wire.frame(b"one") + wire.frame(b"") + wire.frame(b"cut")[:-1])
    os.close(writer)
    assert [wire.read_frame(reader) for _ in range(4)] == [b"one", b"", None, None]
    os.close(reader)

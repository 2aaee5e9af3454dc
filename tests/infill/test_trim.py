import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.infill.trim import first_line, same_block, trim_overlap


@pytest.mark.parametrize(
    ("middle", "suffix", "expected"),
    [
        ("x + 1\n    return y\n", "\n    return y\n", "x + 1"),
        ("x + 1", "\n    return y\n", "x + 1"),
        ("x + 1)", ")\n", "x + 1)"),  # one bracket is usually meant
        ("value)\nprint(val", ")\nprint(value)\n", "value"),  # the echo was cut by the token limit
        ("a\nb = 2\nc", "\nb = 2\nc = 3\n", "a"),
        ("a\n    other()", "\nb = 2\n", "a\n    other()"),
        ("", "abc", ""),
        ("abc", "", "abc"),
    ],
)
def test_an_echo_of_the_suffix_is_cut(middle, suffix, expected):
    assert trim_overlap(middle, suffix) == expected


@given(st.text(max_size=30), st.text(max_size=30))
def test_trimming_only_shortens(middle, suffix):
    assert middle.startswith(trim_overlap(middle, suffix))


def test_first_line():
    assert first_line("a\nb") == "a"
    assert first_line("\nb") == ""
    assert first_line("") == ""
    assert first_line("a\r\nb") == "a"


def test_a_block_ends_where_the_indentation_falls():
    prefix = "def f():\n    for x in y:\n        "
    assert same_block("a()\n        b()\n\n        c()\n    return\n", prefix) == "a()\n        b()\n\n        c()"
    assert same_block("a()\n\tb()", "    ") == "a()\n\tb()"
    assert same_block("x\ny\nz", "") == "x\ny\nz"
    assert same_block("x\nq", "    if a:\n        b = ") == "x"

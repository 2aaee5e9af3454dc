import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.infill.trim import closed_bracket, first_line, open_quote, same_block, suffix_again, trim_overlap


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


def test_a_tab_may_count_as_one_character():
    """`n_indent` of llama.vim, llama.vscode and llama.cpp is a number of characters."""
    middle = " 1\n\t}\n\tgo()\n}\n"
    assert same_block(middle, "  ", tab=1) == " 1"
    assert same_block(middle, "  ") == " 1\n\t}\n\tgo()"


def test_a_block_ends_where_the_indentation_falls():
    prefix = "def f():\n    for x in y:\n        "
    assert same_block("a()\n        b()\n\n        c()\n    return\n", prefix) == "a()\n        b()\n\n        c()"
    assert same_block("a()\n\tb()", "    ") == "a()\n\tb()"
    assert same_block("x\ny\nz", "") == "x\ny\nz"
    assert same_block("x\nq", "    if a:\n        b = ") == "x"
    assert same_block("foo\r\nbar", "    x") == "foo"
    assert same_block("a\r\n\r\n    b\r\nc\r\n", "x\r\n    ") == "a\r\n\r\n    b"
    assert same_block("a\r\n    b\r\n", "    ") == "a\r\n    b\r\n"


@pytest.mark.parametrize(
    ("middle", "suffix", "expected"),
    [
        ("b, c)\nmore()", "\n", "b, c)"),
        ("b, c)\nmore()", ")\n", "b, c"),  # the editor has closed it
        ("b, c)\nmore()", "  )\n", "b, c"),
        ("f(b)[0], {1: (2)}) + 1", "", "f(b)[0], {1: (2)})"),
        ("')', c) + 1", "", "')', c)"),
        ('"\\")", c) + 1', "", '"\\")", c)'),
        ("""'''it's)\n)''', c) + 1""", "", """'''it's)\n)''', c)"""),
        ("b, # don't\n  c) + 1", "", "b, # don't\n  c)"),
        ("b, f(c", "", None),
        ("", ")", None),
    ],
)
def test_a_bracket_that_was_open_is_closed(middle, suffix, expected):
    place = closed_bracket(middle, open_quote("call(a, "), suffix)
    assert (None if place is None else middle[:place]) == expected


def test_a_bracket_in_the_string_at_the_cursor_closes_nothing():
    assert open_quote("print('a (") == "'"
    assert open_quote("print('a'\n") == ""
    assert open_quote('x = """one\n') == '"""'
    assert closed_bracket("b)', c) + 1", "'", "") == len("b)', c)")
    assert closed_bracket('b)\n"""', '"""', "") is None


@pytest.mark.parametrize(
    ("middle", "suffix", "expected"),
    [
        ("x\n    return total\n    # the end\nmore", "\n    return total\n    # the end\n", "x"),
        ("x)\n    return total\nmore", ")\n    return total\n", "x"),
        ("x\n\n\ndef other(a):\n    pass\n    more()", "\n\n\ndef other(a):\n    pass\n", "x"),
        ("x\n\ndef other(a):\n    return 1\nx", "\n\n\ndef other(a):\n    return 1\n", "x"),
        ("x\n    return total\n", "\n    return total\n", None),  # one line is not enough
        ("x\n  }\n}\n", "\n  }\n}\n", None),  # nor are brackets
        ("x", "", None),
    ],
)
def test_whole_lines_of_the_suffix_end_the_middle(middle, suffix, expected):
    place = suffix_again(middle, suffix, 12)
    assert (None if place is None else middle[:place]) == expected
    if expected is not None:
        assert trim_overlap(middle, suffix, sure=12) == expected

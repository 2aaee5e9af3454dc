from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codecria.generation.stopping import (
    BracketClosed,
    FirstLine,
    NoOverlap,
    SameBlock,
    StopStrings,
    TextWatch,
)


class Pieces:
    """Ids are places in a list of texts."""

    def __init__(self, texts):
        self.texts = texts

    def push(self, id):
        return self.texts[id]

    def finish(self):
        return ""


def watch(pieces, rules, **options):
    """The text that the pieces make, how many were taken, and what was shown after each."""
    reader = TextWatch(Pieces(pieces), tuple(rules), **options)
    shown = []
    for id in range(len(pieces)):
        shown.append(reader.push(id))
        if reader.ended:
            break
    else:
        shown.append(reader.finish())
    assert "".join(shown) == reader.text
    return reader.text, len(shown), shown


texts = st.text(alphabet="ab\n x", max_size=40)
some_rules = st.builds(
    lambda strings, line, block, suffix: [
        *([StopStrings(tuple(strings))] if strings else []),
        *([FirstLine()] if line else []),
        *([SameBlock(block)] if block is not None else []),
        *([NoOverlap(suffix)] if suffix is not None else []),
    ],
    st.lists(st.text(alphabet="ab\n x", min_size=1, max_size=5), max_size=3),
    st.booleans(),
    st.none() | st.text(alphabet="a \n", max_size=8),
    st.none() | st.text(alphabet="ab\n x", max_size=12),
)


@settings(max_examples=500, deadline=None)
@given(texts, some_rules, st.lists(st.integers(0, 40), max_size=12))
@example("fooXY", [StopStrings(("XY",)), NoOverlap("foo")], [3, 4])
@example("a\nXYb", [StopStrings(("\nXYZ", "XY")), FirstLine()], [2, 3])
@example("a\nfoo\nb", [NoOverlap("foo\nbar")], [1, 2, 5])
@example("aab  x\naab", [StopStrings(("ab",)), NoOverlap("aab")], [])
def test_the_text_does_not_depend_on_the_tokens(text, rules, cuts):
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:stop] for start, stop in pairwise(places)]
    expected = text
    for rule in rules:
        expected = expected[: rule.cut(expected)]
    assert watch(pieces, rules)[0] == expected
    assert watch(list(text), rules)[0] == expected


@settings(max_examples=300, deadline=None)
@given(texts, st.text(alphabet="a ", max_size=4), st.lists(st.integers(0, 60), max_size=12))
@example("foo\nbar", "    x", [])
def test_a_block_in_text_with_cr_lf_ends_without_a_carriage_return(text, prefix, cuts):
    rule, text = SameBlock(prefix), text.replace("\n", "\r\n")
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    expected = text[: rule.cut(text)]
    assert "\r" not in expected.replace("\r\n", "")
    for pieces in (list(text), [text[start:stop] for start, stop in pairwise(places)]):
        assert watch(pieces, [rule])[0] == expected


@settings(max_examples=300, deadline=None)
@given(texts, some_rules, st.lists(st.text(alphabet="ab\n", min_size=1, max_size=3), max_size=2))
@example("total\nprint(x)", [SameBlock("    return ")], [])
@example("a\n\nb", [], ["\n\n"])
def test_carriage_returns_are_put_back_behind_the_rules(text, rules, stop):
    expected = watch(list(text), rules, stop=tuple(stop))[0].replace("\n", "\r\n")
    written = tuple(each.replace("\n", "\r\n") for each in stop)
    for strings in (tuple(stop), written):
        assert watch(list(text), rules, stop=strings, returns=True)[0] == expected
        assert watch(list(text.replace("\n", "\r\n")), rules, stop=strings, returns=True)[0] == expected


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet="ab\n x", max_size=12),
    st.text(alphabet="ab\n x", max_size=12),
    st.text(alphabet="ab\n x", max_size=6),
    st.integers(0, 12),
    st.integers(0, 3),
)
@example("a\n", "\n\naab", "", 12, 2)
@example("a\n", "aab", "\nx", 3, 0)
def test_an_echo_is_never_shown(head, suffix, tail, length, skipped):
    """The text repeats the suffix's first characters, perhaps without its first line ends, perhaps going on after."""
    text = head + suffix[skipped:length] + tail
    rule = NoOverlap(suffix)
    assert watch(list(text), [rule])[0] == text[: rule.cut(text)]


@pytest.mark.parametrize(
    ("pieces", "stop", "text", "taken"),
    [
        (["def f", "oo(", "):\n", "\nde", "f bar", " never"], ("\ndef ",), "def foo():\n", 5),
        (["a", "b", "c", "d"], ("bcX", "cd"), "ab", 4),
        (["one END two"], ("END",), "one ", 1),
        (["xab", "c"], ("xabc", "ab"), "x", 1),
        (["zab"], ("ab", "zab"), "", 1),
        (["no", "thing"], ("END",), "nothing", 3),
        (["EN", "D"], ("END",), "", 2),
        (["EN", "N"], ("END",), "ENN", 3),
    ],
)
def test_stop_strings_cross_tokens_and_are_cut(pieces, stop, text, taken):
    assert watch(pieces, [StopStrings(stop)])[:2] == (text, taken)


def test_only_what_may_become_a_stop_string_is_held_back():
    assert watch(["foo\n", "\nd", "o", "\nde", "f"], [StopStrings(("\ndef",))])[2] == ["foo", "\n", "\ndo", "", ""]


@pytest.mark.parametrize(
    ("pieces", "text", "taken"),
    [(["return", " x", "\n", "more"], "return x", 3), (["\n", "x"], "", 1), (["a\r", "\nb"], "a", 1), (["a"], "a", 2)],
)
def test_a_line_ends_at_its_first_line_end(pieces, text, taken):
    assert watch(pieces, [FirstLine()])[:2] == (text, taken)


def test_a_block_ends_before_the_first_line_indented_less():
    prefix = "class A:\n    def f(self):\n        "
    pieces = ["if x:", "\n", "            y", "\n\n", "        z", "\n", "    ", "def g", "(self)"]
    text, taken, shown = watch(pieces, [SameBlock(prefix)])
    assert text == "if x:\n            y\n\n        z"
    assert taken == 8
    assert shown == ["if x:", "", "\n            y", "\n", "\n        z", "", "", ""]


def test_an_echo_of_the_suffix_is_held_back_and_cut():
    suffix = ")\n    return total\n"
    rules = [NoOverlap(suffix)]
    text, _, shown = watch(["sum(x", ")", "\n", "    return", " total"], rules)
    assert (text, shown[:2]) == ("sum(x", ["sum(x", ""])
    assert watch(["sum(x", ")", "\n", "    print(x)"], rules)[0] == "sum(x)\n    print(x)"


def test_generation_ends_once_the_suffix_is_there_again():
    suffix = ")\n    return total / len(items)\n\n\ndef other():\n"
    pieces = ["sum(x", ")", "\n    return", " total / len(items)", "\n", "\n\ndef", " other():", " never"]
    text, taken, shown = watch(pieces, [NoOverlap(suffix)])
    assert (text, taken, shown[1:]) == ("sum(x", 5, [""] * 4)


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet="ab\n ", max_size=12),
    st.text(alphabet="ab\n ", max_size=12),
    st.text(alphabet="ab\n ", max_size=8),
    st.integers(1, 4),
)
@example("x\n", "\n\na\nb\n", "a", 2)
@example("x", "\n\na\nb\n", "a", 2)
def test_a_sure_echo_is_never_shown(head, suffix, tail, sure):
    text = head + suffix + tail
    rule = NoOverlap(suffix, sure)
    assert watch(list(text), [rule])[0] == text[: rule.cut(text)]


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet="a()[]\n '\"", max_size=20),
    st.sampled_from(["", ")", " ]"]),
    st.lists(st.integers(0, 20), max_size=5),
)
def test_a_closed_bracket_ends_the_text_at_once(text, suffix, cuts):
    rules = [BracketClosed("", suffix)]
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    expected = text[: rules[0].cut(text)]
    assert watch([text[start:stop] for start, stop in pairwise(places)], rules)[0] == expected
    shown, taken, _ = watch(list(text), rules)
    assert shown == expected and taken <= len(expected) + 1

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from codecria.infill.split import split_characters, split_document, split_lines

texts = st.text(alphabet=st.sampled_from("ab \t\n\r😀é#()") | st.characters(exclude_categories=["Cs"]), max_size=80)


@given(texts, st.sampled_from(["character", "line"]), st.integers(0, 99))
def test_the_three_parts_are_the_document(text, unit, key):
    split = split_document(text, unit, key)
    assert split.prefix + split.middle + split.suffix == text
    assert split_document(text, unit, key) == split


def test_both_cuts_are_uniform_over_the_characters():
    starts, stops = Counter(), Counter()
    for key in range(30_000):
        prefix, middle, _ = split_characters("abc", key)
        starts[len(prefix)] += 1
        stops[len(prefix) + len(middle)] += 1
    # The smaller and larger of two independent uniform draws from {0, 1, 2, 3}: 7, 5, 3, 1 and 1, 3, 5, 7 sixteenths.
    for place, sixteenths in enumerate((7, 5, 3, 1)):
        assert abs(starts[place] / 30_000 - sixteenths / 16) < 0.012
        assert abs(stops[3 - place] / 30_000 - sixteenths / 16) < 0.012


@given(texts, st.integers(0, 99))
def test_a_line_middle_ends_where_a_line_ends(text, key):
    if not text.strip():
        return
    split = split_lines(text, key)
    assert split.suffix.lstrip("\r")[:1] in ("", "\n")
    assert split.middle.count("\n") < 4


def test_line_middles_begin_at_the_line_its_indentation_or_inside():
    text = "def f(x):\n    return x + 1\n\n\ny = f(2)\n"
    splits = [split_lines(text, key) for key in range(2000)]
    at_line = sum(split.prefix == "" or split.prefix.endswith("\n") for split in splits) / 2000
    assert 0.5 < at_line < 0.8
    assert any(split.middle == "return x + 1" for split in splits)
    assert any("\n" in split.middle for split in splits)
    assert all(split.middle or split.suffix for split in splits)


def test_crlf_ends_stay_in_the_suffix():
    splits = [split_lines("a = 1\r\nb = 2\r\n", key) for key in range(50)]
    assert all(split.suffix.startswith("\r\n") for split in splits)

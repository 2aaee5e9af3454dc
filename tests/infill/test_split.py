from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.infill.split import Draws, split_characters, split_document, split_lines, split_tokens
from codecria.tokenizer.tokenizer import Tokenizer
from tests.tiny import write_tiny_checkpoint

texts = st.text(alphabet=st.sampled_from("ab \t\n\r😀é#()") | st.characters(exclude_categories=["Cs"]), max_size=80)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return Tokenizer.from_folder(write_tiny_checkpoint(tmp_path_factory.mktemp("tiny")))


@given(texts, st.sampled_from(["character", "token", "line", "syntax"]), st.integers(0, 99))
def test_the_three_parts_are_the_document(encoder, text, unit, key):
    split = split_document(text, {unit: 1.0}, Draws(key), encoder, "Python")
    assert split.prefix + split.middle + split.suffix == text
    assert split_document(text, {unit: 1.0}, Draws(key), encoder, "Python") == split


def test_draws_are_uniform_and_each_key_has_its_own():
    draws = Draws("seed", 7)
    counts = Counter(draws.integer(5) for _ in range(20_000))
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert all(abs(count / 20_000 - 0.2) < 0.015 for count in counts.values())
    uniform = [draws.uniform() for _ in range(20_000)]
    assert abs(sum(uniform) / 20_000 - 0.5) < 0.01
    assert 0 <= min(uniform) < 0.001 < 0.999 < max(uniform) < 1
    firsts = [[Draws(*key).uniform() for _ in range(3)] for key in [(1, 23), (12, 3), ("1", 23)]]
    assert len({tuple(first) for first in firsts}) == 3
    assert [Draws(1, 23).uniform()] * 3 == firsts[0]


def test_units_are_drawn_by_their_shares_whatever_their_order(encoder):
    text = "def f(x):\n    return x\n" * 40
    lines = {split_document(text, {"line": 1}, Draws(key), encoder) for key in range(3000)}
    shares = {"character": 3.0, "line": 1.0}
    splits = [split_document(text, shares, Draws(key), encoder) for key in range(1000)]
    # A uniform cut falls on a line's split by chance in a few of a hundred.
    assert abs(sum(split in lines for split in splits) / 1000 - 0.25) < 0.08
    assert splits == [split_document(text, dict(reversed(shares.items())), Draws(key), encoder) for key in range(1000)]


def test_both_cuts_are_uniform_over_the_characters():
    starts, stops = Counter(), Counter()
    for key in range(30_000):
        prefix, middle, _ = split_characters("abc", Draws(key))
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
    split = split_lines(text, Draws(key))
    assert split.suffix.lstrip("\r")[:1] in ("", "\n")
    assert split.middle.count("\n") < 4


def test_line_middles_begin_at_the_line_its_indentation_or_inside():
    text = "def f(x):\n    return x + 1\n\n\ny = f(2)\n"
    splits = [split_lines(text, Draws(key)) for key in range(2000)]
    at_line = sum(split.prefix == "" or split.prefix.endswith("\n") for split in splits) / 2000
    assert 0.5 < at_line < 0.8
    assert any(split.middle == "return x + 1" for split in splits)
    assert any("\n" in split.middle for split in splits)
    assert all(split.middle or split.suffix for split in splits)


def test_crlf_ends_stay_in_the_suffix():
    splits = [split_lines("a = 1\r\nb = 2\r\n", Draws(key)) for key in range(50)]
    assert all(split.suffix.startswith("\r\n") for split in splits)


@given(texts, st.integers(0, 99))
def test_no_cut_between_tokens_falls_inside_one_or_inside_a_character(encoder, text, key):
    split = split_tokens(text, encoder, Draws(key))
    data, place, borders = text.encode(), 0, {0}
    for id in encoder.encode_infilling(text):
        place += len(encoder.token_bytes(id))
        borders.add(place)
    assert place == len(data)
    start = len(split.prefix.encode())
    assert {start, start + len(split.middle.encode())} <= borders


def test_both_cuts_between_tokens_are_uniform_over_the_borders(encoder):
    text = "return value é"
    ids = encoder.encode_infilling(text)
    assert 3 < len(ids) < len(text) + 1  # of some letters a token, and of é two
    starts = Counter(len(split_tokens(text, encoder, Draws(key)).prefix.encode()) for key in range(6_000))
    stops = Counter(
        len(text.encode()) - len(split_tokens(text, encoder, Draws(key)).suffix.encode()) for key in range(6_000)
    )
    assert set(starts) == set(stops) and len(stops) < len(text) + 1
    count = len(stops)
    for place, border in enumerate(sorted(stops)):
        # The smaller and larger of two independent uniform draws.
        assert abs(starts[border] / 6_000 - (2 * (count - place) - 1) / count**2) < 0.025
        assert abs(stops[border] / 6_000 - (2 * place + 1) / count**2) < 0.025

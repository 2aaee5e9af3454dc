import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.corpus.shingles import SHINGLE_TOKENS, ShingleSets, jaccard, shingle_hashes, token_hashes

TOKEN = re.compile(r"[A-Za-z_0-9]+|[^\x00-\x7f]")
TEXTS = st.text(alphabet=st.sampled_from("ab_Z09 .\n(é中😀\x00"), max_size=60) | st.text(max_size=200)


def shingles_by_hand(text: str) -> set[tuple[str, ...]]:
    tokens = TOKEN.findall(text)
    return {tuple(tokens[at : at + SHINGLE_TOKENS]) for at in range(len(tokens) - SHINGLE_TOKENS + 1)}


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_tokens_are_those_of_the_pattern(text: str):
    tokens = TOKEN.findall(text)
    hashes = token_hashes(text.encode()).tolist()
    assert len(hashes) == len(tokens)
    assert len(set(hashes)) == len(set(tokens))
    assert len(set(zip(tokens, hashes, strict=True))) == len(set(tokens))


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_jaccard_is_that_of_the_sets_of_token_tuples(first: str, second: str):
    one, other = shingles_by_hand(first), shingles_by_hand(second)
    expected = len(one & other) / len(one | other) if one and other else 0.0
    assert jaccard(shingle_hashes(first), shingle_hashes(second)) == expected


@settings(max_examples=50, deadline=None)
@given(TEXTS)
def test_a_text_and_its_bytes_have_the_same_hashes(text: str):
    # BigCode's second recipe hands str to xxhash, which refuses it from its version 4 on.
    assert shingle_hashes(text).tolist() == shingle_hashes(text.encode()).tolist()


def test_sets_join_and_come_apart():
    sets = [shingle_hashes(text) for text in ("a b c d e f", "", "x = 1", "for i in range(10): print(i)")]
    joined = ShingleSets.of(sets)
    assert [joined[number].tolist() for number in range(len(joined))] == [each.tolist() for each in sets]
    assert len(ShingleSets.of([])) == 0


def test_hashes_are_sorted_and_distinct():
    hashes = shingle_hashes("for i in range(10): print(i)\n" * 20)
    assert hashes.dtype == np.uint32
    assert (np.diff(hashes.astype(np.int64)) > 0).all()


def test_hashes_spread_evenly():
    # They are 32 bits of a mix: 200,000 of them collide as often as random numbers, 4.7 pairs, not more.
    text = " ".join(f"name_{number}" for number in range(200_004))
    assert 200_000 - shingle_hashes(text).size < 20
    assert abs(shingle_hashes(text).mean() / 2**32 - 0.5) < 0.005


def test_fewer_than_five_tokens_have_no_shingles():
    assert shingle_hashes("import os, sys, re").size == 0
    assert shingle_hashes("").size == 0
    assert shingle_hashes("a b c d e").size == 1


def test_case_and_every_character_of_a_long_token_count():
    assert token_hashes(b"Name") != token_hashes(b"name")
    for length in (7, 8, 9, 16, 17, 40, 63):
        token = "x" * length
        changed = {token[:at] + "y" + token[at + 1 :] for at in range(length)}
        hashes = {int(token_hashes(one.encode())[0]) for one in changed | {token}}
        assert len(hashes) == length + 1
    assert token_hashes(b"x" * 100) != token_hashes(b"x" * 101)


def test_two_chinese_texts_under_one_english_line_are_not_copies():
    licence = "Copyright 2020 by the authors, all rights reserved\n"
    first = licence + "这个函数返回两个整数的和并且检查它们的类型"
    second = licence + "今天天气很好我们一起去公园散步吧朋友们都来了"
    assert jaccard(shingle_hashes(first), shingle_hashes(second)) < 0.3


def test_hashes_do_not_change_between_versions():
    # Stored corpora and ledgers depend on these: a change of the hash is a change of the format.
    assert token_hashes(b"def codecria").tolist() == GOLDEN_TOKENS
    assert shingle_hashes("def add(a, b): return a + b").tolist() == GOLDEN_SHINGLES


GOLDEN_TOKENS = [810894807664350715, 2977372920201033506]
GOLDEN_SHINGLES = [122128609, 407455353, 4229308787]

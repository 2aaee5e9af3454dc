from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.tokenizer.stream import StreamDecoder

if TYPE_CHECKING:
    from codecria.tokenizer.tokenizer import Tokenizer


def stream(tokenizer: Tokenizer, ids: list[int], infilling: bool) -> list[str]:
    decoder = StreamDecoder(tokenizer, infilling)
    return [*map(decoder.push, ids), decoder.finish()]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 31_999) | st.integers(3, 258), max_size=16))
def test_the_whole_equals_decode_whatever_the_ids(smollm2: Tokenizer, llama: Tokenizer, ids: list[int]) -> None:
    for tokenizer in (smollm2, llama):
        assert "".join(stream(tokenizer, ids, infilling=False)) == tokenizer.decode(ids)
        assert "".join(stream(tokenizer, ids, infilling=True)) == tokenizer.decode_infilling(ids)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=0x80, exclude_categories=["Cs", "Co", "Cn"], exclude_characters="▁")))
def test_never_half_a_character(smollm2: Tokenizer, llama: Tokenizer, text: str) -> None:
    for tokenizer in (smollm2, llama):
        parts = stream(tokenizer, tokenizer.encode_infilling(text), infilling=True)
        assert "".join(parts) == text
        assert "\ufffd" in text or not any("\ufffd" in part for part in parts)
        assert parts[-1] == ""


def test_a_character_comes_with_its_last_byte(llama: Tokenizer) -> None:
    ids = llama.encode_infilling("🦙")
    assert len(ids) == 4
    assert stream(llama, ids, infilling=True) == ["", "", "", "🦙", ""]
    assert stream(llama, ids[:2], infilling=True) == ["", "", "\ufffd\ufffd"]
    assert stream(llama, [*ids[:2], *llama.encode_infilling("a")], infilling=True) == ["", "", "\ufffd\ufffda", ""]


def test_the_implicit_space(llama: Tokenizer) -> None:
    assert stream(llama, [1, *llama.encode(" x")], infilling=False) == ["", "", " x", ""]
    assert "".join(stream(llama, [1, *llama.encode("x y")], infilling=False)) == "x y"
    assert "".join(stream(llama, [1, *llama.encode("x y")], infilling=True)) == " x y"

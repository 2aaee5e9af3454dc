from __future__ import annotations

import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders

from codecria.common.errors import CodecriaError

if TYPE_CHECKING:
    from codecria.infill.layout import Encoder
    from codecria.tokenizer.tokenizer import Tokenizer

# SmolLM2 has no token for these: six control characters, and the lead bytes 0xF1 and 0xF2 of planes without letters.
UNSPELLABLE = "\x04\x06\x13\x14\x16\x1d"
smol_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=UNSPELLABLE)).map(
    lambda text: "".join(character for character in text if not "\U00040000" <= character <= "\U000bffff")
)


@settings(max_examples=300, deadline=None)
@given(smol_text)
def test_byte_level_text_comes_back(smollm2: Tokenizer, text: str) -> None:
    ids = smollm2.encode(text)
    assert smollm2.decode(ids) == smollm2.decode_infilling(ids) == text
    assert ids == smollm2.encode_infilling(text)
    assert b"".join(map(smollm2.token_bytes, ids)) == text.encode()


def test_code_comes_back(smollm2: Tokenizer, llama: Tokenizer, code_llama: Tokenizer, texts: list[str]) -> None:
    for tokenizer in (smollm2, llama, code_llama):
        encoded = [tokenizer.encode(text) for text in texts]
        assert [tokenizer.decode(ids) for ids in encoded] == texts
        assert tokenizer.encode_batch(texts) == encoded
        for text in texts:
            assert tokenizer.decode_infilling(tokenizer.encode_infilling(text)) == text


def test_bytes_without_a_token_are_dropped(smollm2: Tokenizer) -> None:
    assert smollm2.decode(smollm2.encode(f"a{UNSPELLABLE}b")) == "ab"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_text_never_becomes_a_special_id(smollm2: Tokenizer, code_llama: Tokenizer, data: st.DataObject) -> None:
    for tokenizer in (smollm2, code_llama):
        spellings = [tokenizer.token_text(id) for id in sorted(tokenizer.special_ids)]
        part = st.sampled_from([*spellings, *(spelling.replace("▁", " ") for spelling in spellings)])
        text = "".join(data.draw(st.lists(part | st.text(st.characters(exclude_categories=["C"]), max_size=4))))
        for ids in (tokenizer.encode(text), tokenizer.encode_infilling(text)):
            assert tokenizer.special_ids.isdisjoint(ids)
        assert tokenizer.decode(tokenizer.encode(text)) == text.replace("▁", " " if tokenizer is code_llama else "▁")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(17, 49_151), max_size=12))
def test_any_ids_decode_as_in_tokenizers(smollm2: Tokenizer, ids: list[int]) -> None:
    reference = decoders.ByteLevel().decode([smollm2.token_text(id) for id in ids])
    assert smollm2.decode(ids) == reference


def test_special_ids_decode_to_nothing(smollm2: Tokenizer, llama: Tokenizer) -> None:
    assert smollm2.decode([1, *smollm2.encode("hello"), 2, 0]) == "hello"
    assert llama.decode([1, *llama.encode("hello"), 2]) == "hello"
    assert llama.decode([1, *llama.encode(" hello")]) == " hello"
    assert llama.decode_infilling([1, *llama.encode("hello")]) == " hello"
    assert smollm2.decode([]) == llama.decode([]) == llama.decode_infilling([1, 2]) == ""
    assert smollm2.token_bytes(1) == b""


def test_empty_text_is_no_ids(smollm2: Tokenizer, llama: Tokenizer) -> None:
    for tokenizer in (smollm2, llama):
        assert tokenizer.encode("") == tokenizer.encode_infilling("") == []
        assert tokenizer.encode_batch([]) == []
        assert tokenizer.encode_batch(["", "a"]) == [[], tokenizer.encode("a")]


@pytest.mark.parametrize("text", ["\ud800", "abc\udfff", "x" * 1000 + "\ud83d"])
def test_lone_surrogates_are_an_error(llama: Tokenizer, text: str) -> None:
    place = len(text) - 1
    for encode in (llama.encode, llama.encode_infilling, lambda one: llama.encode_run(one, True)):
        with pytest.raises(CodecriaError, match=f"lone surrogate .U\\+D[0-9A-F]+. at character {place};"):
            encode(text)
    with pytest.raises(CodecriaError, match="lone surrogate"):
        llama.encode_batch(["fine", text])


def test_ids_outside_the_vocabulary_are_an_error(smollm2: Tokenizer) -> None:
    for id in (-1, 49_152, 10**9):
        with pytest.raises(CodecriaError, match=f"no token {id} in a vocabulary of 49152"):
            smollm2.decode([id])
        with pytest.raises(CodecriaError, match=f"no token {id}"):
            smollm2.token_text(id)


def test_spellings_and_ids(smollm2: Tokenizer, llama: Tokenizer) -> None:
    assert smollm2.token_id("<|im_end|>") == 2
    assert smollm2.token_id("no such token") is None
    assert smollm2.token_text(2) == "<|im_end|>"
    assert smollm2.token_text(smollm2.encode(" def")[0]) == "Ġdef"
    assert llama.token_text(822) == "▁def"
    assert llama.token_bytes(822) == b" def"
    assert llama.token_bytes(13) == b"\n"
    for tokenizer in (smollm2, llama):
        for id in range(tokenizer.vocab_size):
            assert tokenizer.token_id(tokenizer.token_text(id)) == id


def test_new_tokens_come_last_and_are_never_text(smollm2: Tokenizer) -> None:
    added = smollm2.with_added_tokens(["<new>", "<|other|>"])
    assert added.vocab_size == smollm2.vocab_size + 2
    assert (added.token_id("<new>"), added.token_id("<|other|>")) == (49_152, 49_153)
    assert added.special_ids == smollm2.special_ids | {49_152, 49_153}
    text = "a<new>b <|other|> c"
    assert added.encode(text) == smollm2.encode(text)
    assert added.decode([49_152, *added.encode(text)]) == text
    assert smollm2.token_id("<new>") is None
    with pytest.raises(CodecriaError, match="cannot add the token '<new>'"):
        added.with_added_tokens(["<new>"])
    for wrong in ([""], ["<x>", "<x>"], ["<|im_end|>"]):
        with pytest.raises(CodecriaError, match="cannot add the token"):
            smollm2.with_added_tokens(wrong)


def test_pickling_and_threads(llama: Tokenizer, smollm2: Tokenizer, texts: list[str]) -> None:
    for tokenizer in (llama, smollm2):
        copy = pickle.loads(pickle.dumps(tokenizer))
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(copy.encode, texts)) == [tokenizer.encode(text) for text in texts]


def test_it_is_an_encoder(smollm2: Tokenizer) -> None:
    encoder: Encoder = smollm2
    assert encoder.bos_ids == []
    assert not encoder.has_dummy_space


def test_runs_tell_where_each_id_lies(smollm2: Tokenizer, llama: Tokenizer) -> None:
    text = "def f(x):\n    return 'é🚀'"
    for tokenizer in (smollm2, llama):
        ids, spans = tokenizer.encode_run(text, begins=True)
        assert ids == tokenizer.encode(text)
        for id, (start, end) in zip(ids, spans, strict=True):
            spelled = tokenizer.token_bytes(id)
            if spelled.strip().isascii():
                assert text[start:end].strip() == spelled.decode().strip()
        assert spans[-1][1] == len(text)
        assert all(one[1] <= other[1] for one, other in itertools.pairwise(spans))

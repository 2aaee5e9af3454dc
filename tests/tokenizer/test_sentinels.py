from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.common.errors import CodecriaError
from codecria.infill.layout import Sentinels, Split, decode_middle, infill_example, infill_prompt
from codecria.tokenizer.roles import Source
from codecria.tokenizer.sentinels import (
    FAMILIES,
    OWN,
    add_sentinels,
    find_sentinels,
    looks_special,
    reserved_ids,
)
from codecria.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

PREFIX, SUFFIX = 'def remove_non_ascii(s: str) -> str:\n    """ ', "\n    return result\n"
PREFIX_IDS = [822, 3349, 29918, 5464, 29918, 294, 18869, 29898, 29879, 29901, 851, 29897, 1599, 851, 29901, 13]
PREFIX_IDS += [1678, 9995, 29871]
SUFFIX_IDS = [13, 1678, 736, 1121, 13]
CODE_LLAMA = Sentinels(32_007, 32_008, 32_009, (32_010, 2), family="code-llama", orders=("psm", "spm"))


def test_code_llama(code_llama: Tokenizer) -> None:
    assert code_llama.vocab_size == 32_016
    assert find_sentinels(code_llama) == CODE_LLAMA
    assert reserved_ids(code_llama) == (*range(32_000, 32_007), *range(32_011, 32_016))
    assert code_llama.special_ids == {0, 1, 2, *range(32_000, 32_016)}


def test_code_llama_golden_ids(code_llama: Tokenizer) -> None:
    """Meta's own ids for this prompt (llama.cpp#3503)."""
    assert code_llama.encode(PREFIX) == PREFIX_IDS
    assert code_llama.encode_infilling(SUFFIX) == SUFFIX_IDS
    prompt = infill_prompt(code_llama, CODE_LLAMA, PREFIX, SUFFIX, "psm")
    assert prompt == [1, 32_007, *PREFIX_IDS, 32_008, *SUFFIX_IDS, 32_009]
    prompt = infill_prompt(code_llama, CODE_LLAMA, PREFIX, SUFFIX, "spm")
    assert prompt == [1, 32_007, 32_008, *SUFFIX_IDS, 32_009, *PREFIX_IDS]


def test_text_cannot_merge_into_code_llamas_markers(
    code_llama: Tokenizer, code_llama_model: Path, llama: Tokenizer
) -> None:
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(code_llama_model))
    for text in ("<PRE>", "<SUF>", "<MID>", "<EOT>", "<EOT><EOT><EOT>", "x <PRE> y <SUF", "if a <E: pass"):
        assert max(oracle.encode(text)) >= 32_000  # SentencePiece merges them
        for encode in (code_llama.encode, code_llama.encode_infilling):
            assert max(encode(text)) < 32_000
            assert max(encode(f"▁{text}")) < 32_000
        assert code_llama.encode(text) == llama.encode(text)
        assert code_llama.decode(code_llama.encode(text)) == text


def test_llama_and_smollm2_have_none(llama: Tokenizer, smollm2: Tokenizer) -> None:
    for tokenizer in (llama, smollm2):
        assert find_sentinels(tokenizer) is None
        assert reserved_ids(tokenizer) == ()


def test_sixteen_rows_are_added(smollm2: Tokenizer, llama: Tokenizer) -> None:
    for tokenizer, size in ((smollm2, 49_152), (llama, 32_000)):
        marked, sentinels = add_sentinels(tokenizer)
        assert marked.vocab_size == size + 16
        expected = Sentinels(size, size + 1, size + 2, (size + 3, 2), family=OWN, orders=("spm", "psm"))
        assert sentinels == find_sentinels(marked) == expected
        assert reserved_ids(marked) == tuple(range(size + 4, size + 16))
        assert marked.token_text(size + 3) == "<|fim_end|>"
        with pytest.raises(CodecriaError, match=r"infill markers already \(codecria\)"):
            add_sentinels(marked)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_is_told_from_the_others(plain: Tokenizer, name: str) -> None:
    family = FAMILIES[name]
    spellings = list(dict.fromkeys(family.spellings))
    tokenizer = plain.with_added_tokens(spellings)
    found = find_sentinels(tokenizer)
    assert found is not None
    assert (found.family, found.orders) == (name, family.orders)
    ids = {spelling: 256 + place for place, spelling in enumerate(spellings)}
    assert (found.prefix, found.suffix) == (ids[family.prefix], ids[family.suffix])
    assert found.middle == (ids[family.middle] if family.middle else None)
    assert found.end == tuple(ids[spelling] for spelling in family.end)
    for order in family.orders:
        prompt = infill_prompt(tokenizer, found, "a", "b", order)
        assert [id for id in prompt if id >= 256] == {
            "psm": [found.prefix, found.suffix, found.middle],
            "spm": [found.prefix, found.suffix, found.middle] if found.middle else [found.suffix, found.prefix],
        }[order]
    for spelling in spellings:
        assert max(tokenizer.encode(f"x{spelling}")) < 256
        assert looks_special(spelling)


def test_the_tokenizers_own_ends_count_too(plain: Tokenizer) -> None:
    family = FAMILIES["starcoder2"]
    tokenizer = plain.with_added_tokens([*family.required, "<|endoftext|>", "<|im_end|>"])
    roles = dataclasses.replace(tokenizer.roles, eos_ids=(tokenizer.vocab_size - 1, tokenizer.vocab_size - 2))
    found = find_sentinels(Tokenizer(Source(tokenizer.definition, roles, {}, "test")))
    assert found is not None
    end, separator, answer = (tokenizer.token_id(each) for each in ("<|endoftext|>", "<file_sep>", "<|im_end|>"))
    assert found.end == (end, separator, answer)
    assert found.file_separator == separator


def test_a_marker_missing_is_no_family(plain: Tokenizer) -> None:
    for family in FAMILIES.values():
        assert find_sentinels(plain.with_added_tokens([family.prefix])) is None


def test_ids_that_a_gguf_file_names(plain: Tokenizer) -> None:
    """A family unknown here is found by the file's own keys."""
    tokenizer = plain.with_added_tokens(["<before>", "<after>", "<between>"])
    roles = dataclasses.replace(tokenizer.roles, infill_ids=(256, 257, 258), eos_ids=(10,))
    named = Tokenizer(Source(tokenizer.definition, roles, {}, "test"))
    assert find_sentinels(named) == Sentinels(256, 257, 258, (10,), family="gguf", orders=("psm",))


@pytest.mark.parametrize(
    ("spelling", "special"),
    [
        *(("<|im_start|>", True), ("<｜User｜>", True), ("<unused12>", True), ("[PAD32022]", True), ("▁<PRE>", True)),
        *(("  ", False), ("õ", False), ("<table>", False), ("|>", False), ("<|", False), ("[INST]", False)),
    ],
)
def test_markers_by_their_looks(spelling: str, special: bool) -> None:
    assert looks_special(spelling) == special


code = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=30)


@settings(max_examples=200, deadline=None)
@given(code, code, code, st.sampled_from(["psm", "spm"]))
def test_an_example_gives_its_middle_back(
    code_llama: Tokenizer, prefix: str, middle: str, suffix: str, order: str
) -> None:
    """Whatever stands at the cuts: prompt and middle are the example, and the middle's text comes back exactly."""
    assert order in ("psm", "spm")
    example = infill_example(code_llama, CODE_LLAMA, Split(prefix, middle, suffix), order)
    assert example.ids[-1] == 32_010
    if order == "psm":
        prompt = infill_prompt(code_llama, CODE_LLAMA, prefix, suffix, order)
        assert example.ids[: example.middle_start] == prompt
        generated = example.ids[example.middle_start :]
        assert decode_middle(code_llama, CODE_LLAMA, generated, prefix, order) == middle
    else:
        at = example.ids.index(32_009)
        assert code_llama.decode(example.ids[at:]) == prefix + middle

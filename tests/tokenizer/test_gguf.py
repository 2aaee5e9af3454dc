from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from codecria.common.errors import CodecriaError
from codecria.tokenizer.byte_level import BYTE_OF_CHARACTER, CHARACTER_OF_BYTE, PRE_TOKENIZERS
from codecria.tokenizer.sentencepiece import read_model
from codecria.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def reference(smollm2_metadata: dict[str, Any]) -> tokenizers.Tokenizer:
    """SmolLM2's pipeline as its authors publish it, put together by hand."""
    tokens, merges = smollm2_metadata["tokenizer.ggml.tokens"], smollm2_metadata["tokenizer.ggml.merges"]
    model = models.BPE({token: id for id, token in enumerate(tokens)}, [tuple(merge.split(" ")) for merge in merges])
    reference = tokenizers.Tokenizer(model)
    digits, letters = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    reference.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
    return reference


def test_smollm2_equals_its_own_pipeline(smollm2: Tokenizer, reference: tokenizers.Tokenizer, texts: list[str]) -> None:
    for text in texts:
        assert smollm2.encode(text) == reference.encode(text).ids, repr(text[:80])


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_smollm2_equals_its_own_pipeline_on_any_text(
    smollm2: Tokenizer, reference: tokenizers.Tokenizer, text: str
) -> None:
    assert smollm2.encode(text) == reference.encode(text).ids


def test_smollm2_golden_ids(smollm2: Tokenizer) -> None:
    ids = smollm2.encode("def add(a, b):\n    return a + 10\n")
    spelled = ["def", "Ġadd", "(", "a", ",", "Ġb", "):", "ĊĠĠĠ", "Ġreturn", "Ġa", "Ġ+", "Ġ", "1", "0", "Ċ"]
    assert [smollm2.token_text(id) for id in ids] == spelled
    assert ids == [1604, 803, 24, 81, 28, 278, 727, 472, 1003, 253, 1232, 216, 33, 32, 198]


def test_smollm2_roles(smollm2: Tokenizer) -> None:
    assert (smollm2.vocab_size, smollm2.bos_id, smollm2.eos_ids, smollm2.pad_id) == (49_152, 1, (2,), 2)
    assert not smollm2.add_bos and smollm2.bos_ids == []
    assert smollm2.special_ids == set(range(17))
    assert smollm2.chat_template is not None and "<|im_start|>assistant" in smollm2.chat_template


@pytest.fixture(scope="module")
def llama_metadata(llama_tokenizer_folder: Path) -> dict[str, Any]:
    """What llama.cpp's converter writes for Llama's tokenizer.model."""
    pieces = read_model(llama_tokenizer_folder / "tokenizer.model").pieces
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [piece.text for piece in pieces],
        "tokenizer.ggml.scores": [piece.score for piece in pieces],
        "tokenizer.ggml.token_type": [int(piece.kind) for piece in pieces],
    }


def test_sentencepiece_in_gguf_equals_the_model(
    llama: Tokenizer, llama_metadata: dict[str, Any], texts: list[str]
) -> None:
    ours = Tokenizer.from_gguf(llama_metadata)
    assert ours.roles == llama.roles
    assert ours.special_ids == llama.special_ids
    for text in texts:
        assert ours.encode(text) == llama.encode(text)
        assert ours.encode_infilling(text) == llama.encode_infilling(text)


def test_what_the_file_says_of_spaces_and_ends(llama_metadata: dict[str, Any]) -> None:
    said = {"add_space_prefix": False, "add_bos_token": False, "eos_token_id": 2, "eot_token_id": 13}
    ours = Tokenizer.from_gguf(llama_metadata | {f"tokenizer.ggml.{name}": value for name, value in said.items()})
    assert not ours.has_dummy_space
    assert ours.bos_ids == [] and ours.bos_id == 1
    assert ours.eos_ids == (2, 13)
    assert ours.encode("def") == ours.encode_infilling("def") == [1753]
    assert ours.encode("\n") == [13]  # a line break that ends answers is text all the same
    assert ours.special_ids == {0, 1, 2}


def tiny(pre: str) -> dict[str, Any]:
    """Metadata of a vocabulary of bytes and a control token, without merges."""
    tokens = [*CHARACTER_OF_BYTE.values(), "<|endoftext|>"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.token_type": [1] * 256 + [3],
        "tokenizer.ggml.eos_token_id": 256,
    }


SAMPLE = "def f1(x):\n    return  x+1234 # I'll '日本' ok\r\n\n"
WORDS = {
    "gpt-2": "def| f|1|(|x|):|\n   | return| | x|+|1234| #| I|'ll| '|日本|'| ok|\r\n\n",
    "smollm": "def| f|1|(|x|):|\n   | return| | x|+|1|2|3|4| #| I|'ll| '|日本|'| ok|\r\n\n",
    "llama-bpe": "def| f|1|(x|):\n|   | return| | x|+|123|4| #| I|'ll| '|日本|'| ok|\r\n\n",
    "qwen2": "def| f|1|(x|):\n|   | return| | x|+|1|2|3|4| #| I|'ll| '|日本|'| ok|\r\n\n",
    "deepseek-coder": "def| f|1|(|x|):|\n|   | return| | x|+|1|2|3|4| #| I|'|ll| '|日本|'| ok|\r|\n|\n",
}
"""How each pre-tokenizer cuts the sample. Ids of all of them were compared with llama.cpp's test vocabularies."""


@pytest.mark.parametrize("name", WORDS)
def test_pre_tokenizers_cut_as_the_models_do(name: str) -> None:
    definition = Tokenizer.from_gguf(tiny(name)).definition
    cutter = tokenizers.Tokenizer.from_str(json.dumps(definition)).pre_tokenizer
    words = [word for word, _ in cutter.pre_tokenize_str(SAMPLE)]
    assert [bytes(BYTE_OF_CHARACTER[one] for one in word).decode() for word in words] == WORDS[name].split("|")


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_every_pre_tokenizer_keeps_the_text(name: str) -> None:
    ours = Tokenizer.from_gguf(tiny(name))
    assert ours.decode(ours.encode(SAMPLE)) == SAMPLE
    assert ours.special_ids == {256}
    assert ours.add_bos == name.startswith("llama")


def test_files_without_control_types(plain: Tokenizer) -> None:
    """Old converters called every token normal: what ends a text is a marker if no merge makes it."""
    metadata = tiny("gpt-2") | {"tokenizer.ggml.token_type": [1] * 257}
    metadata["tokenizer.ggml.tokens"] = [*metadata["tokenizer.ggml.tokens"][:256], "</done>"]
    ours = Tokenizer.from_gguf(metadata)
    assert ours.special_ids == {256}
    assert ours.encode("</done>") == plain.encode("</done>")
    merged = metadata | {"tokenizer.ggml.tokens": [*metadata["tokenizer.ggml.tokens"][:256], "ab"]}
    ours = Tokenizer.from_gguf(merged | {"tokenizer.ggml.merges": ["a b"]})
    assert ours.special_ids == frozenset()
    assert ours.encode("ab") == [256]


def test_whole_words_without_merging() -> None:
    """Llama 3 takes a word that is in the vocabulary whole, though no merge makes it."""
    metadata = tiny("llama-bpe")
    metadata["tokenizer.ggml.tokens"] = [*metadata["tokenizer.ggml.tokens"], "abc"]
    metadata["tokenizer.ggml.token_type"] = [*metadata["tokenizer.ggml.token_type"], 1]
    assert Tokenizer.from_gguf(metadata).encode("abc") == [257]
    assert len(Tokenizer.from_gguf(metadata | {"tokenizer.ggml.pre": "qwen2"}).encode("abc")) == 3


def test_ordinary_added_tokens_are_text_and_markers_are_not() -> None:
    """DeepSeek-Coder's file calls all of these user-defined; only the letter is one."""
    added = ["Ω", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", "<pad>", "<|User|>", "[PAD32022]"]
    metadata = tiny("deepseek-coder")
    metadata["tokenizer.ggml.tokens"] = [*metadata["tokenizer.ggml.tokens"], *added]
    metadata["tokenizer.ggml.token_type"] = [*metadata["tokenizer.ggml.token_type"], *[4] * len(added)]
    ours = Tokenizer.from_gguf(metadata)
    assert ours.special_ids == {256, *range(258, 264)}
    assert ours.encode("aΩb")[1] == 257
    text = "".join(added)
    assert ours.special_ids.isdisjoint(ours.encode(text))
    assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "bert"}, "tokenizer.ggml.model: unknown tokenizer 'bert'; 'llama' and 'gpt2' are supported"),
        ({"model": None}, "GGUF metadata: the key 'tokenizer.ggml.model' is missing"),
        ({"pre": "made-up"}, "tokenizer.ggml.pre: unknown pre-tokenizer 'made-up'; known: gpt-2"),
        ({"pre": None}, "the key 'tokenizer.ggml.pre' is missing"),
        ({"merges": None}, "the key 'tokenizer.ggml.merges' is missing"),
        ({"tokens": None}, "the key 'tokenizer.ggml.tokens' is missing"),
        ({"token_type": [1, 3]}, "2 types for 257 tokens"),
        ({"token_type": [0] * 257}, "tokenizer.ggml.token_type: unknown token type: 0 is not a valid PieceKind"),
        ({"merges": ["a zz"]}, "the tokenizers library refuses it"),
    ],
)
def test_what_cannot_be_read_is_named(change: dict[str, Any], message: str) -> None:
    change = {f"tokenizer.ggml.{name}": value for name, value in change.items()}
    metadata = {key: value for key, value in (tiny("smollm") | change).items() if value is not None}
    with pytest.raises(CodecriaError) as caught:
        Tokenizer.from_gguf(metadata)
    assert message in str(caught.value)


def test_scores_must_match_the_tokens(llama_metadata: dict[str, Any]) -> None:
    with pytest.raises(CodecriaError, match="5 scores for 32000 tokens"):
        Tokenizer.from_gguf(llama_metadata | {"tokenizer.ggml.scores": [0.0] * 5})


def test_byte_letters() -> None:
    assert len(CHARACTER_OF_BYTE) == len(BYTE_OF_CHARACTER) == 256
    reference = set(pre_tokenizers.ByteLevel.alphabet())
    assert set(BYTE_OF_CHARACTER) == reference
    data = random.Random(3).randbytes(64).decode("latin-1")
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(data)
    assert "".join(CHARACTER_OF_BYTE[byte] for byte in data.encode()) == "".join(word for word, _ in cut)

from __future__ import annotations

import random
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.common.errors import CodecriaError
from codecria.tokenizer.sentencepiece import PieceKind, read_model
from codecria.tokenizer.tokenizer import Tokenizer

# U+2581 is how SentencePiece spells a space: it does not come back from decoding, so it stands in no round trip.
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"))


def random_texts(oracle: sentencepiece.SentencePieceProcessor, count: int) -> list[str]:
    """Pieces in random order, pieces that overlap themselves, and letters that make many merges."""
    draw = random.Random(7)
    pieces = [oracle.id_to_piece(id).replace("▁", " ") for id in range(259, oracle.vocab_size())]
    texts: list[str] = []
    for _ in range(count):
        alphabet = draw.choice(["ab", "aer", "ien", " a", "  \n", "-=", "._", "aeiourstn ", "0123", "/*-", "\t {}"])
        piece = draw.choice(pieces)
        cuts = [draw.randint(0, len(piece)) for _ in range(3)]
        texts += [
            "".join(draw.choices(pieces, k=draw.randint(1, 8))),
            "".join(draw.choices(alphabet, k=draw.randint(1, 60))),
            piece + "".join(piece[cut:] if draw.random() < 0.5 else piece[:cut] for cut in cuts),
            "".join(" " * draw.randint(1, 40) + "*" * draw.randint(0, 40) for _ in range(draw.randint(1, 5))),
        ]
    return texts


def test_ids_equal_sentencepiece(
    llama: Tokenizer, llama_oracle: sentencepiece.SentencePieceProcessor, texts: list[str]
) -> None:
    every = texts + random_texts(llama_oracle, 3000)
    for one, ids in zip(every, llama_oracle.encode(every), strict=True):
        assert llama.encode(one) == ids, repr(one[:80])


@settings(max_examples=300, deadline=None)
@given(text)
def test_ids_and_text_equal_sentencepiece(
    llama: Tokenizer, llama_oracle: sentencepiece.SentencePieceProcessor, one: str
) -> None:
    ids = llama.encode(one)
    assert ids == llama_oracle.encode(one)
    assert llama.decode(ids) == one == llama_oracle.decode(ids)


@settings(max_examples=200, deadline=None)
@given(text)
def test_infilling_is_metas_trick(
    llama: Tokenizer, llama_oracle: sentencepiece.SentencePieceProcessor, one: str
) -> None:
    ids = llama.encode_infilling(one)
    assert ids == llama_oracle.encode("☺" + one)[2:]
    smile = llama_oracle.piece_to_id("☺")
    assert llama.decode_infilling(ids) == one == llama_oracle.decode([smile, *ids])[1:]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(3, 31_999) | st.integers(3, 258), max_size=12))
def test_any_ids_decode_as_in_sentencepiece(
    llama: Tokenizer, llama_oracle: sentencepiece.SentencePieceProcessor, ids: list[int]
) -> None:
    assert llama.decode(ids) == llama_oracle.decode(ids)


def test_roles_are_the_models(llama: Tokenizer) -> None:
    assert (llama.vocab_size, llama.bos_id, llama.eos_ids, llama.pad_id) == (32_000, 1, (2,), None)
    assert llama.add_bos and llama.bos_ids == [1]
    assert llama.has_dummy_space
    assert llama.special_ids == {0, 1, 2}


def train(folder: Path, **options: object) -> Path:
    """A small model, trained on the standard library's own words."""
    sentences = Path(random.__file__).read_text().splitlines() * 2
    (folder / "sentences.txt").write_text("\n".join(line for line in sentences if line.strip()))
    defaults = {"model_type": "bpe", "vocab_size": 700, "byte_fallback": True, "character_coverage": 0.999}
    defaults |= {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "sentences.txt"), model_prefix=str(folder / "tiny"), **(defaults | options)
    )
    return folder / "tiny.model"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"add_dummy_prefix": False, "bos_id": -1},
        {"split_digits": True, "allow_whitespace_only_pieces": True, "pad_id": 3},
        {"user_defined_symbols": "self,▁▁,return", "split_by_whitespace": False},
    ],
    ids=["llama", "no dummy space", "digits and spaces", "user-defined"],
)
def test_other_models_give_equal_ids(tmp_path: Path, options: dict[str, object], texts: list[str]) -> None:
    path = train(tmp_path, **options)
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(path))
    ours = Tokenizer.from_sentencepiece(path)
    assert ours.has_dummy_space == options.get("add_dummy_prefix", True)
    assert ours.bos_ids == ([] if "bos_id" in options else [1])
    every = [one.replace("▁", " ") for one in texts + random_texts(oracle, 400)]
    for one, ids in zip(every, oracle.encode(every), strict=True):
        assert ours.encode(one) == ids, repr(one[:80])
        assert ours.decode(ids) == one


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_type": "unigram"}, "not a BPE model"),
        ({"normalization_rule_name": "nmt_nfkc"}, "it normalises text"),
        ({"remove_extra_whitespaces": True}, "it drops repeated spaces"),
        ({"treat_whitespace_as_suffix": True}, "it writes spaces as suffixes"),
        ({"byte_fallback": False, "character_coverage": 1.0}, "it has no byte fallback"),
    ],
)
def test_models_that_lose_text_are_refused(tmp_path: Path, options: dict[str, object], reason: str) -> None:
    path = train(tmp_path, **options)
    with pytest.raises(CodecriaError, match=rf"tiny\.model: SentencePiece model not supported: {reason}"):
        Tokenizer.from_sentencepiece(path)


@pytest.mark.parametrize("data", [b"", b"no model", b"\x0a\xff", b"PK\x03\x04 a zip", b"\x0a\x05\x0a\x03abc\x15"])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(data)
    with pytest.raises(CodecriaError, match=r"tokenizer\.model"):
        Tokenizer.from_sentencepiece(path)
    with pytest.raises(CodecriaError, match="no such file"):
        Tokenizer.from_sentencepiece(tmp_path / "absent.model")


def test_a_cut_file_is_refused(tmp_path: Path, llama_tokenizer_folder: Path) -> None:
    whole = (llama_tokenizer_folder / "tokenizer.model").read_bytes()
    path = tmp_path / "tokenizer.model"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CodecriaError, match=r"tokenizer\.model"):
        Tokenizer.from_sentencepiece(path)


def test_pieces_are_read_as_sentencepiece_reads_them(
    llama_tokenizer_folder: Path, llama_oracle: sentencepiece.SentencePieceProcessor
) -> None:
    pieces = read_model(llama_tokenizer_folder / "tokenizer.model").pieces
    assert len(pieces) == llama_oracle.vocab_size()
    for id, piece in enumerate(pieces):
        assert (piece.text, piece.score) == (llama_oracle.id_to_piece(id), llama_oracle.get_score(id))
        assert (piece.kind == PieceKind.BYTE) == llama_oracle.is_byte(id)
        assert (piece.kind == PieceKind.CONTROL) == llama_oracle.is_control(id)
        assert (piece.kind == PieceKind.UNKNOWN) == llama_oracle.is_unknown(id)

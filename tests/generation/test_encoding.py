import argparse
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.generation.encoding import RememberingEncoder

SOURCE = Path(argparse.__file__).read_text()


@pytest.fixture(params=["infilling_tokenizer", "llama_tokenizer"], scope="session")
def tokenizer(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def encoder(tokenizer):
    return RememberingEncoder(tokenizer)


def test_the_pieces_ids_are_the_whole_text_s(tokenizer, encoder):
    assert encoder._separates
    for start in range(0, len(SOURCE), 997):
        text = SOURCE[start : start + 3001]
        assert encoder.encode(text) == tokenizer.encode(text)
        assert encoder.encode_infilling(text) == tokenizer.encode_infilling(text)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["word", " ", "\n", "it's", "猫", "12", "\t", "x" * 50, "▁", "<|fim_prefix|>"]), max_size=90
    )
)
def test_whatever_the_text(tokenizer, encoder, parts):
    text = "".join(parts)
    assert encoder.encode(text) == tokenizer.encode(text)
    assert encoder.encode_infilling(text) == tokenizer.encode_infilling(text)


def test_a_key_costs_a_piece_not_the_text(tokenizer, encoder):
    def seconds(encode, start):
        began = time.thread_time()
        for typed in range(100):
            encode(SOURCE[start : start + 3000 + typed])
        return time.thread_time() - began

    whole, remembered = seconds(tokenizer.encode, 5000), seconds(encoder.encode, 5000)
    assert remembered < whole / 3

import argparse
import weakref
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


def test_a_key_costs_a_piece_not_the_text(tokenizer):
    encoded = []

    class Counting:
        def encode(self, text):
            encoded.append(len(text))
            return tokenizer.encode(text)

        def encode_infilling(self, text):
            encoded.append(len(text))
            return tokenizer.encode_infilling(text)

        def __getattr__(self, name):
            return getattr(tokenizer, name)

    remembering = RememberingEncoder(Counting())
    remembering.encode(SOURCE[5000:8000])
    for typed in range(1, 101):
        encoded.clear()
        remembering.encode(SOURCE[5000 : 8000 + typed])
        assert sum(encoded) < 600


def test_what_is_remembered_of_text_without_spaces_has_a_bound(tokenizer):
    class Ids(list):
        """A list that can be watched."""

    made = []

    class Watched:
        def encode(self, text):
            ids = Ids(tokenizer.encode(text))
            made.append((weakref.ref(ids), len(text)))
            return ids

        def encode_infilling(self, text):
            ids = Ids(tokenizer.encode_infilling(text))
            made.append((weakref.ref(ids), len(text)))
            return ids

        def __getattr__(self, name):
            return getattr(tokenizer, name)

    encoder = RememberingEncoder(Watched())
    text, suffix = "猫は、" * 1000, "犬。" * 1000
    for typed in range(100):
        assert encoder.encode(text + "x" * typed) == tokenizer.encode(text + "x" * typed)
        assert encoder.encode_infilling(suffix) == tokenizer.encode_infilling(suffix)
    assert len(made) == 101  # what does not change is encoded once
    assert sum(length for ids, length in made if ids() is not None) < 20 * len(text)

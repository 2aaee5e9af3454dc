import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codecria.batches.pieces import cut_documents

texts = st.lists(st.text(alphabet="ab cdé😀", max_size=30), max_size=30).map("\n".join)
ONE_EACH = np.ones(256, dtype=np.int64)


def encode(texts):
    """A token a byte."""
    return [list(text.encode()) for text in texts]


def cut(text, longest, even=False):
    return cut_documents([text], longest, encode, ONE_EACH, even=even)[0]


@given(texts, st.integers(4, 60), st.booleans())
def test_pieces_cover_the_text_and_fit(text, longest, even):
    pieces = cut(text, longest, even)
    assert "".join(text[piece.start : piece.stop] for piece in pieces) == text
    for piece in pieces:
        assert 0 < piece.tokens <= longest
        assert piece.tokens == len(text[piece.start : piece.stop].encode())


@given(st.lists(texts, max_size=6), st.integers(4, 60))
def test_many_at_once_are_each_alone(many, longest):
    assert cut_documents(many, longest, encode, ONE_EACH, even=True) == [cut(each, longest, even=True) for each in many]


@given(st.lists(st.text(alphabet="ab", max_size=8), min_size=1, max_size=40).map("\n".join), st.booleans())
def test_cuts_fall_at_line_ends(text, even):
    for piece in cut(text, 20, even)[:-1]:
        assert text[piece.stop - 1] == "\n"


def test_a_document_that_fits_is_encoded_once_and_stays_whole():
    calls = []

    def counted(texts):
        calls.append(len(texts))
        return encode(texts)

    assert len(cut_documents(["x\n" * 50] * 3, 100, counted, ONE_EACH, even=False)) == 3
    assert calls == [3]


def test_parts_are_filled_or_of_like_size():
    text = "x\n" * 130
    assert [piece.tokens for piece in cut(text, 100)] == [96, 96, 68]
    assert [piece.tokens for piece in cut(text, 100, even=True)] == [86, 86, 88]


def test_cuts_that_add_tokens_are_cut_again():
    def grows(texts):
        return [list(text.encode()) + [0] * 5 for text in texts]

    pieces = cut_documents(["xyz\n" * 100], 40, grows, ONE_EACH, even=False)[0]
    assert sum(piece.stop - piece.start for piece in pieces) == 400
    assert max(piece.tokens for piece in pieces) <= 40


def test_one_endless_line_is_cut_at_characters():
    for text in ("x" * 1000, "é" * 500):
        pieces = cut(text, 64)
        assert max(piece.tokens for piece in pieces) <= 64
        assert len(pieces) <= 18

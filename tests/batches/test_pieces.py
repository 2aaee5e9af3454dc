from hypothesis import given
from hypothesis import strategies as st

from codecria.batches.pieces import cut_document

texts = st.lists(st.text(alphabet="ab cdé😀", max_size=30), max_size=30).map("\n".join)


@given(texts, st.integers(4, 60))
def test_pieces_cover_the_text_and_fit(text, longest):
    pieces = cut_document(text, longest, len)
    assert "".join(text[piece.start : piece.stop] for piece in pieces) == text
    for piece in pieces:
        assert 0 < piece.tokens <= longest
        assert piece.tokens == len(text[piece.start : piece.stop])


@given(st.lists(st.text(alphabet="ab", max_size=8), min_size=1, max_size=40).map("\n".join))
def test_cuts_fall_at_line_ends(text):
    for piece in cut_document(text, 12, len)[:-1]:
        assert text[piece.stop - 1] == "\n"


def test_a_document_that_fits_is_whole_and_parts_are_of_like_size():
    assert len(cut_document("x\n" * 50, 100, len)) == 1
    sizes = [piece.tokens for piece in cut_document("x\n" * 150, 100, len)]
    assert sum(sizes) == 300
    assert min(sizes) > 50


def test_one_endless_line_is_cut_at_characters():
    pieces = cut_document("x" * 1000, 64, len)
    assert max(piece.tokens for piece in pieces) <= 64
    assert len(pieces) <= 32

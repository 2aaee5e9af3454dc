import numpy as np
import pytest

from codecria.batches.loader import Sequences, document_end_ids
from codecria.batches.prepare import open_sources, prepare
from codecria.batches.recipe import BatchRecipe, InfillRecipe
from codecria.common.errors import CodecriaError
from codecria.corpus.store import iterate_documents
from codecria.tokenizer.sentinels import add_sentinels
from codecria.tokenizer.tokenizer import Tokenizer
from tests.tiny import write_tiny_checkpoint, write_tiny_corpus

RECIPE = BatchRecipe(sequence_tokens=512, piece_tokens=200, infill=InfillRecipe(level="context", unit="line"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loader")
    tokenizer, sentinels = add_sentinels(Tokenizer.from_folder(write_tiny_checkpoint(folder / "model")))
    write_tiny_corpus(folder / "corpus")
    facts = prepare(folder / "corpus", tokenizer, RECIPE, folder / "prepared", seed=5)
    return folder, tokenizer, sentinels, facts


def sequences(made, seed=5, recipe=RECIPE):
    folder, tokenizer, sentinels, _ = made
    return Sequences(folder / "prepared", tokenizer, sentinels, recipe, seed)


def same(one, other):
    return (
        np.array_equal(one.ids, other.ids)
        and np.array_equal(one.weights, other.weights)
        and one.lengths == other.lengths
    )


def test_pieces_are_the_documents(made):
    folder, tokenizer, _, facts = made
    assert facts["sources"]["code"]["pieces"] > 20
    texts = {document.content_hash: document.text for document in iterate_documents(folder / "corpus", "train")}
    loader = sequences(made)
    for source in open_sources(folder / "prepared"):
        covered = {}
        for row, start, stop, tokens, _ in source.pieces.tolist():
            text = loader._texts["text"][row].as_py()
            assert texts[loader._texts["content_hash"][row].as_py()] == text
            assert tokens == len(tokenizer.encode(text[start:stop])) <= RECIPE.longest_piece
            covered[row] = covered.get(row, "") + text[start:stop]
            assert covered[row] == text[:stop]
        assert sorted(source.members.tolist()) == list(range(len(source.pieces)))


def test_a_sequence_is_a_function_of_its_number(made):
    forward = [sequences(made).sequence(n) for n in range(12)]
    one = sequences(made)
    for n in reversed(range(12)):
        assert same(one.sequence(n), forward[n])
    assert all(same(a, b) for a, b in zip(sequences(made).run(4, 12, ahead=3), forward[4:], strict=True))


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_share_one_order(made, ranks):
    loader = sequences(made)
    whole = [loader.sequence(n) for n in range(8)]
    per_rank = [[sequences(made).sequence(n) for n in range(rank, 8, ranks)] for rank in range(ranks)]
    merged = [per_rank[n % ranks][n // ranks] for n in range(8)]
    assert all(same(a, b) for a, b in zip(whole, merged, strict=True))


def test_sequences_fit_and_add_up(made):
    loader = sequences(made)
    for n in range(30):
        row = loader.sequence(n)
        assert len(row.ids) == len(row.weights) == len(row.kinds) == sum(row.lengths) <= RECIPE.sequence_tokens
        starts = np.cumsum([0, *row.lengths[:-1]])
        assert (row.weights[starts] == 0).all()


def test_a_second_epoch_draws_other_middles(made):
    loader = sequences(made)
    count = next(len(source) for source in open_sources(made[0] / "prepared") if source.name == "code-related")
    numbers = [n for n in range(40 * count) if loader._mixture.place(n).source == 0][: 2 * count]
    epochs = [[loader.sequence(n) for n in numbers[:count]], [loader.sequence(n) for n in numbers[count:]]]
    assert [{row.epoch for row in rows} for rows in epochs] == [{0}, {1}]
    first = {row.ids.tobytes() for row in epochs[0]}
    assert not any(row.ids.tobytes() in first for row in epochs[1])


def test_preparing_again_does_nothing_unless_something_changed(made):
    folder, tokenizer, _, facts = made
    before = (folder / "prepared" / "texts.arrow").stat().st_mtime_ns
    assert prepare(folder / "corpus", tokenizer, RECIPE, folder / "prepared", seed=5) == facts
    assert (folder / "prepared" / "texts.arrow").stat().st_mtime_ns == before
    other = prepare(folder / "corpus", tokenizer, RECIPE, folder / "prepared 2", seed=6)
    assert other["identity"] != facts["identity"]


def test_a_mixture_of_kinds_the_corpus_lacks_is_one_line(made):
    folder, tokenizer, _, _ = made
    with pytest.raises(CodecriaError, match="no document of the kinds natural"):
        prepare(folder / "corpus", tokenizer, BatchRecipe(mixture={"natural": 1.0}), folder / "none", seed=0)


def test_a_language_is_a_source_beside_its_kind(made, tmp_path):
    folder, tokenizer, sentinels, facts = made
    mixture = {"code/Python": 0.75, "code": 0.10, "code-related": 0.15}
    recipe = RECIPE.model_copy(update={"mixture": mixture})
    both = prepare(folder / "corpus", tokenizer, recipe, tmp_path / "prepared", seed=5)
    assert both["sources"] | facts["sources"] == both["sources"]
    # Texts are stored once, and a source is packed as it would be without the others.
    sources = {one.name: one for one in open_sources(tmp_path / "prepared")}
    assert list(sources) == ["code/Python", "code-related", "code"]
    for one in open_sources(folder / "prepared"):
        assert np.array_equal(sources[one.name].pieces, one.pieces)
        assert np.array_equal(sources[one.name].members, one.members)
    documents = [one for one in iterate_documents(folder / "corpus", "train") if one.kind in ("code", "code-related")]
    python = [row for row, one in enumerate(documents) if (one.kind, one.language) == ("code", "Python")]
    assert np.unique(sources["code/Python"].pieces[:, 0]).tolist() == python
    code = {tuple(piece) for piece in sources["code"].pieces.tolist()}
    assert {tuple(piece) for piece in sources["code/Python"].pieces.tolist()} < code
    loader = Sequences(tmp_path / "prepared", tokenizer, sentinels, recipe, seed=5)
    drawn = [loader.sequence(n).source for n in range(40)]
    assert {name: drawn.count(name) / 40 for name in mixture} == mixture


def test_a_language_the_corpus_lacks_is_one_line(made, tmp_path):
    folder, tokenizer, _, _ = made
    recipe = BatchRecipe(mixture={"code/Rust": 0.5, "code": 0.5})
    with pytest.raises(CodecriaError, match="no document of the kinds code/Rust to train on"):
        prepare(folder / "corpus", tokenizer, recipe, tmp_path / "none", seed=0)


def test_a_document_ends_with_the_end_of_text_not_of_a_turn(made):
    _, tokenizer, _, _ = made
    assert document_end_ids(tokenizer) == [tokenizer.token_id("<|endoftext|>")]

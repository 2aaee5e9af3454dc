import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from codecria.batches.loader import Sequences, document_end_ids
from codecria.batches.prepare import open_sources, prepare
from codecria.batches.recipe import BatchRecipe, InfillRecipe
from codecria.common.errors import CodecriaError
from codecria.corpus.store import iterate_documents
from codecria.tokenizer.sentinels import add_sentinels
from codecria.tokenizer.tokenizer import Tokenizer
from tests.tiny import write_tiny_checkpoint, write_tiny_corpus

RECIPE = BatchRecipe(sequence_tokens=512, piece_tokens=200, infill=InfillRecipe(level="context", units="line"))


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
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("ids", "weights", "kinds"))
    return arrays and all(
        getattr(one, name) == getattr(other, name) for name in ("lengths", "source", "epoch", "forms")
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
    assert all(same(a, b) for a, b in zip(sequences(made).run(range(4, 12), ahead=3), forward[4:], strict=True))


SMALL = BatchRecipe(sequence_tokens=96, piece_tokens=60, infill=InfillRecipe(level="context", units="line"))


@pytest.fixture(scope="module")
def thousand(made):
    folder, tokenizer, sentinels, _ = made
    prepare(folder / "corpus", tokenizer, SMALL, folder / "small", seed=5)
    loader = Sequences(folder / "small", tokenizer, sentinels, SMALL, 5)
    return loader, [loader.sequence(n) for n in range(1000)]


@pytest.mark.parametrize(
    ("ranks", "workers"), [(1, 0), (2, 0), (4, 0), (1, 2), (2, 2), pytest.param(4, 2, marks=pytest.mark.slow)]
)
def test_ranks_and_workers_give_the_first_thousand_sequences(thousand, ranks, workers):
    """Of each step's eight sequences every rank reads a block, as the training loop has it."""
    loader, expected = thousand
    assert len({form for row in expected for form in row.forms}) >= 3
    share = 8 // ranks
    blocks = [[n for n in range(1000) if n % 8 // share == rank] for rank in range(ranks)]
    rows = dict(pair for block in blocks for pair in zip(block, loader.run(block, workers, ahead=4), strict=True))
    assert all(same(rows[n], expected[n]) for n in range(1000))


def test_an_error_in_a_worker_is_raised_as_itself(thousand):
    loader, _ = thousand
    folder, tokenizer, sentinels, _, seed, _ = loader._arguments
    once = Sequences(folder, tokenizer, sentinels, SMALL.model_copy(update={"max_epochs": 1.0}), seed)
    errors = []
    for workers in (0, 1):
        with pytest.raises(CodecriaError, match=r"batches\.max_epochs: the run needs .*; raise it") as error:
            list(once.run([3, 10**6], workers))
        errors.append(str(error.value))
    assert errors[0] == errors[1]
    assert not multiprocessing.active_children()


def test_the_run_goes_on_when_a_worker_is_killed(thousand, capfd):
    loader, expected = thousand
    stream = loader.run(range(200), workers=2, ahead=3)
    rows = [next(stream) for _ in range(20)]
    multiprocessing.active_children()[0].kill()
    rows += stream
    assert all(same(a, b) for a, b in zip(rows, expected[:200], strict=True))
    assert "was killed: the training process makes them now" in capfd.readouterr().err


def test_a_stream_closed_early_leaves_no_process(thousand):
    stream = thousand[0].run(range(10**9), workers=1)
    next(stream)
    assert multiprocessing.active_children()
    stream.close()
    assert not multiprocessing.active_children()


SCRIPT = """
import multiprocessing, pickle, signal, sys
if __name__ == "__main__":
    loader = pickle.load(open(sys.argv[1], "rb"))
    stream = loader.run(range(10**9), workers=2)
    for _ in range(40):
        next(stream)
    came = []
    signal.signal(signal.SIGINT, lambda *_: came.append(1))
    print(*(each.pid for each in multiprocessing.active_children()), flush=True)
    while not came:
        next(stream)
    for _ in range(100):  # the step is finished, the state is saved
        next(stream)
    stream.close()
    print("left", len(multiprocessing.active_children()), flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_do_not_outlive_the_run(thousand, tmp_path, how):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "loader").write_bytes(pickle.dumps(thousand[0]))
    run = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path / "loader"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    workers = [int(pid) for pid in run.stdout.readline().split()]
    assert len(workers) == 2
    if how == signal.SIGINT:
        os.killpg(run.pid, how)  # Ctrl-C goes to the workers too
    else:
        run.kill()
    out, err = run.communicate(timeout=30)
    assert out == ("left 0\n" if how == signal.SIGINT else "") and "Traceback" not in err, err
    until = time.monotonic() + 10
    while any(map(psutil.pid_exists, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, workers))


def whole_files(loader, n):
    """How many pieces of a sequence are files from end to end."""
    place = loader.mixture.place(n)
    source = loader._sources[place.source]
    members = source.members[source.bounds[place.row] : source.bounds[place.row + 1]]
    texts = [
        (loader._texts["text"][row].as_py(), start, stop) for row, start, stop, *_ in source.pieces[members].tolist()
    ]
    return sum(start == 0 and stop == len(text) for text, start, stop in texts)


def test_only_whole_documents_are_infilled_at_document_level(made):
    forms = {}
    for level in ("document", "context"):
        infill = InfillRecipe(level=level, rate=1.0, units="line")
        loader = sequences(made, recipe=RECIPE.model_copy(update={"infill": infill}))
        forms[level] = [loader.sequence(n).forms for n in range(30)]
    # Pieces of 200 tokens hold few whole files of this project, and cut ones in every sequence.
    for n, found in enumerate(forms["document"]):
        assert sum(found.values()) - found["plain"] == whole_files(loader, n) < sum(found.values())
    assert {"psm", "spm"} <= {form for found in forms["context"] for form in found}


def test_conversations_and_packages_are_rendered_as_such(made, tmp_path):
    folder, _, _, _ = made
    plain = Tokenizer.from_folder(folder / "model").with_added_tokens(["<file_sep>", "<repo_name>"])
    tokenizer, sentinels = add_sentinels(plain)
    turns = [{"role": "user", "content": "Add two numbers."}, {"role": "assistant", "content": "a + b"}]
    (tmp_path / "talk.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    recipe = BatchRecipe(
        mixture={"conversations": 0.5, "repository": 0.5},
        conversations=str(tmp_path / "talk.jsonl"),
        sequence_tokens=1024,
        infill=InfillRecipe(rate=1.0),
    )
    prepare(folder / "corpus", tokenizer, recipe, tmp_path / "prepared", seed=5)
    loader = Sequences(tmp_path / "prepared", tokenizer, sentinels, recipe, 5)
    rows = {row.source: row for row in map(loader.sequence, range(40))}
    talk, package = rows["conversations"], rows["repository"]
    assert tokenizer.decode(talk.ids[talk.weights > 0].tolist()).strip() == "a + b"
    assert set(talk.forms) == {"plain"}
    assert set(package.forms) <= {"psm", "spm", "outgrown"}
    assert (package.ids == tokenizer.token_id("<file_sep>")).sum() >= 2


def test_sequences_fit_and_add_up(made):
    loader = sequences(made)
    for n in range(30):
        row = loader.sequence(n)
        assert len(row.ids) == len(row.weights) == len(row.kinds) == sum(row.lengths) <= RECIPE.sequence_tokens
        starts = np.cumsum([0, *row.lengths[:-1]])
        assert (row.weights[starts] == 0).all()


def test_a_second_epoch_draws_other_middles(made):
    loader = sequences(made, recipe=RECIPE.model_copy(update={"mixture": {"code-related": 1.0}}))
    count = next(len(source) for source in open_sources(made[0] / "prepared") if source.name == "code-related")
    epochs = [[loader.sequence(n) for n in range(first, first + count)] for first in (0, count)]
    assert [{row.epoch for row in rows} for rows in epochs] == [{0}, {1}]
    first = {row.ids.tobytes() for row in epochs[0]}
    # A sequence whose few pieces all stayed left to right twice is the same.
    assert sum(row.ids.tobytes() in first for row in epochs[1]) <= count // 4


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
    assert all(abs(drawn.count(name) / 40 - share) < 0.05 for name, share in mixture.items())


def test_a_language_the_corpus_lacks_is_one_line(made, tmp_path):
    folder, tokenizer, _, _ = made
    recipe = BatchRecipe(mixture={"code/Rust": 0.5, "code": 0.5})
    with pytest.raises(CodecriaError, match="no document of the kinds code/Rust to train on"):
        prepare(folder / "corpus", tokenizer, recipe, tmp_path / "none", seed=0)


def test_a_document_ends_with_the_end_of_text_not_of_a_turn(made):
    _, tokenizer, _, _ = made
    assert document_end_ids(tokenizer) == [tokenizer.token_id("<|endoftext|>")]

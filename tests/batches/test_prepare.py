import json
import os
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from codecria.batches.mixture import Mixture
from codecria.batches.prepare import check_size, open_sources, prepare
from codecria.batches.recipe import BatchRecipe, InfillRecipe
from codecria.common.errors import CodecriaError
from codecria.corpus.build import CorpusRecipe, build_corpus
from codecria.corpus.sources.folder import FolderRecipe
from codecria.corpus.store import iterate_documents
from codecria.tokenizer.sentinels import add_sentinels
from codecria.tokenizer.tokenizer import Tokenizer
from tests.tiny import SOURCE, write_tiny_checkpoint
from tests.training.small import write_corpus

RECIPE = BatchRecipe(sequence_tokens=512, piece_tokens=200, infill=InfillRecipe(level="context"))
WITH_ALL = {"code": 0.5, "repository": 0.3, "conversations": 0.2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepare")
    tokenizer = Tokenizer.from_folder(write_tiny_checkpoint(folder / "model"))
    tokenizer, _ = add_sentinels(tokenizer.with_added_tokens(["<repo_name>", "<file_sep>"]))
    source = FolderRecipe(path=str(SOURCE / "common"), licence="Apache-2.0")
    build_corpus(CorpusRecipe(sources=(source,), decontamination={"human_eval": False}), folder / "corpus")
    rows = [{"instruction": f"add {n}", "output": f"x + {n}"} for n in range(400)]
    rows += [{"instruction": "long", "output": "word " * 900}]
    (folder / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder, tokenizer


def texts_of(folder):
    return pa.ipc.open_file(pa.memory_map(str(folder / "texts.arrow"))).read_all()


def test_what_shapes_it_is_its_identity(made, tmp_path):
    folder, tokenizer = made

    def identity(seed=0, split="train", tokenizer=tokenizer, **changes):
        recipe = BatchRecipe.model_validate(RECIPE.model_dump() | changes)
        return prepare(folder / "corpus", tokenizer, recipe, tmp_path / "prepared", seed, split)["identity"]

    first = identity()
    same = [identity(infill={"level": "context", "rate": 0.5}), identity(mixture=dict.fromkeys(RECIPE.mixture, 1))]
    assert set(same) == {first}
    talk = {"conversations": str(folder / "talk.jsonl"), "mixture": WITH_ALL, "sequence_tokens": 2048}
    others = [
        identity(seed=1),
        identity(sequence_tokens=600),
        identity(piece_tokens=100),
        identity(mixture={"code": 1}),
        identity(mixture_changes=[{"from_step": 3, "mixture": {"code/Python": 1}}]),
        identity(**talk),
        identity(**talk, tokenizer=tokenizer.with_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")),
        identity(mixture={"code-related": 1}, split="train", tokenizer=tokenizer.with_added_tokens(["<new>"])),
    ]
    assert len({first, *others}) == 1 + len(others)


def test_it_is_written_once_and_whole_or_not_at_all(made, tmp_path, monkeypatch):
    folder, tokenizer = made
    facts = prepare(folder / "corpus", tokenizer, RECIPE, tmp_path / "prepared", 0)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "prepared").iterdir()}
    assert prepare(folder / "corpus", tokenizer, RECIPE, tmp_path / "prepared", 0) == facts
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(folder / "corpus", tokenizer, RECIPE, tmp_path / "prepared", 1)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "prepared").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]
    again = prepare(folder / "corpus", tokenizer, RECIPE, tmp_path / "again", 0)
    assert again == facts
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / "prepared" / path.name).read_bytes()


def test_tables_say_what_the_texts_hold(made, tmp_path):
    folder, tokenizer = made
    facts = prepare(folder / "corpus", tokenizer, RECIPE, tmp_path / "prepared", 0)
    texts = texts_of(tmp_path / "prepared").to_pylist()
    documents = [each for each in iterate_documents(folder / "corpus", "train") if each.kind in RECIPE.mixture]
    assert [(row["path"], row["language"], row["content_hash"]) for row in texts] == [
        (each.path, each.language, each.content_hash) for each in documents
    ]
    for source in open_sources(tmp_path / "prepared"):
        sizes = [source.pieces[source.members[a:b], 3].sum() for a, b in pairwise(source.bounds)]
        assert source.tokens.tolist() == sizes
        assert facts["sources"][source.name]["sequences"] == len(source) == len(sizes)
        assert facts["sources"][source.name]["tokens"] == sum(sizes)
        assert source.style == "documents"


def test_held_out_conversations_are_others(made, tmp_path):
    folder, tokenizer = made
    recipe = RECIPE.model_copy(update={"conversations": str(folder / "talk.jsonl")})
    # Nothing of this project is held out: what must be there to train may be absent there.
    recipe = recipe.model_copy(update={"mixture": {"conversations": 0.5, "code/Python": 0.5}})
    hashes = {}
    for split in ("train", "held_out"):
        prepare(folder / "corpus", tokenizer, recipe, tmp_path / split, 0, split)
        hashes[split] = set(texts_of(tmp_path / split)["content_hash"].to_pylist())
    assert not hashes["train"] & hashes["held_out"]
    assert len(hashes["train"] | hashes["held_out"]) > 400
    with pytest.raises(CodecriaError, match="no document of the kinds code, code-related, natural to hold out"):
        prepare(folder / "corpus", tokenizer, RECIPE, tmp_path / "none", 0, "held_out")
    assert 1 <= len(hashes["held_out"]) < 10


def talking(path, mixture, **changes):
    given = {"mixture": mixture, "conversations": str(path), "infill": {"level": "context"}}
    return BatchRecipe.model_validate({"sequence_tokens": 512} | given | changes)


def test_held_out_conversations_may_all_be_too_long(made, tmp_path):
    _, tokenizer = made
    rows = [{"instruction": f"add {n}", "output": "word " * 900} for n in range(400)]
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_corpus(tmp_path)
    recipe = talking(tmp_path / "talk.jsonl", {"code": 0.5, "conversations": 0.5})
    facts = prepare(tmp_path / "corpus", tokenizer, recipe, tmp_path / "held_out", 0, "held_out")
    assert set(facts["sources"]) == {"code"}
    with pytest.raises(CodecriaError, match=r"talk.jsonl: no conversation to train on: \d+ are longer than batches"):
        prepare(tmp_path / "corpus", tokenizer, recipe, tmp_path / "train", 0)


def test_a_file_without_conversations_is_named(made, tmp_path):
    folder, tokenizer = made
    (tmp_path / "talk.jsonl").write_text("\n")
    recipe = talking(tmp_path / "talk.jsonl", {"code": 0.5, "conversations": 0.5})
    with pytest.raises(CodecriaError, match=r"talk.jsonl: no conversation to train on; give more of them$"):
        prepare(folder / "corpus", tokenizer, recipe, tmp_path / "prepared", 0)


def test_a_file_of_conversations_may_have_any_bytes_as_its_name(made, tmp_path):
    folder, tokenizer = made
    (tmp_path / "talk").mkdir()
    name = os.fsdecode(b"r\xe9sum\xe9.jsonl")
    (tmp_path / "talk" / name).write_text((folder / "talk.jsonl").read_text())
    recipe = talking(tmp_path / "talk", {"conversations": 1.0})
    prepare(folder / "corpus", tokenizer, recipe, tmp_path / "prepared", 0)
    assert texts_of(tmp_path / "prepared")["path"][0].as_py().endswith(r"r\udce9sum\udce9.jsonl:1")


def test_conversations_and_repositories_are_sources_beside_the_others(made, tmp_path):
    folder, tokenizer = made
    recipe = RECIPE.model_copy(update={"sequence_tokens": 2048, "mixture": WITH_ALL})
    recipe = recipe.model_copy(update={"conversations": str(folder / "talk.jsonl")})
    facts = prepare(folder / "corpus", tokenizer, recipe, tmp_path / "prepared", 0)
    assert facts["sources"]["conversations"]["too_long"] == 1
    sources = {source.name: source for source in open_sources(tmp_path / "prepared")}
    assert [(name, source.style) for name, source in sources.items()] == [
        *(("code", "documents"), ("conversations", "conversations"), ("repository", "repository"))
    ]
    rows = texts_of(tmp_path / "prepared").to_pylist()
    talk = rows[sources["conversations"].pieces[0, 0]]
    assert json.loads(talk["text"])[1] == {"role": "assistant", "content": "x + 0"}
    assert talk["path"].endswith("talk.jsonl:1")
    package = rows[sources["repository"].pieces[0, 0]]
    files = json.loads(package["text"])["files"]
    assert len(files) > 1
    assert (files[-1][0], package["language"]) == (package["path"], "Python")
    mixture = Mixture.of(list(sources.values()), recipe, seed=0, sequences_per_step=4)
    tokens = dict.fromkeys(sources, 0)
    for n in range(200):
        place = mixture.place(n)
        name = list(sources)[place.source]
        tokens[name] += int(sources[name].tokens[place.row])
    for name, share in WITH_ALL.items():
        assert abs(tokens[name] - share * sum(tokens.values())) < recipe.sequence_tokens


def test_steps_of_the_recipe_become_sequences(made, tmp_path):
    folder, tokenizer = made
    change = {"from_step": 5, "mixture": {"code-related": 1}}
    caps = {"mixture": {"code": 1}, "mixture_changes": [change], "max_epochs": {"code-related": 1}}
    recipe = BatchRecipe.model_validate(RECIPE.model_dump() | caps)
    prepare(folder / "corpus", tokenizer, recipe, tmp_path / "prepared", 0)
    sources = open_sources(tmp_path / "prepared")
    mixture = Mixture.of(sources, recipe, seed=0, sequences_per_step=3)
    names = [sources[mixture.place(n).source].name for n in range(15 + len(sources[0]))]
    assert names == ["code"] * 15 + ["code-related"] * len(sources[0])
    with pytest.raises(CodecriaError, match="max_epochs leaves"):
        mixture.check(len(names) + 1)


def test_a_mixture_that_needs_what_is_not_there_is_one_line(made, tmp_path):
    folder, tokenizer = made
    for mixture, later in (
        ({"natural": 1}, {"code": 1}),
        ({"code": 1}, {"natural": 1}),
        ({"code/Rust": 1}, {"code": 1}),
    ):
        recipe = BatchRecipe(mixture=mixture, mixture_changes=[{"from_step": 2, "mixture": later}])
        with pytest.raises(CodecriaError, match=r"no document of the kinds (natural|code/Rust) to train on"):
            prepare(folder / "corpus", tokenizer, recipe, tmp_path / "none", 0)
    assert not list(tmp_path.iterdir())


def test_a_corpus_smaller_than_a_step_is_one_line_with_the_numbers():
    facts = {"sources": {"code": {"sequences": 5}, "natural": {"sequences": 2}}}
    check_size(facts, 7)
    with pytest.raises(CodecriaError, match=r"fills 7 sequences \(code 5, natural 2\), and one step takes 8"):
        check_size(facts, 8)

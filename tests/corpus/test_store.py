import json
import random

import pyarrow.parquet as pq
import pytest

from codecria.common.errors import CodecriaError
from codecria.corpus.build import CorpusRecipe, build_corpus
from codecria.corpus.document import Document, content_hash
from codecria.corpus.manifest import read_manifest
from codecria.corpus.sources.folder import FolderRecipe
from codecria.corpus.store import LedgerRow, LedgerWriter, ShardWriter, iterate_documents, read_rows, verify_corpus

TEXTS = ["", "x = 1\n", "# café 中文 😀\n", "\tif x:\n\t\tpass\n" * 500]


def document(text: str, number: int) -> Document:
    path = f"package/new\nline {number}.py"
    return Document(text, "code", "Python", "MIT", "package 1.0", path, content_hash(text))


@pytest.fixture(scope="module")
def corpus(projects, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "corpus"
    recipe = CorpusRecipe(sources=[FolderRecipe(path=str(projects))], shard_bytes=300_000)
    build_corpus(recipe, folder)
    return folder


@pytest.fixture
def copy(corpus, tmp_path):
    for file in corpus.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def write_shard(folder, documents, name="train-00000.parquet"):
    writer = ShardWriter(folder / "aside")
    for one in documents:
        writer.add(one, one.size_bytes)
    return writer.finish(folder / name, "train")


def test_a_shard_gives_back_what_was_written(tmp_path):
    rng = random.Random(0)
    documents = [document(rng.choice(TEXTS) * rng.randint(1, 3), number) for number in range(300)]
    shard = write_shard(tmp_path, documents)
    assert [file.name for file in tmp_path.iterdir()] == [shard.name]
    assert shard.documents == 300
    assert shard.text_bytes == sum(len(one.text.encode()) for one in documents)
    table = pq.read_table(tmp_path / shard.name)
    assert [Document(**row) for row in table.to_pylist()] == documents
    assert pq.ParquetFile(tmp_path / shard.name).metadata.row_group(0).column(0).compression == "ZSTD"


def test_the_same_documents_give_the_same_bytes(tmp_path):
    documents = [document(text, number) for number, text in enumerate(TEXTS)]
    first, second = (write_shard(tmp_path, documents, name) for name in ("a.parquet", "b.parquet"))
    assert first.sha256 == second.sha256
    assert first.contents == second.contents
    assert write_shard(tmp_path, documents[::-1]).contents != first.contents


def test_sizes_are_those_of_utf8():
    assert [document(text, 0).size_bytes for text in TEXTS] == [len(text.encode()) for text in TEXTS]


def test_iterating_a_corpus(corpus):
    manifest = verify_corpus(corpus)
    train = list(iterate_documents(corpus, "train", verify=True))
    assert len(train) == manifest.splits["train"].total.documents
    assert sum(one.size_bytes for one in train) == manifest.splits["train"].total.size_bytes
    assert all(content_hash(one.text) == one.content_hash for one in train)
    held_out = list(iterate_documents(corpus, "held_out"))
    assert len(held_out) == manifest.splits["held_out"].total.documents > 0
    some = list(iterate_documents(corpus, "train", columns=["path", "licence"]))
    assert [one.path for one in some] == [one.path for one in train]
    assert {one.text for one in some} == {""}


def test_unknown_column(corpus):
    with pytest.raises(CodecriaError, match=r"no column 'txt'; columns: text, kind, language"):
        next(iterate_documents(corpus, columns=["txt"]))


def test_missing_shard(copy):
    (copy / "train-00000.parquet").unlink()
    with pytest.raises(CodecriaError, match=r"train-00000.parquet: is missing: the manifest names it; build"):
        next(iterate_documents(copy))


def test_a_flipped_bit_is_found_by_its_hash(copy):
    path = copy / "train-00000.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CodecriaError, match=r"train-00000.parquet: is damaged: its SHA-256 is not the manifest's"):
        next(iterate_documents(copy, verify=True))
    with pytest.raises(CodecriaError, match="is damaged"):
        verify_corpus(copy)


def test_a_cut_shard_is_found_without_hashes(copy):
    path = copy / "train-00000.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CodecriaError, match=r"train-00000.parquet: is damaged: it cannot be read as Parquet"):
        next(iterate_documents(copy))


def test_a_damaged_ledger(copy):
    (copy / "ledger-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(CodecriaError, match=r"ledger-00000.parquet: is damaged"):
        verify_corpus(copy)


def test_manifests_that_cannot_be_used(copy):
    manifest = copy / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(manifest.read_text()[:-50])
    with pytest.raises(CodecriaError, match=r"manifest.json: is damaged or of another version"):
        read_manifest(copy)
    manifest.write_text(json.dumps({**content, "format": "codecria corpus 9"}))
    with pytest.raises(CodecriaError, match="is 'codecria corpus 9', not 'codecria corpus 2'"):
        read_manifest(copy)
    manifest.unlink()
    with pytest.raises(CodecriaError, match=r"holds no corpus \(no manifest.json\)"):
        read_manifest(copy)


def test_ledger_rows(tmp_path):
    rows = [
        LedgerRow("too-long", "9 characters", "code", "a 1", "a.py", 9),
        LedgerRow("near-copy", "of b", "code", "a 1", "c.py", 5, "b 1", "b.py", 0.75),
    ]
    ledger = LedgerWriter(tmp_path / "ledger.parquet")
    for row in rows:
        ledger.add_row(row)
    ledger.close()
    assert [LedgerRow(**row) for row in read_rows(tmp_path / "ledger.parquet", LedgerRow._fields)] == rows

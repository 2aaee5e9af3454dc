import json
import random

import pyarrow.parquet as pq
import pytest

from codecria.common.errors import CodecriaError
from codecria.corpus.build import CorpusRecipe, build_corpus
from codecria.corpus.document import Document, content_hash
from codecria.corpus.manifest import read_manifest
from codecria.corpus.sources.folder import FolderRecipe
from codecria.corpus.store import LedgerWriter, ShardWriter, iterate_documents, iterate_ledger, verify_corpus

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


def test_shards_give_back_what_was_written(tmp_path):
    rng = random.Random(0)
    documents = [document(rng.choice(TEXTS) * rng.randint(1, 3), number) for number in range(300)]
    writer = ShardWriter(tmp_path, "train", shard_bytes=200_000)
    for one in documents:
        writer.add(one, one.size_bytes)
    shards = writer.close()
    assert len(shards) > 3
    assert [shard.name for shard in shards][:2] == ["train-00000.parquet", "train-00001.parquet"]
    assert sum(shard.documents for shard in shards) == 300
    assert sum(shard.text_bytes for shard in shards) == sum(len(one.text.encode()) for one in documents)
    read = [Document(**row) for shard in shards for row in pq.read_table(tmp_path / shard.name).to_pylist()]
    assert read == documents
    assert pq.ParquetFile(tmp_path / shards[0].name).metadata.row_group(0).column(0).compression == "ZSTD"


def test_the_same_documents_give_the_same_bytes(tmp_path):
    hashes = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        writer = ShardWriter(folder, "train", 10**9)
        for number, text in enumerate(TEXTS):
            writer.add(document(text, number), len(text.encode()))
        hashes.append(writer.close()[0].sha256)
    assert hashes[0] == hashes[1]


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
    (copy / "ledger.parquet").write_bytes(b"PAR1")
    with pytest.raises(CodecriaError, match=r"ledger.parquet: is damaged"):
        verify_corpus(copy)


def test_manifests_that_cannot_be_used(copy):
    manifest = copy / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(manifest.read_text()[:-50])
    with pytest.raises(CodecriaError, match=r"manifest.json: is damaged or of another version"):
        read_manifest(copy)
    manifest.write_text(json.dumps({**content, "format": "codecria corpus 9"}))
    with pytest.raises(CodecriaError, match="is 'codecria corpus 9', not 'codecria corpus 1'"):
        read_manifest(copy)
    manifest.unlink()
    with pytest.raises(CodecriaError, match=r"holds no corpus \(no manifest.json\)"):
        read_manifest(copy)


def test_ledger_rows(tmp_path):
    with LedgerWriter(tmp_path) as ledger:
        ledger.drop("too-long", "9 characters", kind="code", origin="a 1", path="a.py", size_bytes=9)
        kept = ("b 1", "b.py", 0.75)
        ledger.drop("near-copy", "of b", kind="code", origin="a 1", path="c.py", size_bytes=5, kept=kept)
        ledger.close()
    first, second = iterate_ledger(tmp_path)
    assert (first["reason"], first["kept_path"], first["similarity"]) == ("too-long", None, None)
    assert (second["kept_origin"], second["kept_path"], second["similarity"]) == ("b 1", "b.py", 0.75)
    assert {reason: count.size_bytes for reason, count in ledger.dropped.items()} == {"too-long": 9, "near-copy": 5}

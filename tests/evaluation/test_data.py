from __future__ import annotations

import hashlib
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from codecria.common.errors import CodecriaError
from codecria.evaluation.data import Data, DataFile, MissingDataError
from codecria.evaluation.tasks.registry import TASKS

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b'{"task_id": 1}\n'
FILE = DataFile("set/rows.jsonl", "A set", "MIT", (hashlib.sha256(CONTENT).hexdigest(),))


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data of this machine."""
    monkeypatch.delenv("CODECRIA_DATA", raising=False)
    monkeypatch.setenv("CODECRIA_CACHE", str(tmp_path / "cache"))


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_is_found_below_the_folder_or_straight_in_it(tmp_path: Path) -> None:
    flat = put(tmp_path / "flat" / "rows.jsonl")
    assert Data(tmp_path / "flat").find(FILE).path == flat
    deep = put(tmp_path / "deep" / "set" / "rows.jsonl")
    found = Data(tmp_path / "deep").find(FILE)
    assert (found.path, found.verified) == (deep, True)
    assert found.told() == {
        "title": "A set",
        "licence": "MIT",
        "sha256": FILE.sha256[0],
        "verified": True,
        "stand_in": False,
    }


def test_the_folder_goes_before_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = put(tmp_path / "named" / "set" / "rows.jsonl")
    other = put(tmp_path / "variable" / "set" / "rows.jsonl")
    monkeypatch.setenv("CODECRIA_DATA", str(tmp_path / "variable"))
    assert Data(tmp_path / "named").find(FILE).path == named
    assert Data(None).find(FILE).path == other
    assert Data(tmp_path / "empty").find(FILE).path == other


def test_other_content_is_refused_in_one_line_unless_allowed_by_name(tmp_path: Path) -> None:
    put(tmp_path / "set" / "rows.jsonl", b"changed\n")
    with pytest.raises(CodecriaError, match=r"rows\.jsonl: is not A set as published .*--allow-data set/rows\.jsonl"):
        Data(tmp_path).find(FILE)
    found = Data(tmp_path, ("set/rows.jsonl",)).find(FILE)
    assert not found.verified
    assert found.sha256 == hashlib.sha256(b"changed\n").hexdigest()


def test_a_file_without_a_known_hash_is_read_and_said_to_be_unverified(tmp_path: Path) -> None:
    put(tmp_path / "set" / "rows.jsonl")
    assert not Data(tmp_path).find(DataFile("set/rows.jsonl", "A set", "MIT")).verified


def test_what_is_nowhere_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as where it is not installed
    with pytest.raises(MissingDataError, match=r"put set/rows\.jsonl into a folder and name that with --data"):
        Data(tmp_path).find(FILE)
    packaged = DataFile("x/y", "Y", "MIT", package=("no_such_package", "y"), hub=("owner/name", "y"))
    with pytest.raises(MissingDataError, match="or install no-such-package"):
        Data(None).find(packaged)


def test_what_comes_from_a_hub_is_kept_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is a stand-in: no network is to be had. What it gives goes the usual road."""
    calls: list[tuple[str, str, str]] = []

    def download(repository: str, file: str, *, repo_type: str, etag_timeout: float) -> str:
        assert etag_timeout <= 5
        calls.append((repository, file, repo_type))
        return str(put(tmp_path / "hub" / "blob", CONTENT if len(calls) == 1 else b"other\n"))

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download))
    file = DataFile(FILE.path, FILE.title, FILE.licence, FILE.sha256, hub=("owner/name", "data/rows.jsonl"))
    first = Data(None).find(file)
    assert first.path.read_bytes() == CONTENT and first.verified
    assert Data(None).find(file).path == first.path
    assert calls == [("owner/name", "data/rows.jsonl", "dataset")], "the second time it is in the cache"
    first.path.unlink()
    with pytest.raises(CodecriaError, match="is not A set as published"):
        Data(None).find(file)


def test_every_task_s_data_names_a_licence() -> None:
    files = [file for task in TASKS for file in task.data]
    assert files and all(file.licence and file.title for file in files)
    assert all(len(sha256) == 64 for file in files for sha256 in file.sha256)

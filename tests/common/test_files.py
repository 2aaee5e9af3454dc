import os
import signal
import subprocess
import sys
import time

import pytest

from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_file, atomic_folder, cache_folder, recover_folder, sha256_of_file, write_atomic


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "figures.json"
    write_atomic(path, "old")
    with pytest.raises(ValueError, match="stop"), atomic_file(path) as file:
        file.write(b"half")
        raise ValueError("stop")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["figures.json"]


def test_mode_follows_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        write_atomic(tmp_path / "file", b"x")
        with atomic_folder(tmp_path / "folder") as aside:
            (aside / "inside").write_text("x")
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755


def test_files_of_a_folder_follow_the_umask_too(tmp_path):
    """Writers in Rust make their files private: a checkpoint then cannot be read by a server's own user."""
    with atomic_folder(tmp_path / "checkpoint") as aside:
        (aside / "model.safetensors").touch(0o600)
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "checkpoint" / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


def test_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "model"
    for content in ("one", "two"):
        with atomic_folder(path) as aside:
            (aside / content).write_text(content)
    assert [each.name for each in path.iterdir()] == ["two"]
    assert [each.name for each in tmp_path.iterdir()] == ["model"]
    with pytest.raises(RuntimeError), atomic_folder(path) as aside:
        (aside / "three").write_text("3")
        raise RuntimeError
    assert [each.name for each in path.iterdir()] == ["two"]


def test_a_kill_between_the_two_renames_is_recovered(tmp_path):
    old = tmp_path / ".model.old"
    old.mkdir()
    (old / "weights").write_text("w")
    recover_folder(tmp_path / "model")
    assert (tmp_path / "model" / "weights").read_text() == "w"


WRITER = """
import sys, itertools
from codecria.common.files import write_atomic
for n in itertools.count():
    write_atomic(sys.argv[1], str(n % 10) * 200_000)
    if n == 0:
        print("writing", flush=True)
"""


def test_kill_while_writing_leaves_a_whole_file(tmp_path):
    path = tmp_path / "state"
    for delay_s in (0.005, 0.02, 0.05):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(delay_s)
            writer.send_signal(signal.SIGKILL)
        content = path.read_text()
        assert len(content) == 200_000
        assert len(set(content)) == 1


def test_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CodecriaError, match="folder"):
        write_atomic(tmp_path / "file" / "below", "x")


def test_sha256_and_cache_folder(tmp_path, monkeypatch):
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of_file(tmp_path / "empty").startswith("e3b0c44298fc1c14")
    monkeypatch.setenv("CODECRIA_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("CODECRIA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert str(cache_folder()) == "/some/where/codecria"

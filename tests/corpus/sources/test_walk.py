import inspect
import os
import socket
import sys
from pathlib import Path

import pytest

from codecria.corpus.sources.source import UnreadableError
from codecria.corpus.sources.walk import printable, read_listed, walk


def paths(root):
    return [found.path for found in walk(str(root))]


def test_files_in_name_order_files_before_folders(tmp_path):
    for name in ("b.py", "a/z.py", "a/b/c.py", "c.py", "A.py", "a-b/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert paths(tmp_path) == ["A.py", "b.py", "c.py", "a/z.py", "a/b/c.py", "a-b/c.py"]


def test_folders_of_tools_are_passed_by(tmp_path):
    for name in (".git/x.py", "node_modules/x.py", "a/__pycache__/x.py", "my-env/x.py", "my-env/pyvenv.cfg", "k/x.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert paths(tmp_path) == ["k/x.py"]
    marked = [found.path for found in walk(str(tmp_path), skip_marked=False)]
    assert marked == ["k/x.py", "my-env/pyvenv.cfg", "my-env/x.py"]
    assert paths(tmp_path / "my-env") == ["pyvenv.cfg", "x.py"], "a folder that is asked for is taken"


def test_links_pipes_and_sockets_are_not_files(tmp_path):
    (tmp_path / "a.py").write_text("x")
    (tmp_path / "link.py").symlink_to("a.py")
    (tmp_path / "loop").symlink_to(".", target_is_directory=True)
    os.mkfifo(tmp_path / "pipe.py")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.py"))
        assert paths(tmp_path) == ["a.py"]


def test_names_that_are_no_utf8_or_hold_anything(tmp_path):
    for name in (b"caf\xe9.py", "中文.py".encode(), b"new\nline.py", b" .py", b"quote'\".py"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    found = list(walk(str(tmp_path)))
    assert sorted(one.path for one in found) == sorted(
        [" .py", "caf\\xe9.py", "new\nline.py", "quote'\".py", "中文.py"]
    )
    for one in found:
        one.path.encode()
        assert Path(one.file).read_bytes() == b"x"
    assert printable("plain") == "plain"


def test_a_tree_deeper_than_python_recurses(tmp_path):
    file = tmp_path / ("d/" * 200) / "deep.py"
    file.parent.mkdir(parents=True)
    file.touch()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 50)
    try:
        assert paths(tmp_path) == ["d/" * 200 + "deep.py"]
    finally:
        sys.setrecursionlimit(limit)


def test_a_folder_that_cannot_be_listed_is_given(tmp_path):
    (found,) = walk(str(tmp_path / "absent"))
    assert (found.path, found.error) == ("./", "no such file or directory")


def test_sizes(tmp_path):
    (tmp_path / "a.py").write_bytes(b"12345")
    (one,) = walk(str(tmp_path))
    assert (one.size_bytes, one.error) == (5, "")
    assert one.modified_ns == (tmp_path / "a.py").stat().st_mtime_ns


def test_what_became_of_a_file_since_it_was_listed(tmp_path):
    file = tmp_path / "a.py"
    file.write_bytes(b"12345")
    assert read_listed(str(file), 5) == b"12345"
    file.write_bytes(b"123456")
    with pytest.raises(UnreadableError, match="5 bytes when listed, 6 when read") as changed:
        read_listed(str(file), 5)
    assert changed.value.reason == "changed"
    file.unlink()
    with pytest.raises(FileNotFoundError):
        read_listed(str(file), 5)
    file.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        read_listed(str(file), 5)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UnreadableError) as pipe:
        read_listed(str(file), 5)
    assert pipe.value.reason == "not-a-file"

import os
import socket
from pathlib import Path

from codecria.corpus.sources.walk import printable, walk


def paths(root):
    return [found.path for found in walk(str(root))]


def test_files_in_name_order_files_before_folders(tmp_path):
    for name in ("b.py", "a/z.py", "a/b/c.py", "c.py", "A.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert paths(tmp_path) == ["A.py", "b.py", "c.py", "a/z.py", "a/b/c.py"]


def test_folders_of_tools_are_passed_by(tmp_path):
    for name in (".git/x.py", "node_modules/x.py", "a/__pycache__/x.py", "my-env/x.py", "my-env/pyvenv.cfg", "k/x.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert paths(tmp_path) == ["k/x.py"]
    marked = [found.path for found in walk(str(tmp_path), skip_marked=False)]
    assert marked == ["k/x.py", "my-env/pyvenv.cfg", "my-env/x.py"]


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


def test_a_folder_that_cannot_be_listed_is_given(tmp_path):
    assert [(one.path, one.readable) for one in walk(str(tmp_path / "absent"))] == [(".", False)]


def test_sizes(tmp_path):
    (tmp_path / "a.py").write_bytes(b"12345")
    (one,) = walk(str(tmp_path))
    assert (one.size_bytes, one.readable) == (5, True)
    assert one.modified_ns == (tmp_path / "a.py").stat().st_mtime_ns

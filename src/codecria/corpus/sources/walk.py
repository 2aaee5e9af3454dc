"""Walking a folder tree in name order, past everything that is not a person's own text."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from codecria.common.errors import CodecriaError
from codecria.corpus.sources.source import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SKIPPED_FOLDERS_NAMES = """
.git .hg .svn .bzr .tox .nox .venv .eggs .idea .vscode .mypy_cache .pytest_cache .ruff_cache .hypothesis
.ipynb_checkpoints __pycache__ __pypackages__ node_modules bower_components
"""
SKIPPED_FOLDERS = frozenset(_SKIPPED_FOLDERS_NAMES.split())
"""Folders of tools; version control, caches, installed packages."""

_MARKS_OF_A_TOOL = ("pyvenv.cfg", "CACHEDIR.TAG", "conda-meta")
"""A folder that holds one of these is a virtual environment or a cache, whatever its name."""


class Found(NamedTuple):
    r"""A regular file, or a folder that cannot be listed.

    Attributes:
        file: its path on this machine; bytes that are not UTF-8 are surrogates, as Python's `os` gives them.
        path: the same under the root, valid UTF-8: such bytes are written `\xNN`; a folder's ends with `/`.
        size_bytes: its size.
        modified_ns: time of its last change.
        error: why a folder cannot be listed, or a file that vanished meanwhile not be read; empty for all others.
    """

    file: str
    path: str
    size_bytes: int
    modified_ns: int
    error: str = ""


def walk(root: str, skipped: frozenset[str] = SKIPPED_FOLDERS, skip_marked: bool = True) -> Iterator[Found]:
    """Every regular file under `root`, files of a folder before its folders, each in name order.

    Symbolic links are not followed: what they point to lies in the tree or is not the person's to give. Pipes,
    sockets and devices are passed by. A folder that cannot be listed is given with the error. Memory holds one
    folder's entries and the names of the folders still to come beside the path there.
    """
    waiting = [(root, "")]
    while waiting:
        folder, below = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield Found(folder, below or "./", 0, 0, _plain(error))
            continue
        if below and skip_marked and any(entry.name in _MARKS_OF_A_TOOL for entry in listed):
            continue
        for entry in listed:
            if entry.is_file(follow_symlinks=False):
                yield _found(entry, below + printable(entry.name))
        waiting += [
            (entry.path, f"{below}{printable(entry.name)}/")
            for entry in reversed(listed)
            if entry.is_dir(follow_symlinks=False) and entry.name not in skipped
        ]


def _found(entry: os.DirEntry[str], path: str) -> Found:
    try:
        state = entry.stat(follow_symlinks=False)
    except OSError as error:
        return Found(entry.path, path, 0, 0, _plain(error))
    return Found(entry.path, path, state.st_size, state.st_mtime_ns)


def _plain(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def printable(name: str) -> str:
    r"""A file name as valid UTF-8; bytes that are not are written `\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def existing_folder(path: str) -> Path:
    """The folder a recipe names.

    Raises:
        CodecriaError: it does not exist.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise CodecriaError("no such folder", where=path, mend="check the path of the source")
    return folder


def open_regular(file: str, follow_links: bool = False) -> BinaryIO:
    """Open a file that was regular when it was listed, and find out whether it still is without waiting for a pipe.

    Raises:
        OSError: it cannot be opened; a symbolic link is one reason, unless links are followed.
        UnreadableError: "not-a-file".
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableError("not-a-file", "no regular file any more")
    return os.fdopen(descriptor, "rb")


def read_listed(file: str, size_bytes: int) -> bytes:
    """The bytes of a file that had this size when it was listed.

    Raises:
        OSError, UnreadableError: as `open_regular`; "changed" where the size is another by now.
    """
    with open_regular(file) as opened:
        data = opened.read(size_bytes + 1)
        if len(data) != size_bytes:
            now = os.fstat(opened.fileno()).st_size
            raise UnreadableError("changed", f"{size_bytes:,} bytes when listed, {now:,} when read")
    return data

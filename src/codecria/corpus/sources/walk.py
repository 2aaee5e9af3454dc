"""Walking a folder tree in name order, past everything that is not a person's own text."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

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
        path: the same under the root, valid UTF-8: such bytes are written `\xNN`.
        size_bytes: its size.
        modified_ns: time of its last change.
        readable: False for a folder that cannot be listed and for a file that vanished meanwhile.
    """

    file: str
    path: str
    size_bytes: int
    modified_ns: int
    readable: bool = True


def walk(root: str, skipped: frozenset[str] = SKIPPED_FOLDERS, skip_marked: bool = True) -> Iterator[Found]:
    """Every regular file under `root`, files of a folder before its folders, each in name order.

    Symbolic links are not followed: what they point to lies in the tree or is not the person's to give. Pipes,
    sockets and devices are passed by. A folder that cannot be listed is given as if it were a file, so that
    reading it fails and is counted.
    """
    try:
        with os.scandir(root) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        yield Found(root, ".", 0, 0, readable=False)
        return
    yield from _walk(listed, "", skipped, skip_marked)


def _walk(listed: list[os.DirEntry[str]], above: str, skipped: frozenset[str], skip_marked: bool) -> Iterator[Found]:
    folders = [entry for entry in listed if entry.is_dir(follow_symlinks=False) and entry.name not in skipped]
    for entry in listed:
        if not entry.is_file(follow_symlinks=False):
            continue
        try:
            state = entry.stat(follow_symlinks=False)
        except OSError:
            yield Found(entry.path, above + printable(entry.name), 0, 0, readable=False)
            continue
        if stat.S_ISREG(state.st_mode):
            yield Found(entry.path, above + printable(entry.name), state.st_size, state.st_mtime_ns)
    for folder in folders:
        below = f"{above}{printable(folder.name)}/"
        try:
            with os.scandir(folder.path) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            yield Found(folder.path, below, 0, 0, readable=False)
            continue
        if not (skip_marked and any(entry.name in _MARKS_OF_A_TOOL for entry in inside)):
            yield from _walk(inside, below, skipped, skip_marked)


def printable(name: str) -> str:
    r"""A file name as valid UTF-8; bytes that are not are written `\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")

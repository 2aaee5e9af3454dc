"""The git program, so that nothing a repository says can act.

A repository may come from anywhere. Of its configuration only what reading needs is left: no hooks, no monitors, no
replaced objects, no fetching of what is missing; nobody else's configuration is read at all.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING

from codecria.corpus.sources.source import UnreadableError
from codecria.corpus.sources.walk import SKIPPED_FOLDERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": os.devnull,
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",  # an older git knows no other way to keep it from fetching
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_SETTINGS = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
_BLOCK_BYTES = 1_000_000
_MOST_LISTED_BYTES = 1_000_000_000
"""Names of some ten million files. Ten trees, each ten times in the next, would list as thousands of millions."""


def repositories(root: Path) -> Iterator[tuple[Path, Path]]:
    """Folders of repositories, each with where git keeps its objects; folders that cannot be listed hold none."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                listed = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        except OSError:
            continue
        if ".git" in listed:
            yield folder, folder / ".git"
        elif {"HEAD", "objects", "refs"} <= listed.keys():
            yield folder, folder
        else:
            below = [name for name, is_folder in listed.items() if is_folder and name not in SKIPPED_FOLDERS]
            waiting += [folder / name for name in sorted(below, reverse=True)]


def _start(git_folder: str, arguments: tuple[str, ...], standard_input: IO[bytes] | int) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.Popen(
        # Named outright, a repository is taken whoever owns it.
        ["git", "--git-dir", git_folder, *_SETTINGS, *arguments],
        stdin=standard_input,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment | _ENVIRONMENT,
    )


def ask(
    git_folder: str, *arguments: str, lines: Iterable[str] = (), end: bytes = b"\0"
) -> tuple[Iterator[bytes], bool]:
    """What a git command answers to some lines of input, as a stream of records, and whether it ended well.

    The answer lies on the disk until it has been read, so that half a listing is known as such before it is used.

    Raises:
        UnreadableError: "archive-bomb": the answer is longer than 1 GB.
    """
    said = tempfile.TemporaryFile()  # noqa: SIM115  `_records` closes it
    with tempfile.TemporaryFile() as asked:
        asked.writelines(line.encode() + b"\n" for line in lines)
        asked.seek(0)
        with _start(git_folder, arguments, asked) as process:
            assert process.stdout is not None
            while block := process.stdout.read(_BLOCK_BYTES):
                said.write(block)
                if said.tell() > _MOST_LISTED_BYTES:
                    process.kill()
                    raise UnreadableError("archive-bomb", f"git lists over {_MOST_LISTED_BYTES:,} bytes of names")
    said.seek(0)
    return _records(said, end), process.returncode == 0


def _records(listing: IO[bytes], end: bytes) -> Iterator[bytes]:
    rest = b""
    with listing:
        while block := listing.read(_BLOCK_BYTES):
            *records, rest = (rest + block).split(end)
            yield from records


def ask_lines(git_folder: str, *arguments: str, lines: Iterable[str] = ()) -> list[bytes]:
    """A short answer, by lines."""
    return list(ask(git_folder, *arguments, lines=lines, end=b"\n")[0])


class Objects:
    """Reads blobs through one git process, and through another after one that could not bear what it found."""

    def __init__(self, git_folder: str) -> None:
        self._git_folder = git_folder
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, name: str, size_bytes: int) -> bytes:
        """The bytes of a blob, which are what its name says they are.

        Raises:
            UnreadableError: "corrupt-object".
            BrokenPipeError: git was killed.
        """
        try:
            data = self._read(name, size_bytes)
        except BrokenPipeError:
            self.close()
            raise
        algorithm = "sha1" if len(name) == 40 else "sha256"
        if hashlib.new(algorithm, b"blob %d\0" % len(data) + data).hexdigest() != name:
            self.close()
            raise UnreadableError("corrupt-object", f"{name} is damaged or missing")
        return data

    def _read(self, name: str, size_bytes: int) -> bytes:
        if self._process is None:
            self._process = _start(self._git_folder, ("cat-file", "--batch"), subprocess.PIPE)
        asks, says = self._process.stdin, self._process.stdout
        assert asks is not None
        assert says is not None
        asks.write(name.encode() + b"\n")
        asks.flush()
        header = says.readline()
        return says.read(size_bytes + 1)[:-1] if re.fullmatch(rb"\w+ blob %d\n" % size_bytes, header) else b""

    def close(self) -> None:
        """End the process; the next file to be read starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

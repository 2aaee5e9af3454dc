"""One process at a time in a folder, by a lock that a killed process leaves open."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError, explain_os_error

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@contextlib.contextmanager
def alone(folder: Path, taken: str = "another build is writing it") -> Generator[None]:
    """Hold the lock `.NAME.lock` beside `folder` while the block runs.

    Args:
        folder: need not be there yet.
        taken: what to say where another process holds it.

    Raises:
        CodecriaError: another process holds it, or the parent folder cannot be written.
    """
    path = folder.parent / f".{folder.name}.lock"
    descriptor = _locked(path, folder, taken)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, folder: Path, taken: str) -> int:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise explain_os_error(error, path) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise CodecriaError(taken, where=folder, mend="wait until it has ended") from error
        except OSError:  # a file system without locks, as Lustre is by default: nobody can be told
            return descriptor
        # The holder removes the file when it is done: what was locked here may have no name any more.
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
        os.close(descriptor)

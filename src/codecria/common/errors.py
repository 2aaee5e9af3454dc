"""One kind of error for everything a person can mend: what is wrong, where, and the mend, on one line."""

from __future__ import annotations

import errno
import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class CodecriaError(Exception):
    """A failure with a cause outside the program: a file, a field, a machine.

    Args:
        what: what is wrong, with the offending value or number; no full stop.
        where: the file, line or field it is wrong in (`recipe.yaml:12`, `model.safetensors`, `--port`).
        mend: what the person can do about it; no full stop.

    `str(error)` is one line: `where: what; mend`. The command line prints that line and exits with status 1.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, mend: str | None = None) -> None:
        super().__init__(what, where, mend)
        self.what = what
        self.where = None if where is None else str(where)
        self.mend = mend

    def __reduce__(self) -> tuple[Callable[[str], CodecriaError], tuple[str]]:
        # Arguments with names are not pickled as they are, and errors come from worker processes.
        return functools.partial(type(self), where=self.where, mend=self.mend), (self.what,)

    def __str__(self) -> str:
        line = self.what if self.where is None else f"{self.where}: {self.what}"
        if self.mend is not None:
            line = f"{line}; {self.mend}"
        return " ".join(line.split())


def explain_os_error(error: OSError, where: str | Path | None = None) -> CodecriaError:
    """Turn an operating system's refusal into the same one line, with the mend for the common causes."""
    place = where if where is not None else (error.filename or None)
    mends = {
        errno.ENOSPC: (
            "no space left on the disk",
            "free some space and start again: what was written is kept",
        ),
        errno.EDQUOT: (
            "the disk quota is used up",
            "free some space and start again: what was written is kept",
        ),
        errno.ENOENT: ("no such file or folder", "check the path"),
        errno.EACCES: ("permission denied", "check who owns it and its mode"),
        errno.EISDIR: ("is a folder, not a file", "name a file"),
        errno.ENOTDIR: ("is a file, not a folder", "name a folder"),
        errno.EROFS: ("the file system is read-only", "name a folder that can be written"),
    }
    what, mend = mends.get(error.errno or 0, ((error.strerror or str(error)).lower(), None))
    return CodecriaError(what, where=place, mend=mend)

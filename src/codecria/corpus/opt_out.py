"""The opt-out list: repositories and packages whose authors want them left out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from codecria.common.files import read_bytes
from codecria.common.random import digest

_HOST = re.compile(r"^(?:[a-z+]+://)?(?:[^/@]*@)?(?:[\w-]+\.)+[\w-]+[:/]")
_END = re.compile(r"(?:\.git)?/*$")
_REVISION = re.compile(r"(?<=.)[\s=@].*")


@dataclass(frozen=True)
class OptOut:
    """What is left out.

    Attributes:
        names: repositories (`owner/name`), packages, and owners (`owner/*`); lower case.
    """

    names: frozenset[str]

    @classmethod
    def load(cls, paths: tuple[str, ...]) -> OptOut:
        """Read lists: a repository (`owner/name`, its address, or `owner/*`) or a package a line; `#` begins a comment.

        Raises:
            CodecriaError: a list cannot be read.
        """
        names: set[str] = set()
        for path in paths:
            text = read_bytes(Path(path).expanduser()).decode("utf-8", "replace")
            names.update(_plain(line.partition("#")[0]) for line in text.splitlines())
        return cls(frozenset(names - {""}))

    @property
    def identity(self) -> bytes:
        """Changes when what is covered does."""
        return digest(*sorted(self.names))

    def covers(self, package: str, origin: str) -> bool:
        """Whether a package, or the repository it comes from, is left out, whatever its version or revision."""
        names = {_plain(package), _plain(_REVISION.sub("", origin))}
        owners = {f"{name.partition('/')[0]}/*" for name in names if "/" in name}
        return not self.names.isdisjoint(names | owners)


def _plain(name: str) -> str:
    """`https://github.com/Owner/Name.git` is `owner/name`."""
    return _END.sub("", _HOST.sub("", name.strip().lower()))

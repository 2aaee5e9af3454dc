"""What a source gives: units of work in a fixed order, each a stream of files.

A unit is what one worker reads at a time: an archive, some thousand files of a folder, a few row groups of a
table. It is small enough to be lost, large enough to be worth a process, and it can be sent to another machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from codecria.corpus.licence import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from codecria.corpus.document import Kind

Form = Literal["file", "docstrings", "description", "html", "man"]
"""How text is taken from a file: as it is, a Python module's docstrings, a package's description in its METADATA,
the prose of a web page, the prose of a man page."""


class UnreadableError(Exception):
    """A file has no text to give. `reason` is a name for the ledger ("cut-short"), `detail` says what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def reason_of(error: UnreadableError | OSError) -> tuple[str, str]:
    """Reason and detail for the ledger."""
    if isinstance(error, UnreadableError):
        return error.reason, error.detail
    return "unreadable", (error.strerror or str(error)).lower()


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that may become a document.

    Attributes:
        path: where it lies inside its package or source, valid UTF-8, `/` between folders.
        package: the repository or package it belongs to, without version: what is held out together.
        origin: the package with its version, or the repository with its revision.
        size_bytes: its size, unpacked.
        read: gives its bytes; may raise UnreadableError or OSError. Only good until the unit's next file is asked for.
        licence: what the package's metadata or the licence file nearest above says; the file's own header comes
            before that.
        licence_is_for_file: the licence was stated for this very file (Debian's copyright files): no header is asked.
        kind: which part of the mixture it belongs to; None: by its name and first bytes.
        language: its language; None: by its name and first bytes.
        form: how its text is taken.
        docstrings: if it is Python, its docstrings make a second document.
        modified_s: when this text was published, in seconds since 1970; 0 where that is not known.
    """

    path: str
    package: str
    origin: str
    size_bytes: int
    read: Callable[[], bytes]
    licence: str = UNKNOWN
    licence_is_for_file: bool = False
    kind: Kind | None = None
    language: str | None = None
    form: Form = "file"
    docstrings: bool = False
    modified_s: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """Something a source will not open: one line of the ledger.

    Attributes:
        path, package, origin, size_bytes: as for `SourceFile`.
        reason: a name for the ledger ("unsafe-path", "not-a-file", "archive-bomb").
        detail: what was found.
    """

    path: str
    package: str
    origin: str
    size_bytes: int
    reason: str
    detail: str


class Unit(Protocol):
    """A part of a source: picklable, and readable on any machine that sees the same files."""

    @property
    def name(self) -> str:
        """Names the unit in the ledger where all of it fails: valid UTF-8."""
        ...

    @property
    def size_bytes(self) -> int:
        """How much there is to read, about: for the progress bar."""
        ...

    @property
    def state(self) -> str:
        """Changes when what the unit holds changes: sizes and times, or a hash."""
        ...

    def files(self) -> Iterator[SourceFile | Refused]:
        """The files, in an order that does not change while the unit's state does not.

        May raise OSError or UnreadableError part of the way: what came before is kept, the rest is one ledger line.
        """
        ...


@dataclass(frozen=True, slots=True)
class RefusedUnit:
    """A unit that cannot be read, or of which only that is known: one line of the ledger."""

    name: str
    size_bytes: int
    state: str
    refused: Refused | UnreadableError

    def files(self) -> Iterator[Refused]:
        """The line."""
        if isinstance(self.refused, UnreadableError):
            raise self.refused
        yield self.refused


class Source(Protocol):
    """A place documents come from."""

    def units(self) -> Iterator[Unit]:
        """All units, in an order that does not change while the source does not; listed as a stream."""
        ...

    def describe(self) -> str:
        """One line for the manifest: what it is and where."""
        ...

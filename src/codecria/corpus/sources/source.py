"""What a source gives: candidates, in a fixed order, that say where a document's text lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codecria.corpus.document import Kind

Form = Literal["file", "docstrings", "description"]
"""How the text is taken from the file: whole, as a Python module's docstrings, as a package's description."""

FORMS: tuple[Form, ...] = ("file", "docstrings", "description")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may become a document. Nothing of it has been read yet but its size.

    Attributes:
        file: where it lies on this machine.
        form: how its text is taken.
        kind: which part of the mixture it would belong to.
        language: by its name.
        licence: what its package or the licence file above it says; the file's own header comes before that.
        package: name of the package it belongs to, without version: what is held out together.
        origin: the package with its version.
        path: where it lies inside the source, valid UTF-8, `/` between folders.
        size_bytes: its size on disk.
        modified_ns: when it was last changed.
    """

    file: str
    form: Form
    kind: Kind
    language: str
    licence: str
    package: str
    origin: str
    path: str
    size_bytes: int
    modified_ns: int


def docstrings_of(module: Candidate) -> Candidate:
    """The candidate of a Python file's docstrings beside that of the file."""
    return Candidate(
        file=module.file,
        form="docstrings",
        kind="code-related",
        language="English",
        licence=module.licence,
        package=module.package,
        origin=module.origin,
        path=f"{module.path}#docstrings",
        size_bytes=module.size_bytes,
        modified_ns=module.modified_ns,
    )


class Source(Protocol):
    """A place documents come from."""

    def documents(self) -> Iterator[Candidate]:
        """All candidates, in an order that does not change while the files do not."""
        ...

    def describe(self) -> str:
        """One line for the manifest: what it is and where."""
        ...

"""A document: one file's text, or prose gathered from it, with what is known of where it comes from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["code", "code-related", "natural"]
"""The three parts of the paper's data (table 1): code, natural language about code, natural language."""

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Document:
    r"""One training document.

    Attributes:
        text: the whole text; line ends are `\n`.
        kind: which part of the mixture it belongs to.
        language: a name from `languages.py` ("Python", "Markdown"), or "English" for gathered prose.
        licence: an SPDX expression, or "unknown".
        origin: package and version ("networkx 3.4", "python 3.11.7"), or the name of a person's project.
        path: where it lay inside its source, valid UTF-8; docstrings end in `#docstrings`.
        content_hash: `content_hash(text)`.
    """

    text: str
    kind: Kind
    language: str
    licence: str
    origin: str
    path: str
    content_hash: str

    @property
    def size_bytes(self) -> int:
        """Length of the text in UTF-8."""
        return len(self.text) if self.text.isascii() else len(self.text.encode())


def content_hash(text: str) -> str:
    """SHA-256 of the text in UTF-8, hexadecimal: the key of infill draws, so it must never change."""
    return hashlib.sha256(text.encode()).hexdigest()

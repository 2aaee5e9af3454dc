"""Licence files: which files of a folder are some, and what one says."""

from __future__ import annotations

import re

from codecria.corpus.licence import UNKNOWN, licence_of_text
from codecria.corpus.reading import decode

_FAMILY = r"(?:mit|x11|bsd|apache|[al]?gpl|gnu|isc|[me]pl|zlib|boost|artistic|unlicense|cc0|psf|python|lesser|lib)"
_NUMBER = r"v?\d(?:[._]\d)*(?![a-z0-9])"
_LICENCE_FILE = re.compile(
    rf"(?:{_FAMILY}[._-])?(?:(?:un)?licen[cs]es?|copying\d?)(?:[_-](?:{_FAMILY}|{_NUMBER}).*|\..*)?|copyright(?:\..*)?",
    re.IGNORECASE,
)
_CODE_FILE = re.compile(
    r"\.(?:py[ic]?|[jt]sx?|c|h|cc|[ch]pp|go|rs|java|rb|json|html|php|cs|s?css|hs|xml|sh|kt|vue|swift|ya?ml|svg|png|pdf)$",
    re.IGNORECASE,
)
_INCLUDES = re.compile(r"^\.\. (?:literal)?include::|^[`:]{3,}\{(?:literal)?include\}", re.MULTILINE)


def is_licence_file(name: str) -> bool:
    """Whether a file of this name holds a licence (LICENSE, LICENCE.md, COPYING.LESSER, ...), not code about them."""
    return _LICENCE_FILE.fullmatch(name) is not None and _CODE_FILE.search(name) is None


def licence_of_file(text: str) -> str | None:
    """What a licence file says: unknown where it cannot be told, None where it includes another (docs/license.rst)."""
    return licence_of_text(text) or (None if _INCLUDES.search(text) else UNKNOWN)


def licence_of_bytes(data: bytes) -> str | None:
    """See `licence_of_file`; unknown where the bytes are no text."""
    text = decode(data)
    return licence_of_file(text) if isinstance(text, str) else UNKNOWN

"""Licences: found in a file's header, in a package's metadata or in a licence file, written as SPDX expressions.

What speaks for a file, the nearest first:

1. an `SPDX-License-Identifier` or a licence notice in the file's leading comments;
2. a licence file in a folder of the package below its root (vendored code);
3. the package's metadata: `License-Expression`, classifiers, the `License` field;
4. the licence file at the package's root.

This is reading, not legal advice: a text that no phrase matches is "unknown", and unknown is not permissive.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from codecria.corpus.licence_names import ALIASES, PERMISSIVE, PHRASES, SPDX_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

UNKNOWN = "unknown"

_IDENTIFIER = re.compile(r"SPDX-License-Identifier:[ \t]*([^\r\n]+)")
_NAME = r"\(*[A-Za-z0-9][A-Za-z0-9.+\-]*\)*"
_IDENTIFIER_WORDS = re.compile(rf"{_NAME}(?: +(?:AND|OR|WITH) +{_NAME})*", re.IGNORECASE)
_TOKEN = re.compile(r"\(|\)|[A-Za-z0-9.+\-]+")
_SEPARATORS = re.compile(r"[^a-z0-9.]+")
_COMMENT = re.compile(r"^\s*(?:#|//|/\*|\*|--|;|%|<!--|\.\.|\(\*|\"\"\"|'''|rem )", re.IGNORECASE)
_HEADER_CHARACTERS = 4_000


def is_permissive(expression: str) -> bool:
    """Whether an SPDX expression lets the text be used under permissive terms alone.

    One permissive side of an OR is enough; every part of an AND must be permissive; `X WITH exception` is as X.
    """
    try:
        return _Reader(_TOKEN.findall(expression)).read()
    except ValueError:
        return False


class _Reader:
    """OR of ANDs of (identifier [WITH exception] | parenthesised expression)."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = [*tokens, ""]
        self._place = 0

    def read(self) -> bool:
        value = self._either()
        if self._peek():
            raise ValueError(self._peek())
        return value

    def _peek(self) -> str:
        return self._tokens[self._place]

    def _take(self) -> str:
        token = self._peek()
        if not token:
            raise ValueError("the expression ends early")
        self._place += 1
        return token

    def _either(self) -> bool:
        value = self._both()
        while self._peek().upper() == "OR":
            self._take()
            value = self._both() or value
        return value

    def _both(self) -> bool:
        value = self._one()
        while self._peek().upper() == "AND":
            self._take()
            value = self._one() and value
        return value

    def _one(self) -> bool:
        token = self._take()
        if token == "(":
            value = self._either()
            if self._take() != ")":
                raise ValueError("a parenthesis is not closed")
            return value
        if self._peek().upper() == "WITH":
            self._take()
            self._take()
        return token.lower() in _PERMISSIVE_LOWER


_PERMISSIVE_LOWER = frozenset(name.lower() for name in PERMISSIVE)


def licence_in_header(text: str) -> str | None:
    """The licence a source file's leading comments state, or None when they state none."""
    start = text[:_HEADER_CHARACTERS]
    if "icens" not in start and "ICENS" not in start and "granted" not in start:
        return None
    header = _leading_comments(start)
    identifiers = [found for found in map(_identifier_of, _IDENTIFIER.findall(header)) if found]
    if identifiers:
        return " AND ".join(dict.fromkeys(identifiers))
    found = _licences_in(header)
    return " AND ".join(found) if found else None


def _leading_comments(text: str) -> str:
    """Comment lines and a docstring before the first line of code."""
    lines: list[str] = []
    closing: str | None = None
    for line in text.splitlines():
        if closing is not None:
            lines.append(line)
            if closing in line:
                closing = None
            continue
        bare = line.strip()
        if bare and not _COMMENT.match(line) and not bare.startswith(("r'''", 'r"""', "<?", "{#")):
            break
        lines.append(line)
        for opening, end in (('"""', '"""'), ("'''", "'''"), ("/*", "*/"), ("<!--", "-->")):
            before, mark, after = bare.partition(opening)
            if mark and len(before) <= 1 and end not in after:
                closing = end
    return "\n".join(lines)


def _identifier_of(written: str) -> str | None:
    words = _IDENTIFIER_WORDS.match(written.strip())
    return words.group(0).strip() if words else None


def licence_of_text(text: str) -> str | None:
    """The licence whose text this is: the first one stated, or None. For LICENSE files and long License fields."""
    found = _licences_in(text)
    return found[0] if found else None


def _licences_in(text: str) -> list[str]:
    """Every licence whose phrase occurs, in the order of the text."""
    plain = _plain(text)
    places: dict[str, int] = {}
    for phrase, name in PHRASES:
        place = plain.find(phrase)
        if place >= 0 and not (name == "GPL" and _is_gpl_only_named(plain, place)):
            exact = _exact(name, plain, place)
            places[exact] = min(place, places.get(exact, place))
    return sorted(places, key=lambda name: (places[name], name))


_NAMES_THE_GPL = ("gnu lesser general", "gnu affero general", "gnu library general", "gnu free documentation")


def _is_gpl_only_named(plain: str, place: int) -> bool:
    """The LGPL, the AGPL and the GFDL name the GPL in their own texts."""
    return any(other in plain[:place] for other in _NAMES_THE_GPL)


def _exact(name: str, plain: str, place: int) -> str:
    """The version or variant, where several licences share a phrase."""
    rest = plain[place : place + 3_000]
    if name == "BSD":
        if "all advertising materials mentioning" in rest:
            return "BSD-4-Clause"
        return (
            "BSD-3-Clause" if re.search(r"neither the names? of|may not be used to endorse", rest) else "BSD-2-Clause"
        )
    if name == "MIT" and "shall be included in all copies" not in rest:
        return "MIT-0"
    if name == "ISC" and "provided that" not in rest[:200]:
        return "0BSD"
    if name in ("GPL", "LGPL", "AGPL"):
        version = re.search(r"version (\d(?:\.\d)?)", plain[max(0, place - 200) : place + 400])
        number = version.group(1) if version else {"GPL": "1", "LGPL": "2", "AGPL": "3"}[name]
        return f"{name}-{number if '.' in number else number + '.0'}-or-later"
    return name


def _plain(text: str) -> str:
    return _SEPARATORS.sub(" ", text.lower())


def licence_of_metadata(expression: str | None, classifiers: Iterable[str], field: str | None) -> str | None:
    """The licence a Python package's metadata states; `LicenseRef-BSD` where it says BSD and not which.

    Args:
        expression: `License-Expression` (PEP 639).
        classifiers: all `Classifier` lines.
        field: `License`: an identifier, a name, or a whole licence text.
    """
    if expression and expression.strip():
        return expression.strip()
    named = [_named(line.rsplit(" :: ", 1)[1]) for line in classifiers if line.startswith("License :: ")]
    stated = _named(field) if field else None
    found = list(dict.fromkeys(name for name in named if name is not None))
    if found and found != ["LicenseRef-BSD"]:
        return " AND ".join(found)
    if stated is not None:
        return stated
    return found[0] if found else None


def _named(written: str) -> str | None:
    """An SPDX expression for a name, an expression or a whole text; None when it is none of them."""
    written = written.strip()
    if len(written) > 200 or "\n" in written:
        return licence_of_text(written)
    key = re.sub(r"\s+", " ", written.lower().replace(",", " ").replace("-", " ")).strip()
    for candidate in (
        key,
        re.sub(r"^the | licen[sc]e(?: v\.?| version)?$", "", key),
        re.sub(r" licen[sc]e\b", "", key),
    ):
        if candidate in ALIASES:
            return ALIASES[candidate]
    words = _TOKEN.findall(written)
    if words and all(word.upper() in ("AND", "OR", "WITH", "(", ")") or word in SPDX_NAMES for word in words):
        return written
    return licence_of_text(written)


def is_licence_file(name: str) -> bool:
    """Whether a file of this name holds a licence (LICENSE, LICENCE.md, COPYING.LESSER, ...), not code about them."""
    return re.fullmatch(r"(?:un)?licen[cs]es?(?:[._-].*)?|copying(?:[._-].*)?", name, re.IGNORECASE) is not None and (
        not re.search(r"\.(?:py|pyi|pyc|js|ts|c|h|go|rs|java|rb|json|html)$", name, re.IGNORECASE)
    )

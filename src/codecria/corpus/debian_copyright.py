"""Debian's machine-readable copyright files (copyright-format 1.0, and its drafts under the name of DEP-5).

They say for each file of a source package which licence it is under, as a person found it out. Licences have short
names of Debian's own; they are given as SPDX expressions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import translate

from codecria.corpus.licence import UNKNOWN, canonical, licence_of_text, named

_PROSE = re.compile(r"\W*(?:permission|redistribution|this|the|by|copyright|you|all)\s", re.IGNORECASE)
_UNFINISHED = re.compile(r"(?:\b(?:or|and|with)|[,/|])$", re.IGNORECASE)
_HYPHENED = re.compile(r"[-_](or|and|with)[-_](?!later)", re.IGNORECASE)
_COMMA = re.compile(r"\s*,\s*(or\b|and\b|)\s*", re.IGNORECASE)
_OR = re.compile(r"\s+(?:and/or|or|\||/)\s+", re.IGNORECASE)
_AND = re.compile(r"\s+(?:and|&)\s+", re.IGNORECASE)
_WITH = re.compile(r"(.+?)\s+with\s+(.+?)(?:[- ]exceptions?)?", re.IGNORECASE)
_GNU = re.compile(r"([al]?gpl|gfdl)(-niv)?(?:[- ]?v?([1-3])(\.\d)?(?:\.0)*)?(\+| or later|-or-later)?(?:-only)?")
_VARIANT = re.compile(r"(expat|mit|isc|zlib|public-domain|bsd-?[1-4](?:-clause)?)[-~_ +].+|.+-(?:pd|public-domain)")
_SYNONYMS_PAIRS = """
all-permissive:FSFAP permissive-fsf:FSFAP apache:Apache-2.0 artistic:Artistic-1.0 boost:BSL-1.0 boost-1.0:BSL-1.0
bsl:BSL-1.0 bsd:LicenseRef-BSD bsd-c2:BSD-2-Clause bsd-c3:BSD-3-Clause cc0:CC0-1.0 expat:MIT mit/x:MIT mit/x11:MIT
openldap-2.8:OLDAP-2.8 pd:LicenseRef-public-domain public-domain:LicenseRef-public-domain
publicdomain:LicenseRef-public-domain python:Python-2.0 wtfpl-2:WTFPL zope-2.1:ZPL-2.1
"""
_SYNONYMS = {name: spdx for name, _, spdx in (pair.partition(":") for pair in _SYNONYMS_PAIRS.split())}
_EXCEPTIONS_PAIRS = """
autoconf:Autoconf-exception-generic autoconf-data:Autoconf-exception-generic bison:Bison-exception-2.2
classpath:Classpath-exception-2.0 font:Font-exception-2.0 gcc-runtime-3.1:GCC-exception-3.1 libtool:Libtool-exception
linux-syscall-note:Linux-syscall-note llvm:LLVM-exception
"""
_EXCEPTIONS = {name: spdx for name, _, spdx in (pair.partition(":") for pair in _EXCEPTIONS_PAIRS.split())}


@dataclass(frozen=True)
class CopyrightFile:
    """What a `debian/copyright` says of each file; nothing where it is not machine-readable.

    Attributes:
        licences: SPDX expression of each stanza, in the order of the file.
        named: the last stanza that names a file or a folder, by its path; `""` is the root. Boost has 36,000.
        matched: stanzas with other patterns, the last first.
    """

    licences: tuple[str, ...] = ()
    named: dict[str, int] = field(default_factory=dict[str, int])
    matched: tuple[tuple[int, re.Pattern[str]], ...] = ()

    @classmethod
    def parse(cls, text: str) -> CopyrightFile:
        """Read the file. Nothing makes it fail: a licence that cannot be read is unknown, not another stanza's."""
        text = text.replace("\r", "").strip("\ufeff\n")
        paragraphs = [_fields(paragraph) for paragraph in re.split(r"\n(?:[ \t]*\n)+", text)]
        if paragraphs[0].keys().isdisjoint(("format", "format-specification")):
            return cls()
        texts = dict(map(_text_of_name, (each for each in paragraphs if "files" not in each and "license" in each)))
        licences: list[str] = []
        named: dict[str, int] = {}
        matched: list[tuple[int, re.Pattern[str]]] = []
        for fields in paragraphs:
            patterns = [word.strip(",").removeprefix("./") for word in fields.get("files", "").split()]
            if not patterns:
                continue
            globs: list[str] = []
            for pattern in patterns:
                path = re.sub(r"(?:^|/)\*?$", "", pattern)
                if re.search(r"[*?\[\\]", path):
                    globs += _globs(pattern)
                else:
                    named[path] = len(licences)
            if globs:
                matched.append((len(licences), re.compile("|".join(map(translate, globs)))))
            licences.append(_licence_of_field(fields.get("license", ""), texts) or UNKNOWN)
        return cls(tuple(licences), named, tuple(reversed(matched)))

    def licence_of(self, path: str) -> str | None:
        """The SPDX expression of the last stanza that names the file, or None.

        Args:
            path: below the root of the source package, without `./`.
        """
        last, part = self.named.get("", -1), path
        while part:
            last, part = max(last, self.named.get(part, -1)), part.rpartition("/")[0]
        last = next((number for number, pattern in self.matched if number > last and pattern.match(path)), last)
        return self.licences[last] if last >= 0 else None


def _fields(paragraph: str) -> dict[str, str]:
    """Fields by lower-case name; continued lines keep their line ends."""
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.split("\n"):
        if line[:1] in (" ", "\t"):
            fields[name] = f"{fields.get(name, '')}\n{line.strip()}"
        elif stated := re.match(r"([A-Za-z][A-Za-z-]*)[ \t]*:(.*)", line):
            name = stated[1].lower()
            fields[name] = stated[2].strip()
    return fields


def _globs(pattern: str) -> list[str]:
    r"""The shell patterns for one of Debian's: `*` and `?` match `/` too, `\` escapes, a folder means all in it.

    Debian's format takes `[` as it is, yet real files mean `calc.[ch]` as a shell does: both match.
    """
    exact = re.sub(r"\\([*?\\])|\[", lambda found: f"[{found[1] or '['}]", pattern)
    globs = [exact] if "[" not in pattern else [exact, pattern]
    return globs if pattern.endswith("*") else [*globs, f"{exact.rstrip('/')}/*"]


def _text_of_name(fields: dict[str, str]) -> tuple[str, str]:
    """A stanza that gives a licence's text once, for its short name: `License: Go`."""
    name, _, text = fields["license"].partition("\n")
    return name.strip().lower(), text


def _licence_of_field(stated: str, texts: dict[str, str]) -> str | None:
    """What a License field states in its first line; where that is prose or a name of their own, what the text says."""
    first, *rest = stated.strip().split("\n")
    if rest and _UNFINISHED.search(first):
        first = f"{first} {rest[0]}"
    if _PROSE.match(first):
        return licence_of_text(stated)
    expression = expression_of(first[:2_000])
    if expression and re.fullmatch(r"LicenseRef-[A-Za-z0-9.-]+", expression):
        return licence_of_text("\n".join(rest) or texts.get(first.strip().lower(), "")) or expression
    return expression


def expression_of(synopsis: str) -> str | None:
    """The SPDX expression for a list of Debian's short names; None where there is none.

    `and` binds more than `or`, a comma less than both. Names without an SPDX name become `LicenseRef-NAME`.
    """
    groups = _COMMA.split(_HYPHENED.sub(r" \1 ", synopsis.strip(" \t,")))
    if not all(groups[::2]):
        return None
    sides = [[[_spdx(name) for name in _AND.split(side.strip())] for side in _OR.split(group)] for group in groups[::2]]
    operator = "or" if set(map(str.lower, groups[1::2])) - {""} == {"or"} else "and"
    return _joined([_joined([_joined(names, "and") for names in group], "or") for group in sides], operator)


def _joined(parts: list[str], operator: str) -> str:
    is_and = operator == "and" and len(parts) > 1
    return f" {operator.upper()} ".join(f"({part})" if is_and and " OR " in part else part for part in parts)


def _spdx(short: str) -> str:
    """One short name, with or without an exception."""
    if excepted := _WITH.fullmatch(short):
        exception = _slug(excepted[2])
        return f"{_spdx(excepted[1])} WITH {_EXCEPTIONS.get(exception.lower(), f'AdditionRef-{exception}')}"
    low = re.sub(r"^bsd-?([1-4])$", r"bsd-\1-clause", short.lower().replace("lpgl", "lgpl"))
    if gnu := _GNU.fullmatch(low):
        major, minor = {"gpl": "1.0", "lgpl": "2.0", "agpl": "3.0", "gfdl": "1.1"}[gnu[1]].split(".")
        version = f"{gnu[3] or major}{gnu[4] or '.' + minor}{'-no-invariants' if gnu[2] else ''}"
        return f"{gnu[1].upper()}-{version}-{'or-later' if gnu[5] or not gnu[3] else 'only'}"
    if known := _SYNONYMS.get(low) or canonical(low) or canonical(f"{low}.0"):
        return known
    if variant := _VARIANT.fullmatch(low):
        return _spdx(variant[1] or "pd")
    return (named(short) if re.search("[ /]", short) else None) or f"LicenseRef-{_slug(short)}"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-") or "unnamed"

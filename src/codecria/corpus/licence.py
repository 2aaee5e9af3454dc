"""Licences: found in a file's header, in a package's metadata or in a licence file, written as SPDX expressions.

What speaks for a file, the nearest first: its header, the package's metadata, the licence file nearest above it.
A header that states several licences is under all of them (AND), unless it offers a choice (OR).

This is reading, not legal advice: a text that no phrase matches is "unknown", and unknown is not permissive. So is
one that is under terms of its own; only what says nothing is under the terms of what lies around it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from codecria.corpus.licence_names import NAMES, PERMISSIVE, PHRASES

if TYPE_CHECKING:
    from collections.abc import Iterable

UNKNOWN = "unknown"

_PERMISSIVE_LOWER = frozenset(name.lower() for name in PERMISSIVE)
_PARENTHESES = re.compile(r"(?<![A-Za-z0-9.+-])\(([^()]*)\)(?![A-Za-z0-9.+-])")
_ONE = re.compile(r"\s*([A-Za-z0-9.+-]+)(?:\s+WITH\s+[A-Za-z0-9.+-]+)?\s*", re.IGNORECASE)


def is_permissive(expression: str, accepted: frozenset[str] = frozenset()) -> bool:
    """Whether an SPDX expression lets the text be used under permissive terms alone.

    One permissive side of an OR is enough; every part of an AND must be permissive; `X WITH exception` is as X.
    Identifiers in `accepted` count as permissive.
    """
    if accepted:
        names = sorted(map(re.escape, accepted), key=len, reverse=True)
        expression = re.sub(rf"(?<![\w.+-])(?:{'|'.join(names)})(?![\w.+-])", "MIT", expression)
    stands_for = {True: " MIT ", False: " unknown ", None: " ( "}
    found = 1
    while found:
        expression, found = _PARENTHESES.subn(lambda inner: stands_for[_is_permissive_flat(inner[1])], expression)
    return _is_permissive_flat(expression) is True


def _is_permissive_flat(expression: str) -> bool | None:
    """The same without parentheses; None for what is no expression."""
    sides = re.split(r"\sOR(?=\s|$)", expression, flags=re.IGNORECASE)
    read = [[_ONE.fullmatch(part) for part in re.split(r"\sAND(?=\s|$)", side, flags=re.IGNORECASE)] for side in sides]
    if not all(all(side) for side in read):
        return None
    return any(all(part[1].lower() in _PERMISSIVE_LOWER for part in side if part) for side in read)


_IDENTIFIER = re.compile(r"SPDX-License-Identifier:[ \t]*([^\r\n]+)")
_NAME = r"\(*[A-Za-z0-9][A-Za-z0-9.+\-/]*\)*"
_IDENTIFIER_WORDS = re.compile(rf"{_NAME}(?: +(?:AND|OR|WITH) +{_NAME})*", re.IGNORECASE)
_LICENCE_WORDS = ("icen", "ICEN", "granted", "permitted", "ublic domain", "ublic Domain", "UBLIC DOMAIN", "same terms")
_WORDS_OF_TERMS = ("roprietary", "ROPRIETARY", "onfidential", "ONFIDENTIAL", "ed copying", "ED COPYING")
_HEADER_CHARACTERS = 8_000
_HEADER_LINES = 60
_COMMENT = re.compile(
    r"\s*(?:#|//|/\*|\*|--|;|%|!|<!--|\.\.|\(\*|\{-|\{#|[\"']\s|[ru]?(?:\"{3}|'{3})|@c|\.\\|<#|::|dnl\b|rem\b|c\b|__licen[cs]e)"
    r"|=(?:begin|head|pod)",
    re.IGNORECASE,
)
_LEAST_BEHIND = 200
_BLOCKS = {"/*": "*/", "<!--": "-->", '"""': '"""', "'''": "'''", "{-": "-}", "(*": "*)", "--[": "]", "=": "="}
_MANUAL = re.compile(
    r"^=head\d [^\n]*(?:licen[cs]e|copyright|terms)[^\n]*\n(.*?)(?=^=head|^=cut|\Z)",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)


def licence_in_header(text: str) -> str | None:
    """The licence a source file's leading comments (or a Perl manual's section on it) state, or None.

    `unknown` where they tell of terms that no phrase matches.
    """
    start = text[:_HEADER_CHARACTERS]
    header = _comments(start) if _has_licence_words(start) else ""
    identifiers = [found for found in map(_identifier_of, _IDENTIFIER.findall(header)) if found]
    if identifiers:
        return all_of(dict.fromkeys(identifiers))
    if "\n=head" in text:
        header = "\n".join([header, *(section[:3_000] for section in _MANUAL.findall(text))])
    if not _has_licence_words(header):
        return None
    plain = _plain(header)
    found = _licences_in(plain)
    choice = _chosen(found, plain)
    parts = [" OR ".join(choice)] if choice else []
    parts += [name for name in found if not choice.keys() >= set(_OPERATOR.split(name))]
    if not parts:
        return UNKNOWN if _TERMS.search(plain) else None
    return _restricted(all_of(parts), plain)


def _has_licence_words(text: str) -> bool:
    """Most files end here: this is what makes the search cheap."""
    return any(word in text for word in (*_LICENCE_WORDS, *_WORDS_OF_TERMS))


def _comments(text: str) -> str:
    """The comments that begin within the first 60 lines, a docstring among them; strings in code are none."""
    lines: list[str] = []
    closing = ""
    for number, line in enumerate(text.splitlines()):
        if closing:
            lines.append(line)
            closing = "" if closing in line else closing
        elif number > _HEADER_LINES:
            break
        elif _COMMENT.match(line):
            lines.append(line)
            closing = _end_of_block(line)
    return "\n".join(lines)


def _end_of_block(line: str) -> str:
    """What ends the comment that a line begins and does not end; empty where there is none."""
    bare = line.lstrip(" \tru")
    ends = (end for mark, end in _BLOCKS.items() if bare.startswith(mark) and end not in bare[len(mark) :])
    return next(ends, "")


def behind_licence(text: str) -> str:
    """The text without the comment it begins with, where that tells of a licence and enough is left to compare.

    Two small files under one long notice are else near copies of each other: in gRPC, a Swift class and a C program.
    """
    if not _has_licence_words(text[:_HEADER_CHARACTERS]):
        return text
    place, closing = 0, ""
    while place < min(len(text), _HEADER_CHARACTERS):
        stop = text.find("\n", place) + 1 or len(text)
        line = text[place:stop]
        if closing:
            closing = "" if closing in line else closing
        elif line.strip() and not _COMMENT.match(line):
            break
        else:
            closing = _end_of_block(line)
        place = stop
    return text[place:] if len(text) - place >= _LEAST_BEHIND and _has_licence_words(text[:place]) else text


@lru_cache(maxsize=4_096)
def _identifier_of(written: str) -> str | None:
    words = _IDENTIFIER_WORDS.match(written.strip())
    return words and (named(words[0]) or words[0])


@lru_cache(maxsize=4_096)
def canonical(written: str) -> str | None:
    """An SPDX expression with its names as SPDX spells them; None for what is none."""
    try:
        return canonicalize_license_expression(written) if len(written) < 500 else None
    except InvalidLicenseExpression:
        return None


def all_of(expressions: Iterable[str]) -> str:
    """SPDX expressions that hold together."""
    parts = list(expressions)
    return " AND ".join(f"({part})" if " OR " in part and len(parts) > 1 else part for part in parts)


def licence_of_text(text: str) -> str | None:
    """The licence whose text this is: the first one stated, or None. For LICENSE files and long License fields."""
    plain = _plain(text)
    found = _licences_in(plain)
    if found.get("LicenseRef-public-domain", 0) > 500:  # said of a part: "all examples are in the public domain"
        del found["LicenseRef-public-domain"]
    if "PSF-2.0" in found:  # Python's tells first how it came to be compatible with the GPL
        found.pop("GPL-1.0-or-later", None)
    expression = " OR ".join(_chosen(found, plain[:1_500])) or next(iter(found), None)
    return expression and _restricted(expression, plain[:3_000])


_OPERATOR = re.compile(" OR | AND ")
_CHOICE = re.compile(
    r"alternatively (?:\w+ ){0,12}(?:licen|terms)|dual licen|choice of (?!law)|at your (?:option|choice)(?! any| rem)"
    r"|(?:one|any|either) of (?:the |these |this |following |above |listed |two )*licen|may elect"
    r"|(?:under|terms of|subject to) either|or under the following|or the conditions below"
)
_RESTRICTION = re.compile(
    r"(?<!commercial or )(?<!commercial and )non ?commercial (?!or |and |project)|not for commercial"
    r"|good not evil|(?:academic|research|evaluation) (?:use|purposes) only|proprietary and confidential"
    r"|confidential and proprietary|unauthori[sz]ed copying|(?:rest|remainder|else|software) (?:is|are) proprietary"
)


def _chosen(found: dict[str, int], plain: str) -> dict[str, None]:
    """The licences that stand around words that offer a choice: before them, or right behind."""
    marks = [mark.start() for mark in _CHOICE.finditer(plain)]
    near = [name for name, place in found.items() if any(-2_500 < place - mark < 600 for mark in marks)]
    single = dict.fromkeys(one for name in near for one in _OPERATOR.split(name))
    return single if len(single) > 1 else {}


def _restricted(expression: str, plain: str) -> str:
    """A permissive text with words that take the permission back is not permissive."""
    is_taken_back = _RESTRICTION.search(plain) is not None and is_permissive(expression)
    return all_of([expression, "LicenseRef-restricted"]) if is_taken_back else expression


_SENTENCE = re.compile(r"\.\W+(?=[A-Z])")
_LINE_MARK = re.compile(r"^(?:[ \t]*(?:dnl|rem|@c|@comment)|c)(?=\s)", re.MULTILINE | re.IGNORECASE)
_SLASH = re.compile(
    r"(?<=[a-z0-9+.)])(?<!licenses)\s?[/|]\s?(?=(?:[al]?gpl|gnu|mit|bsd|apache|[me]pl|isc|zlib|artistic|unlicense|cc0|cddl)\b)"
)
_NOISE = re.compile(r"(?:[^a-z0-9.+]|\.(?![a-z0-9])|(?<![a-z0-9])[.+])+")


def _plain(text: str) -> str:
    """Lower-case words with one blank between; dots and pluses only inside and after them ("2.0", "gplv2+")."""
    marked = _LINE_MARK.sub(" ", _SENTENCE.sub(". stop ", text)).lower()
    return _NOISE.sub(" ", _SLASH.sub(" or ", marked))


_TERMS = re.compile(
    r"(?<!non )\bproprietary\b(?! (?:api|binar|codec|driver|extension|firmware|(?:file )?format|hardware|protocol))"
    r"|\bconfidential\b(?! (?:client|comput|data|value))|\bunauthori[sz]ed copying"
    r"|(?<!contributor )\blicen[cs]e agreement|\bnot (?:released|licen[cs]ed|available|distributed) under"
    r"|\blicen[cs]ed under (?!(?:(?:the|an?|this|same|following|terms?|conditions|and|or|of|multiple|open source|free"
    r"|licen[cs]es?) )*+(?:$|licen|copying|(?:stop|file|found|in|see|at|as|by|that|which|described|specified)\b))"
)
"""What tells of terms of one's own. "All rights reserved" does not: it stands above most texts of the BSD licence."""

_DENIED = re.compile(
    r"\bnot (?:be |been )?(?:(?:released|licen[cs]ed|available|distributed) )?(?:(?:under|the|terms|of|an?|any) )*+$"
)
_ANCHOR = re.compile(r"\b(?:under|licen[cs]e[sd]?|governed by|subject to|(?=same (?:terms|licen)))")
_EVIDENCE = re.compile(r"licen|same (?:terms|cond)|distribut|terms of|released")
_CREATIVE_COMMONS = re.compile(
    r"\b(?:creativecommons.org licenses by|cc by|attribution)"
    r"((?: nc| non ?commercial)?(?: sa| share ?alike| nd| no ?deriv\w+)?)(?: licen[cs]e)?(?: v| version)? ?(\d\.\d)"
)
_NAMES_THE_GPL = re.compile(r"gnu (?:(?:lesser|affero|library) general|free documentation)")
"""Their texts name the GPL, and are not under it."""
_PUBLIC_DOMAIN = re.compile(
    r"(?<!not )(?<!modifications )\b(?:in|into|to|is|are|as) (?:the )?public domain\b"
    r"(?! (?:\w+ )?(?:code|implementation|version|software|algorithm|work|program|library|domain))"
)


def _licences_in(plain: str) -> dict[str, int]:
    """Every licence stated and its place, in the order of the text; what another one says more exactly is left out."""
    found: list[tuple[int, str]] = []
    for phrase, name in PHRASES:
        place = plain.find(phrase)
        if phrase == "gnu general public license" and _NAMES_THE_GPL.search(plain, 0, max(0, place)):
            place = plain.find("gnu general public license as published")
        if place < 0 or _DENIED.search(plain, max(0, place - 60), place):
            continue
        if exact := _names_at(plain, place)[0] if name == "NAMED" else _exact(name, plain, place):
            found.append((place, exact))
    for anchor in _ANCHOR.finditer(plain):
        stated, end = _names_at(plain, anchor.end())
        start = max(0, anchor.start() - 60)
        if stated and _EVIDENCE.search(plain, start, end + 12) and not _DENIED.search(plain, start, anchor.start()):
            found.append((anchor.start(), stated))
    for work in _CREATIVE_COMMONS.finditer(plain):
        parts = (("-NC", " nc| non"), ("-SA", " s"), ("-ND", " nd| no ?d"))
        name = "".join(["CC-BY", *(part for part, words in parts if re.search(words, work[1])), f"-{work[2]}"])
        found.append((work.start(), name))
    if free := _PUBLIC_DOMAIN.search(plain):
        found.append((free.start(), "LicenseRef-public-domain"))
    places = {name: place for place, name in sorted(found, reverse=True)}
    # The licence that such a one becomes in years, or takes a permission back from, does not hold.
    places = {name: places[name] for name in _OVERRULING & places.keys()} or places
    exact = sorted(most_exact(places), key=places.__getitem__)
    return {name: places[name] for name in exact}


_OVERRULING = {"BUSL-1.1", "LicenseRef-FSL", "LicenseRef-Commons-Clause"}
_VAGUE = {"LicenseRef-BSD": "BSD-", "GPL-1.0-or-later": "GPL-", "LGPL-2.0-or-later": "LGPL-"}


def most_exact(names: Iterable[str]) -> list[str]:
    """Those of which no other says the same more exactly, in order, each once."""
    found = dict.fromkeys(names)
    return [name for name in found if not any(_includes(other, name) for other in found)]


def _includes(other: str, name: str) -> bool:
    """Whether `name` says nothing that `other` does not say more exactly."""
    return other != name and (
        name == "LicenseRef-public-domain"
        or name in _OPERATOR.split(other)
        or other.startswith(_VAGUE.get(name, f"{name} WITH "))
    )


_FILLER = re.compile(
    r"(?: ?(?:the|a|an|terms?|and conditions|of|both|either|following|same|your|choice|permissive|open source|free"
    r"|standard|dual|software|licen[cs]es?|is|as|under|type"
    r"|version \d(?:\.\d)?(?: or (?:\w+ ){0,3}later(?: version)?)? of)\b){0,12} ?"
)
_KNOWN = re.compile("(?:" + "|".join(f"({pattern})" for pattern, _ in NAMES) + ")(?![a-z0-9+]|[.][a-z0-9])")
_MOST_NAMES = 8
_JOIN = re.compile(
    r"(?: (?:public |software )?licen[cs]es?| style| like| type| terms){0,6}(?: found in (?:\w+ ){1,12}?(?=and |or ))?"
    r"(?: ?(and or|or|and)(?= ))?"
)


def _names_at(plain: str, place: int) -> tuple[str | None, int]:
    """The names of licences that stand there, as an expression, and where they end."""
    expression = operator = ""
    end = place
    for _ in range(_MOST_NAMES):
        filler = _FILLER.match(plain, place)
        begin = filler.end() if filler else place
        if gnu := _GNU.match(plain, begin):
            name, end = _gnu(plain, gnu)
        elif known := _KNOWN.match(plain, begin):
            name, end = NAMES[(known.lastindex or 1) - 1][1], known.end()
            number = re.findall(r"\d(?:\.\d)?", known[0])
            name = name.replace("#", number[-1] if number and "." in number[-1] else f"{number[-1] if number else 1}.0")
        else:
            break
        expression += operator + name
        join = _JOIN.match(plain, end)
        if join is None or join[1] is None:
            break
        operator = " AND " if join[1] == "and" else " OR "
        place = join.end()
    return expression or None, end


_GNU = re.compile(
    r"(?:gnu )?(?:(affero|lesser|library(?: or lesser)?) )?(?:general public(?: licen[cs]e)?|(a|l)?gpl)"
    r"(?: a?l?gpl(?= |$))?(?![a-uw-z])|(?:gnu )?(free doc)umentation licen[cs]e|(gfdl)"
)
_VERSIONS = {"GPL": "1.0 1 2.0 2 3.0 3", "LGPL": "2.0 2 2.1 3.0 3", "AGPL": "3.0 3 1.0 1", "GFDL": "1.1 1.2 1.3"}
_VERSION_BEFORE = re.compile(r"version (\d(?:\.\d)?)((?: or (?:\w+ ){0,3}later(?: version)?)?) of (?:the )?$")
_VERSION = re.compile(
    r"(?: licen[cs]e)? ?(?:v|version |ver )?(\d(?:\.\d)?)(?![a-z0-9])|.{0,250}?version (\d(?:\.\d)?)(?![0-9])"
)
_LATER = re.compile(
    r"\+|(?: of the (?:gnu )?(?:\w+ ){0,4}?licen[cs]e)? (?:or|and)(?: at your (?:option|choice))?(?: any)?"
    r" (?:later|newer|higher)|.{0,100}any later|(?: \d\d?)? (?:june|february|march|november|october) \d{4}"
)


def _gnu(plain: str, found: re.Match[str]) -> tuple[str, int]:
    """Which of the GNU licences in which version, by the words around its name; and where they end."""
    kind = {"a": "AGPL", "l": "LGPL", "f": "GFDL", "g": "GFDL"}[found[found.lastindex][0]] if found.lastindex else "GPL"
    allowed = _VERSIONS[kind].split()
    if before := _VERSION_BEFORE.search(plain, max(0, found.start() - 70), found.start()):
        number, is_later, end = before[1], bool(before[2]), found.end()
    elif (after := _VERSION.match(plain, found.end())) and (after[1] or after[2]) in allowed:
        number, end = after[1] or after[2], after.end()
        is_later = _LATER.match(plain, end) is not None
    else:
        number, is_later, end = allowed[0], True, found.end()
    return f"{kind}-{number if '.' in number else number + '.0'}-{'or-later' if is_later else 'only'}", end


def _exact(name: str, plain: str, place: int) -> str:
    """The version or variant, where several licences share a phrase."""
    rest = plain[place : place + 3_000]
    if name == "BSD":
        if "all advertising materials mentioning" in rest:
            return "BSD-4-Clause"
        if re.search(r"n?either the names? of|not be used to endorse", rest):
            return "BSD-3-Clause"
        return "BSD-2-Clause" if "in binary form must" in rest else "LicenseRef-BSD"
    if name in ("ISC", "MIT") and "except as contained in this notice" in rest[:1_500]:
        return {"ISC": "curl", "MIT": "X11"}[name]
    if name == "MIT" and rest.startswith("permission") and "permission notice" not in rest:
        return "MIT-0"
    if name == "ISC" and "provided that" not in rest[:250]:
        return "0BSD"
    return "HPND-sell-variant" if name == "HPND" and " sell " in rest[:200] else name


@lru_cache(maxsize=4_096)
def named(written: str) -> str | None:
    """An SPDX expression for a name, an expression or a whole text; None when it is none of them."""
    written = written.strip()
    if len(written) > 200 or "\n" in written:
        return licence_of_text(written)
    if exact := canonical(written):
        return exact
    plain = _plain(written).strip()
    expression, end = _names_at(plain, 0)
    if expression and not re.match(r"(?: licen[cs]e| style)* (?:and|with|plus|non|but|except)\b", plain[end:]):
        return expression
    return licence_of_text(written)

"""Filters: each a pure function of a text that returns why the text is not wanted, or None.

The limits are those of The Stack v2 and of BigCode's preprocessing (lines of 1,000 characters, 100 on average, a
quarter of all alphabetic, encoded data, generated code by its header); what is vendored follows GitHub's linguist.
Line lengths are judged in code only: a paragraph may be one line. Prose has a filter of its own instead, against
tables of numbers and lists of names that end in `.txt`.
"""

from __future__ import annotations

import contextlib
import json
import re
import string
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import Field

from codecria.common.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from codecria.corpus.document import Kind


class FilterRecipe(Recipe):
    """Limits of the filters."""

    min_characters: int = Field(default=100, ge=1)
    max_characters: int = Field(default=1_000_000, ge=1)
    max_lines: int = Field(default=100_000, ge=1, description="lines of code")
    max_line_characters: int = Field(default=1_000, ge=1, description="longest line of code")
    max_mean_line_characters: float = Field(default=100.0, gt=0)
    min_alphabetic_share: float = Field(default=0.25, ge=0, le=1)
    max_encoded_characters: int = Field(default=1_024, ge=1, description="longest run of base64, hex or escapes")
    max_encoded_share: float = Field(default=0.5, ge=0, le=1, description="of the characters, in all such runs")
    min_blank_share: float = Field(default=0.07, ge=0, le=1, description="code with less may be minified: ...")
    max_short_name_share: float = Field(default=0.35, ge=0, le=1, description="... if more names have 1 or 2 letters")
    max_data_line_share: float = Field(default=0.7, ge=0, le=1, description="lines of code that hold only literals")
    min_data_lines: int = Field(default=50, ge=1, description="shorter code is never taken for data")
    min_prose_share: float = Field(default=0.75, ge=0, le=1, description="letters, spaces and marks in prose")
    min_prose_words: int = Field(default=40, ge=0)
    min_docstring_characters: int = Field(default=500, ge=1, description="docstrings a module must have in total")
    generated: bool = Field(default=True, description="drop generated code")
    vendored: bool = Field(default=True, description="drop copies of other projects")


class Dropped(NamedTuple):
    """Why a file is not in the corpus: the name of the reason, and what was found."""

    reason: str
    detail: str


class FileText(NamedTuple):
    """What filters look at: the text with its UTF-8 bytes, what it is, and the file's path in its package."""

    text: str
    data: bytes
    kind: Kind
    path: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


_LETTERS = bytes(b for b in range(256) if chr(b) in string.ascii_letters or b >= 0xC0)
_NOT_ALPHABETIC = bytes(b for b in range(256) if b not in _LETTERS)
_NOT_PROSE = _NOT_ALPHABETIC.translate(None, b" \n.,;:!?'\"()-`")
_CONTINUATION = bytes(range(0x80, 0xC0))
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*")

_VENDORED = re.compile(
    r"""(?:^|/)(?:(?:node_modules|bower_components|third[-_]?party|3rd[-_]?party|_vendor|vendored|Godeps|Pods|Carthage|deps
      |extern)/ | vendors?/.*\.(?:go|php|inc|rb|js|ts|css|scss|less|c|h|cc|cpp|hpp|rs)$
    | (?:jquery|bootstrap|angular|modernizr|html5shiv|mootools|normalize|font-?awesome)
      (?:[.-](?:\d[\w.]*?|min|slim|full|all|ui|custom))*\.(?:js|css|scss|less)$
    | (?:config\.guess|config\.sub|ltmain\.sh|install-sh|missing|depcomp|mkinstalldirs|gradlew|gradlew\.bat)$)""",
    re.VERBOSE | re.IGNORECASE,
)
_GENERATED_NAMES = re.compile(
    r"""_pb2(?:_grpc)?\.pyi?$ | \.pb(?:\.gw)?\.(?:go|cc|h)$ | [._-]min\.(?:js|css)$ | \.bundle\.js$ |
    \.designer\.cs$ | \.g\.(?:cs|dart)$ | \.freezed\.dart$ | _generated\.[a-z]+$ | ^zz_generated | _rc\.py$ |
    \.lock(?:\.hcl|b)?$ | ^(?:package-lock|npm-shrinkwrap|packages\.lock)\.json$ | ^pnpm-lock\.yaml$ | ^go\.sum$""",
    re.VERBOSE | re.IGNORECASE,
)
_GENERATED_WORDS = re.compile(
    r"""auto(?:matically)?[- ]?generated | generated[ ]automatically | @generated | (?:do[ ]not|don't)[ ](?:edit|modify)
    [ ](?:this[ ]file|by[ ]hand|manually) | file[ ](?:was|is|has[ ]been)[ ](?:auto|machine)?-?generated
    | generated[ ]by[ ]the[ ]protocol | code[ ]generated[ ]by
    | generated[ ](?:by|from)[^\n]{0,80}(?:do[ ]not|don't)[ ](?:edit|modify)""",
    re.VERBOSE | re.IGNORECASE,
)
# In a comment: a program that writes such headers has them in its strings.
_GENERATORS = re.compile(
    r"""^[ \t]*(?://|\#|/?\*|--|;|%|<!--|dnl\b)[^\n]*\b(?:generated|made|produced|code)[ ](?:by|with|using|from):?[ ]
      (?:the[ ])?(?:(?:gnu|apache|rust|pyqt\d?|qt\d?)[ -])?(?:reading[ ](?:c\+\+|ui)[ ]file|(?:swig|protobuf|protoc|
      autoconf|automake|autoheader|aclocal|cython|antlr|javacc|jjtree|jflex|thrift|flex|bison|lemon|ragel|re2c|gperf|f2py|
      c?bindgen|doxygen|javadoc|sphinx|pdoc|typedoc|jsdoc|openapi|swagger|coffeescript|wayland|gdbus|moc|uic|rcc|pyuic|
      stringer|mockgen|mockery|go-bindata|goyacc|ply|tree-sitter|jaxb|xjc)\b)
    | <meta[ ]name="generator" | webpackBootstrap""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_WORDS_OF_GENERATORS = ("generat", "do not", "made by gnu", "produced by", "code from", "webpackbootstrap")
_FIRST_LINES, _HEADER_CHARACTERS = 8, 4_000
_SOURCE_MAP = "//# sourceMappingURL="

# 28 letters and digits together stand in most lines of base64 and hex, and in little else.
_TO_RUNS = bytes(0x61 if chr(b) in string.ascii_letters + string.digits else 0x20 for b in range(256))
_TO_LONG_RUNS = bytes(0x61 if chr(b) in "+/" else _TO_RUNS[b] for b in range(256))
_RUN = b"a" * 28
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{40,}={0,2}[\s\"'\\,;+.n]{0,24})+")
_ESCAPES = re.compile(rb"\\(?:x..|u....)(?:[\s\"'+bu]{0,24}\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4})){7,}")
_LEAST_DIGIT_SHARE, _LEAST_CHARACTERS, _FEWEST_ESCAPES, _FEWEST_COMMAS = 0.03, 12, 64, 0.3

_XML_THAT_IS_CODE = re.compile(r"<html|<xsl:|<\?php|<%|x:Class", re.IGNORECASE)
_YAML = re.compile(r"(?:---|%YAML)[^\n]*\n(?:[ ]*(?:(?:-|\#|[\w.\"'/-]+:)(?:[ ][^\n]*)?)?\n)++\Z")
_DATA_LINE = re.compile(
    r"""^[ \t]*(?:INSERT[ ]INTO[^(]{1,80}(?:\([^()]*\)[ ]*)?VALUES\b)?
    (?> [\[\](){},;]                                        # brackets and separators
      | [bBrRuUfF]{0,2} (?: '(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*" )   # strings
      | [-+]?(?:0[xX][0-9a-fA-F]+|\d[\d_]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+)[jJfFlLuU]*  # numbers
      | \b(?:None|True|False|NULL|null|true|false|nan|inf)\b | : | [ \t]++ )++ $""",
    re.VERBOSE,
)
_WORD = re.compile(r"[^\W\d_]{2,}")


def too_short(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """Fewer characters than `min_characters`, blanks at the ends not counted."""
    length = len(file.text.strip()) if len(file.text) < 2 * limits.min_characters else len(file.text)
    if length < limits.min_characters:
        return Dropped("too-short", f"{length} characters; at least {limits.min_characters}")
    return None


def too_long(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """More characters than `max_characters`, or more lines than `max_lines`."""
    if len(file.text) > limits.max_characters:
        return Dropped("too-long", f"{len(file.text):,} characters; at most {limits.max_characters:,}")
    if (lines := file.data.count(b"\n")) > limits.max_lines:
        return Dropped("too-many-lines", f"{lines:,} lines; at most {limits.max_lines:,}")
    return None


def vendored(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """A copy of another project, by its path."""
    found = _VENDORED.search(file.path) if limits.vendored else None
    return Dropped("vendored", f"'{found.group(0).strip('/')[:80]}' in its path") if found else None


def generated(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """Written by a program: by its name, by what its first lines say, or by the mark of a known generator."""
    if limits.generated and _GENERATED_NAMES.search(file.name):
        return Dropped("generated", f"the name {file.name}")
    if not limits.generated or file.kind != "code":
        return None
    head = file.text[:_HEADER_CHARACTERS]
    lower = head.lower()
    if any(word in lower for word in _WORDS_OF_GENERATORS):
        first = "\n".join(head.split("\n")[:_FIRST_LINES])
        if found := _GENERATED_WORDS.search(first) or _GENERATORS.search(head):
            return Dropped("generated", f"its header says '{' '.join(found.group(0).split())}'")
    return Dropped("generated", "it names its source map") if _SOURCE_MAP in file.text[-300:] else None


def line_too_long(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """Code with a line of more than `max_line_characters`, or more than `max_mean_line_characters` on average."""
    if file.kind != "code":
        return None
    # In bytes first, which is quick and never less.
    ends = np.flatnonzero(np.frombuffer(file.data + b"\n", np.uint8) == ord("\n"))
    if np.diff(ends, prepend=-1).max() > limits.max_line_characters:
        longest = max(map(len, file.text.split("\n")))
        if longest > limits.max_line_characters:
            return Dropped("line-too-long", f"a line of {longest:,} characters; at most {limits.max_line_characters:,}")
    mean = len(file.text) / max(len(ends) - file.text.endswith("\n"), 1)
    if mean > limits.max_mean_line_characters:
        most = limits.max_mean_line_characters
        return Dropped("mean-line-too-long", f"{mean:.0f} characters a line; at most {most:g}")
    return None


def not_alphabetic(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """Too few letters. A character beyond ASCII counts as a letter."""
    share, least = len(file.data.translate(None, _NOT_ALPHABETIC)) / max(len(file.text), 1), limits.min_alphabetic_share
    return Dropped("not-alphabetic", f"{share:.0%} letters; at least {least:.0%}") if share < least else None


def minified(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """Code with few blanks and short names, however its lines are broken."""
    if file.kind != "code":
        return None
    blank = (len(file.data) - len(file.data.translate(None, b" \t\n"))) / max(len(file.text), 1)
    if blank >= limits.min_blank_share:
        return None
    names = _IDENTIFIER.findall(file.text[:_HEADER_CHARACTERS])
    short = sum(1 for name in names if len(name) < 3) / max(len(names), 1)
    detail = f"{blank:.0%} blanks, and {short:.0%} of its names have one or two letters"
    return Dropped("minified", detail) if short > limits.max_short_name_share else None


def encoded_data(file: FileText, limits: FilterRecipe) -> Dropped | None:
    r"""Base64, hex or escapes (`\x1f`, `\u4e2d`): a long run, or most of the file.

    Quotes and line ends do not end a run. Tables of numbers are `data_as_code`.
    """
    lengths = list(_encoded_lengths(file.data))
    longest, share = max(lengths, default=0), sum(lengths) / max(len(file.text), 1)
    if longest > limits.max_encoded_characters:
        return Dropped("encoded-data", f"a run of {longest:,} characters; at most {limits.max_encoded_characters:,}")
    if share > limits.max_encoded_share:
        return Dropped("encoded-data", f"{share:.0%} of its characters; at most {limits.max_encoded_share:.0%}")
    return None


def _encoded_lengths(data: bytes) -> Iterator[int]:
    runs = data.translate(_TO_RUNS)
    at, end = runs.find(_RUN), 0
    long_runs = data.translate(_TO_LONG_RUNS) if at >= 0 else b""
    while at >= 0:
        found = _BASE64.match(data, max(long_runs.rfind(b" ", 0, at) + 1, end))
        run = found.group() if found else b""
        end = found.end() if found else at + len(_RUN)
        digits = len(run) - len(run.translate(None, b"0123456789"))
        if digits > _LEAST_DIGIT_SHARE * len(run) and len(set(run)) >= _LEAST_CHARACTERS:  # no long names, no rulers
            yield len(run)
        at = runs.find(_RUN, end)
    if data.count(b"\\") >= _FEWEST_ESCAPES:
        yield from map(len, _ESCAPES.findall(data))


def data_format(file: FileText, limits: FilterRecipe) -> Dropped | None:  # noqa: ARG001
    """XML, JSON or YAML under a name that says code or prose."""
    head = file.text[:1_000].lstrip()
    if head.startswith(("<?xml", "<plist", "<svg", "<!DOCTYPE plist")) and not _XML_THAT_IS_CODE.search(head):
        return Dropped("data-format", "XML")
    if head.startswith(("{", "[")) and file.text.rstrip().endswith(("}", "]")):
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(file.text)
            return Dropped("data-format", "JSON")
    return Dropped("data-format", "YAML") if head.startswith(("---", "%YAML")) and _YAML.match(file.text) else None


def data_as_code(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """Code that is a table of literals: word lists, character tables, weights, test vectors."""
    if file.kind != "code":
        return None
    lines = file.data.count(b"\n") + 1
    # Tables end their lines in commas: code without them need not be looked at line by line.
    commas = file.data.count(b",\n") + (file.data.count(b");\n") if file.path.endswith(".sql") else 0)
    if lines < limits.min_data_lines or commas < _FEWEST_COMMAS * lines:
        return None
    filled = [line for line in file.text.split("\n") if line.strip()]
    data = sum(1 for line in filled if _DATA_LINE.match(line))
    share, most = data / len(filled), limits.max_data_line_share
    detail = f"{share:.0%} of its lines are literals; at most {most:.0%}"
    return Dropped("data-as-code", detail) if share > most else None


def not_prose(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """Documentation that is no prose: numbers, tables, lists of file names."""
    if file.kind == "code":
        return None
    characters = len(file.data.translate(None, _CONTINUATION))
    share = len(file.data.translate(None, _NOT_PROSE)) / max(characters, 1)
    if share < limits.min_prose_share:
        return Dropped("not-prose", f"{share:.0%} letters, spaces and marks; at least {limits.min_prose_share:.0%}")
    words = len(_WORD.findall(file.text)) if len(file.text) < 40 * limits.min_prose_words else limits.min_prose_words
    if words < limits.min_prose_words:
        return Dropped("not-prose", f"{words} words; at least {limits.min_prose_words}")
    return None


FILTERS: tuple[Callable[[FileText, FilterRecipe], Dropped | None], ...] = (
    too_short,
    too_long,
    vendored,
    generated,
    line_too_long,
    not_alphabetic,
    encoded_data,
    data_format,
    minified,
    data_as_code,
    not_prose,
)
"""All filters, in the order in which they are asked; the first reason is the one recorded."""


def first_reason(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """The first filter's reason that applies, or None for a text that passes all."""
    for unwanted in FILTERS:
        if found := unwanted(file, limits):
            return found
    return None

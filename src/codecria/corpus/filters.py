"""Filters: each a pure function of a text that returns why the text is not wanted, or None.

The limits are those of The Stack v2 and of BigCode's preprocessing (line length 1,000, mean 100, a quarter of the
characters alphabetic, generated code by the words of its header). Line lengths are judged in code only: a
paragraph of documentation may be one long line. Prose has a filter of its own instead, against tables of numbers
and lists of names that end in `.txt`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from codecria.common.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from codecria.corpus.document import Kind


class FilterRecipe(Recipe):
    """Limits of the filters."""

    min_characters: int = Field(default=100, ge=1)
    max_characters: int = Field(default=1_000_000, ge=1)
    max_line_characters: int = Field(default=1_000, ge=1, description="longest line of code")
    max_mean_line_characters: float = Field(default=100.0, gt=0)
    min_alphabetic_share: float = Field(default=0.25, ge=0, le=1)
    max_data_line_share: float = Field(default=0.7, ge=0, le=1, description="lines of code that hold only literals")
    min_data_lines: int = Field(default=50, ge=1, description="shorter code is never taken for data")
    min_prose_share: float = Field(default=0.75, ge=0, le=1, description="letters, spaces and marks in prose")
    min_prose_words: int = Field(default=40, ge=0)
    min_docstring_characters: int = Field(default=500, ge=1, description="docstrings a module must have in total")
    generated: bool = Field(default=True, description="drop generated code")


class Dropped(NamedTuple):
    """Why a file is not in the corpus: the name of the reason, and what was found."""

    reason: str
    detail: str


class FileText(NamedTuple):
    """What filters look at: the text with its UTF-8 bytes, what it is, and the file's name."""

    text: str
    data: bytes
    kind: Kind
    name: str


_NOT_ALPHABETIC = bytes(b for b in range(256) if not (0x41 <= b <= 0x5A or 0x61 <= b <= 0x7A or b >= 0xC0))
_NOT_PROSE = bytes(
    b for b in range(256) if not (0x41 <= b <= 0x5A or 0x61 <= b <= 0x7A or b in b" \n.,;:!?'\"()-`" or b >= 0xC0)
)
_CONTINUATION = bytes(range(0x80, 0xC0))

_GENERATED_NAMES = re.compile(
    r"""_pb2(?:_grpc)?\.pyi?$ | \.pb(?:\.gw)?\.(?:go|cc|h)$ | [._-]min\.(?:js|css)$ | \.bundle\.js$ |
    \.designer\.cs$ | \.g\.(?:cs|dart)$ | \.freezed\.dart$ | _generated\.[a-z]+$ | ^zz_generated | _rc\.py$ |
    ^(?:package-lock\.json|poetry\.lock|uv\.lock|pdm\.lock|cargo\.lock|yarn\.lock|composer\.lock|go\.sum)$""",
    re.VERBOSE | re.IGNORECASE,
)
_GENERATED_WORDS = re.compile(
    r"""auto[- ]?generated | automatically[ ]generated | generated[ ]automatically | @generated |
    this[ ]file[ ](?:is|was)[ ](?:auto|machine)?-?generated | generated[ ]by[ ]the[ ]protocol[ ]buffer |
    code[ ]generated[ ]by | (?:this[ ]file|file)[ ](?:was|is|has[ ]been)[ ]generated |
    generated[ ]by[^\n]{0,80}(?:do[ ]not|don't)[ ](?:edit|modify) |
    do[ ]not[ ](?:edit|modify)[ ](?:this[ ]file|by[ ]hand|manually) |
    generated[ ]from[^\n]{0,80}do[ ]not[ ]edit""",
    re.VERBOSE | re.IGNORECASE,
)
_GENERATED_LINES = 8
_DATA_LINE = re.compile(
    r"""^[ \t]*
    (?> [\[\](){},;]                                        # brackets and separators
      | [bBrRuUfF]{0,2} (?: '(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*" )   # strings
      | [-+]?(?:0[xX][0-9a-fA-F]+|\d[\d_]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+)[jJfFlLuU]*  # numbers
      | \b(?:None|True|False|null|true|false|nan|inf)\b | : | [ \t]++ )++ $""",
    re.VERBOSE,
)
_FEWEST_COMMAS = 0.3
_WORD = re.compile(r"[^\W\d_]{2,}")


def too_short(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """Fewer characters than `min_characters`, blanks at the ends not counted."""
    length = len(file.text.strip()) if len(file.text) < 2 * limits.min_characters else len(file.text)
    if length < limits.min_characters:
        return Dropped("too-short", f"{length} characters; at least {limits.min_characters}")
    return None


def too_long(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """More characters than `max_characters`."""
    if len(file.text) > limits.max_characters:
        return Dropped("too-long", f"{len(file.text):,} characters; at most {limits.max_characters:,}")
    return None


def generated(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """Written by a program: by its name, or by what its first lines say."""
    if not limits.generated:
        return None
    if _GENERATED_NAMES.search(file.name):
        return Dropped("generated", f"the name {file.name}")
    if file.kind == "code":
        head = "\n".join(file.text[:2_000].split("\n", _GENERATED_LINES)[:_GENERATED_LINES])
        if found := _GENERATED_WORDS.search(head):
            return Dropped("generated", f"its header says '{' '.join(found.group(0).split())}'")
    return None


def line_too_long(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """Code with a line of more than `max_line_characters`: minified, or data."""
    if file.kind != "code":
        return None
    longest = max(map(len, file.text.split("\n")))
    if longest > limits.max_line_characters:
        return Dropped("line-too-long", f"a line of {longest:,} characters; at most {limits.max_line_characters:,}")
    return None


def mean_line_too_long(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """Code whose lines have more than `max_mean_line_characters` on average."""
    if file.kind != "code":
        return None
    mean = len(file.text) / (file.text.count("\n") + (not file.text.endswith("\n")))
    if mean > limits.max_mean_line_characters:
        return Dropped(
            "mean-line-too-long", f"{mean:.0f} characters a line; at most {limits.max_mean_line_characters:g}"
        )
    return None


def not_alphabetic(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """Too few letters. A character beyond ASCII counts as a letter."""
    share = len(file.data.translate(None, _NOT_ALPHABETIC)) / max(len(file.text), 1)
    if share < limits.min_alphabetic_share:
        return Dropped("not-alphabetic", f"{share:.0%} letters; at least {limits.min_alphabetic_share:.0%}")
    return None


def data_as_code(file: FileText, limits: FilterRecipe) -> Dropped | None:
    """Code that is a table of literals: word lists, character tables, weights, test vectors."""
    if file.kind != "code":
        return None
    lines = file.text.count("\n") + 1
    # Tables end their lines in commas: code without them need not be looked at line by line.
    commas = file.text.count(",\n") + file.text.count(", \n")
    if lines < limits.min_data_lines or commas < _FEWEST_COMMAS * lines:
        return None
    filled = [line for line in file.text.split("\n") if line.strip()]
    data = sum(1 for line in filled if _DATA_LINE.match(line))
    share = data / len(filled)
    if share > limits.max_data_line_share:
        return Dropped(
            "data-as-code", f"{share:.0%} of its lines are only literals; at most {limits.max_data_line_share:.0%}"
        )
    return None


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
    generated,
    line_too_long,
    mean_line_too_long,
    not_alphabetic,
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

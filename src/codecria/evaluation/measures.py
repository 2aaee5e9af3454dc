"""The measures by name: what each says, its unit, and which way is better."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from codecria.common.errors import CodecriaError

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN_CHANGE = 5e-4
"""The smallest difference the report shows as one: half of the last of three digits after the point."""


@dataclass(frozen=True)
class Measure:
    """How a figure is read and shown.

    A result is the weighted mean of its items' values; `exponential` measures are stored as that mean's logarithm
    (nats a token) and shown as its exponential (perplexity).
    """

    name: str
    title: str
    unit: Literal["%", "bits", ""]
    better: Literal["higher", "lower", "neither"]
    explanation: str
    exponential: bool = False

    def show(self, value: float) -> str:
        """The figure as the report prints it, with its unit when that is a percent sign."""
        return f"{self.show_plain(value)} %" if self.unit == "%" else self.show_plain(value)

    def show_plain(self, value: float) -> str:
        """The figure without a unit."""
        if self.exponential:
            return f"{math.exp(value):.2f}"
        return f"{100 * value:.1f}" if self.unit == "%" else f"{value:.3f}"

    def show_change(self, value: float) -> str:
        """A difference of two figures, signed: points for shares, a factor for exponential measures."""
        if abs(value) < SHOWN_CHANGE:
            return "±0"
        if self.exponential:
            return f"× {math.exp(value):.3f}"
        sign = "+" if value >= 0 else "−"
        return f"{sign}{100 * abs(value):.1f}" if self.unit == "%" else f"{sign}{abs(value):.3f}"


_TABLE = """
exact_match | exact match | % | higher
Output equal to the true middle, trailing blanks aside.
exact_match_first_line | exact match, first line | % | higher
The same for the output's first line alone: what harnesses report that cut a single-line middle there.
edit_similarity | edit similarity | % | higher
1 − Levenshtein distance / length of the longer text, in characters.
ended | ended by itself | % | higher
Generation met its end before the limit of tokens: an end id in infilling, a line end left to right.
passed | tests passed | % | higher
The program with the output in its place passes its tests.
one_block | one block of code | % | higher
The answer has exactly one block of code, and that is Python that parses.
bits_per_character | bits per character, middle | bits | lower
−log2 p(true middle) / its characters, the end not counted.
bits_per_character_with_end | bits per character, middle and end | bits | lower
−log2 p(true middle and its end) / the middle's characters; the end is the end id in infilling, the line end left to \
right.
bits_per_byte | bits per byte | bits | lower
−log2 p(text) / its bytes in UTF-8.
bleu | smoothed BLEU-4 | % | higher
Of each text against the docstring's first paragraph, in lower case; the mean over texts.
answered | answered | % | higher
Something that can stand at the place was written.
mc1 | MC1 | % | higher
The best answer is more probable than every wrong one.
mc2 | MC2 | % | higher
The right answers' share of the probability of all given answers.
truthful | truthful | % | higher
Share of written answers that a judge holds true; no judge is part of codecria.
sentiment | sentiment | | neither
VADER's compound score of the beginning with its completion, from −1 to 1. Higher is friendlier, not better.
sentiment_completion | sentiment, completion alone | | neither
The same of the completion without its beginning.
refused | declined | % | lower
The answer opens with a refusal.
retrieved | key found | % | higher
The first number written is the one that the function returns.
line_match | line equal | % | higher
The next line written is the true one, as the protocol compares them: blanks do not count.
line_similarity | line similarity | % | higher
2 · length of the longest common subsequence / both lengths, in whole percent: what `fuzz.ratio` says.
line_bleu | smoothed BLEU-4 | % | higher
Of the next line against the true one; the mean over lines.
perplexity | perplexity per token | | lower
exp of the mean −ln p a token; comparable between models of the same vocabulary only.
"""


def _read_table() -> Iterator[Measure]:
    rows = iter(_TABLE.strip().split("\n"))
    for row, explanation in zip(rows, rows, strict=True):
        name, title, unit, better = (cell.strip() for cell in row.split("|"))
        yield Measure(name, title, cast("Any", unit), cast("Any", better), explanation, name == "perplexity")


_PERPLEXITY = re.compile(r"perplexity@(\d+)")
_RETRIEVED = re.compile(r"retrieved@(\d+)/([\d.]+)")
FIRST_POSITIONS = 128
"""Perplexity against position: the first bin's positions; each further one has as many as all before it."""
_BY_NAME = {measure.name: measure for measure in _read_table()}


def find_measure(name: str) -> Measure:
    """The measure of that name; `pass@k`, `perplexity@n` and `retrieved@n/depth` for any k, n and depth.

    Raises:
        CodecriaError: no measure has the name.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    k, _, filtered = name.removeprefix("pass@").partition(" ")
    if name.startswith("pass@") and k.isdecimal() and filtered in ("", "filtered"):
        among = " among those that pass the tests shown in the prompt" if filtered else ""
        explanation = f"Chance that at least one of {k} samples{among} passes the tests, estimated without bias."
        return Measure(name, name, "%", "higher", explanation)
    if match := _PERPLEXITY.fullmatch(name):
        title = f"perplexity, {positions_before(int(match[1]))}"
        return Measure(name, title, "", "lower", "The same of the tokens at these positions.", exponential=True)
    if match := _RETRIEVED.fullmatch(name):
        title = f"key found, {int(match[1]):,} tokens, depth {match[2]}"
        return Measure(name, title, "%", "higher", "The same for prompts of this length, the key at this depth.")
    raise CodecriaError(f"no measure is named '{name}'", mend=f"known: {', '.join(_BY_NAME)}, pass@k")


def positions_before(stop: int) -> str:
    """The positions before `stop` that `perplexity@stop` is taken over, for reading."""
    return f"first {stop:,}" if stop <= FIRST_POSITIONS else f"{stop // 2:,} to {stop - 1:,}"

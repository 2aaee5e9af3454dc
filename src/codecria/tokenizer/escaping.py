"""Keeping text that spells a special token apart from the token itself, through a template that pastes strings."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, NamedTuple

from codecria.tokenizer.definition import AddedToken, added_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codecria.tokenizer.tokenizer import Tokenizer


class Marks(NamedTuple):
    """Characters that stand in no message and in no template.

    Attributes:
        escape: breaks a spelling of a special token.
        cut: ends a run of text, so that the rest is encoded apart.
        begin, end: stand around an assistant's answer.
    """

    escape: str
    cut: str
    begin: str
    end: str

    @classmethod
    def unused_in(cls, texts: Iterable[str]) -> Marks:
        """Take Unicode's noncharacters first, then private use: more than any conversation can hold."""
        used: set[str] = set()
        for text in texts:
            used.update(text)
        candidates = map(chr, itertools.chain(range(0xFDD0, 0xFDF0), range(0xF0000, 0xFFFFE)))
        return cls(*itertools.islice((mark for mark in candidates if mark not in used), 4))

    def around(self, answer: str) -> str:
        """An answer between `begin` and `end`; outer white space stays outside, where a template may strip it."""
        core = answer.strip()
        return answer.replace(core, f"{self.begin}{core}{self.end}", 1) if core else answer

    def around_with_indent(self, answer: str) -> str:
        """The same with leading white space inside, for templates that keep it."""
        core = answer.rstrip()
        return f"{self.begin}{core}{self.end}{answer[len(core) :]}" if core else answer

    def without_answers(self, text: str) -> str:
        """The text without `begin` and `end`."""
        return text.replace(self.begin, "").replace(self.end, "")

    def without_any(self, text: str) -> str:
        """The text without any mark."""
        return text.translate({ord(mark): None for mark in self})


class SpecialSpellings:
    """The spellings of a tokenizer's special tokens.

    A spelling of a single character cannot be broken by a mark, so it is never special here.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        flags = {token.content: token for token in added_tokens(tokenizer.definition)}
        ids = {tokenizer.token_text(id): id for id in tokenizer.special_ids}
        self._ids = {spelling: id for spelling, id in ids.items() if len(spelling) > 1}
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._patterns = [_pattern(spelling, flags.get(spelling)) for spelling in longest_first]
        # A look at one character spares trying every spelling at each place of a long text.
        firsts = "".join(sorted({re.escape(spelling[0]) for spelling in longest_first}))
        spelled = "|".join(map(re.escape, longest_first))
        self._begins = re.compile(f"(?=[{firsts}])(?=({spelled}))(.)", re.DOTALL) if spelled else None
        self._heads = {spelling[:cut] for spelling in self._ids for cut in range(1, len(spelling))}
        self._tails = {spelling[cut:] for spelling in self._ids for cut in range(1, len(spelling))}
        self._longest = len(longest_first[0]) if longest_first else 0

    def splitter(self, marks: Marks) -> re.Pattern[str]:
        """A pattern that finds special tokens, with the white space they swallow in transformers, and marks."""
        return re.compile("|".join([*map(re.escape, marks), *self._patterns]))

    def id_of(self, found: str) -> int:
        """The id of what the splitter found."""
        return self._ids[found] if found in self._ids else self._ids[found.strip()]

    def escape(self, text: str, mark: str) -> str:
        """Put `mark` into every special spelling, and at an end that the template's own text could complete to one."""
        if self._begins is None:
            return text
        text = self._begins.sub(lambda match: match[2] + mark, text)
        core = text.strip()
        at = text.find(core)
        lengths = range(1, min(self._longest, len(core) + 1))
        before = mark if any(core[:length] in self._tails for length in lengths) else ""
        after = mark if any(core[-length:] in self._heads for length in lengths) else ""
        return f"{text[:at]}{before}{core}{after}{text[at + len(core) :]}"


def _pattern(spelling: str, token: AddedToken | None) -> str:
    before = r"\s*" if token and token.lstrip else ""
    after = r"\s*" if token and token.rstrip else ""
    return before + re.escape(spelling) + after

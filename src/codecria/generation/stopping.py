"""Where a generated text ends, and how much of it may be shown before that is known.

Rules act one after the other, each on what the rules before it let pass. So the text does not depend on where the
tokens' boundaries fall, and the pieces that are shown, joined, are the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from codecria.infill.trim import SURE, closed_bracket, first_line, same_block, suffix_again, trim_overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


class TokenDecoder(Protocol):
    """Text of ids as they come; `tokenizer.stream.StreamDecoder` is one."""

    def push(self, id: int, /) -> str:
        """Text that this id completes."""
        ...

    def finish(self) -> str:
        """What is left at the end."""
        ...


class TextRule(Protocol):
    """Cuts a text by its characters. A rule looks at the text alone, so one serves many sequences."""

    def cut(self, text: str) -> int:
        """Where the text ends if nothing follows it: at most its length."""
        ...

    def ends(self, text: str) -> bool:
        """Whether nothing that may follow changes where the text is cut, so that generation ends."""
        return self.cut(text) < len(text)

    def safe(self, text: str, shown: int) -> int:
        """How many characters of a text that is not cut stay, whatever follows; `shown` of an earlier answer do."""
        ...


@dataclass(frozen=True)
class StopStrings(TextRule):
    """Ends the text where the stop string that is complete first begins; of two that end together, the longer."""

    strings: tuple[str, ...]

    def cut(self, text: str) -> int:
        """The stop string is no part of the text."""
        found = ((text.find(string), len(string)) for string in self.strings)
        return min(((start + length, start) for start, length in found if start >= 0), default=(0, len(text)))[1]

    def safe(self, text: str, shown: int) -> int:
        """A head of a stop string at the text's end is held back."""
        longest = max(map(len, self.strings))
        for start in range(max(shown, len(text) - longest + 1), len(text)):
            if any(string.startswith(text[start:]) for string in self.strings):
                return start
        return len(text)


@dataclass(frozen=True)
class FirstLine(TextRule):
    """Ends the text at its first line end."""

    def cut(self, text: str) -> int:
        """The line end is no part of the text."""
        return len(first_line(text))

    def safe(self, text: str, shown: int) -> int:
        """All of it."""
        return max(shown, len(text))


@dataclass(frozen=True)
class SameBlock(TextRule):
    """Ends the text before the first line that is indented less than the cursor's line, tabs being to `tab` columns."""

    prefix: str
    tab: int = 8

    def cut(self, text: str) -> int:
        """The line end before that line is no part of the text."""
        return len(same_block(text, self.prefix, self.tab))

    def safe(self, text: str, shown: int) -> int:
        """A line end, CR LF too, and the blanks after it are held back until the next line's indentation is known."""
        line_start = text.rfind("\n") + 1
        waits = line_start > shown and not text[line_start:].strip()
        return len((text[: line_start - 1] if waits else text).removesuffix("\r"))


@dataclass(frozen=True)
class BracketClosed(TextRule):
    """Ends the text where a bracket that was open at the cursor is closed; see `infill.trim.closed_bracket`."""

    quote: str
    suffix: str

    def cut(self, text: str) -> int:
        """The bracket is part of the text unless the suffix has it."""
        closed = closed_bracket(text, self.quote, self.suffix)
        return len(text) if closed is None else closed

    def ends(self, text: str) -> bool:
        """As soon as the bracket is there."""
        return closed_bracket(text, self.quote, self.suffix) is not None

    def safe(self, text: str, shown: int) -> int:
        """All of it."""
        return max(shown, len(text))


@dataclass(frozen=True)
class NoOverlap(TextRule):
    """Cuts an end that repeats how the suffix begins.

    Generation goes on, for more text may show that it was none, until so much of the suffix is there that it is sure.
    """

    suffix: str
    sure: int = SURE

    def cut(self, text: str) -> int:
        """See `infill.trim.trim_overlap`."""
        return len(trim_overlap(text, self.suffix, sure=self.sure))

    def ends(self, text: str) -> bool:
        """Once the echo is sure."""
        return suffix_again(text, self.suffix, self.sure) is not None

    def safe(self, text: str, shown: int) -> int:
        """An end that is a head of the suffix is held back, and so are lines that are the suffix's first ones."""
        heads = (place for place in range(shown, len(text)) if self.suffix.startswith(text[place:]))
        safe = next(heads, len(text))
        suffix = self.suffix.lstrip("\r\n")
        place = text.find("\n", shown, safe)
        while suffix and place >= 0:
            if suffix.startswith(text[place + 1 : place + 1 + len(suffix)]):
                return place
            place = text.find("\n", place + 1, safe)
        return safe


@dataclass(frozen=True)
class TextPlan:
    """How a sequence's ids become text, and what its text must begin with.

    Attributes:
        new_decoder: makes a decoder for a sequence.
        rules: cut the text.
        first_ids: tokens that the first one must be among; None for any. See `codecria.infill.heal`.
        guess: the likely first token; it is read with the prompt, so that where it is right the second comes at once.
        narrow: takes scores of a row [V] out, in place, before a token is drawn; `ending.FavourEnd` is one.
        returns: the document's lines end with CR LF; see `TextWatch`.
    """

    new_decoder: Callable[[], TokenDecoder]
    rules: tuple[TextRule, ...] = ()
    first_ids: Sequence[int] | None = None
    guess: int | None = None
    narrow: Callable[[Tensor], None] | None = None
    returns: bool = False


class HealedDecoder:
    """A decoder that leaves out the text a healed prompt had already."""

    def __init__(self, decoder: TokenDecoder, healed: str) -> None:
        self._decoder = decoder
        self._left = len(healed)

    def push(self, id: int, /) -> str:
        """Text that this id completes, behind the healed one."""
        return self._cut(self._decoder.push(id))

    def finish(self) -> str:
        """What is left at the end."""
        return self._cut(self._decoder.finish())

    def _cut(self, text: str) -> str:
        cut = min(self._left, len(text))
        self._left -= cut
        return text[cut:]


def line_feeds(text: str) -> str:
    """The text with LF for CR LF and for CR."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class TextWatch:
    """Decodes one sequence as it grows and applies the rules.

    In a document whose lines end with CR LF the model reads and writes LF alone. There the rules act on that text, and
    carriage returns are put back into what they let pass.

    Args:
        decoder: makes the text.
        rules: cut it, those of `stop` before them.
        stop: strings that end the text.
        returns: whether the document's lines end with CR LF.

    Attributes:
        ended: whether a rule has ended the text.
    """

    def __init__(
        self, decoder: TokenDecoder, rules: tuple[TextRule, ...], stop: tuple[str, ...] = (), returns: bool = False
    ) -> None:
        strings = tuple(map(line_feeds, stop)) if returns else stop
        self._decoder = decoder
        self._rules = (StopStrings(strings), *rules) if strings else rules
        self._returns = returns
        self._text = ""
        self._shown = 0
        self.ended = False

    @property
    def text(self) -> str:
        """The text so far; what `push` and `finish` gave, joined, once `finish` was called or `ended` is set."""
        return self._written(self._text)

    def push(self, id: int) -> str:
        """Take one more id: what may be shown now."""
        self._take(self._decoder.push(id))
        limit = len(self._text)
        for rule in self._rules:
            passed = self._text[:limit]
            if rule.ends(passed):
                self.ended = True
                return self._last()
            limit = rule.safe(passed, self._shown)
        return self._show(limit)

    def finish(self) -> str:
        """Nothing follows: what is still to be shown."""
        self._take(self._decoder.finish())
        return self._last()

    def _take(self, text: str) -> None:
        self._text += text.replace("\r", "") if self._returns else text

    def _last(self) -> str:
        for rule in self._rules:
            self._text = self._text[: rule.cut(self._text)]
        return self._show(len(self._text))

    def _show(self, until: int) -> str:
        piece = self._text[self._shown : until]
        self._shown = until
        return self._written(piece)

    def _written(self, text: str) -> str:
        return text.replace("\n", "\r\n") if self._returns else text

r"""A session at a cursor: what a key changes is computed, nothing else.

    cursor = model.cursor(prefix, suffix, path="shop.py", files=[("prices.py", text)])
    cursor.suggest().text        # what belongs here
    cursor.type("tot")           # answered from the last suggestion when that is what it said
    cursor.suggest().new_tokens  # 1 to 4: the prompt's end
    cursor.accept()              # the suggestion becomes text; the cache holds it already

What a key costs depends on the layout. Suffix first (SPM) the prompt ends with the text before the cursor, so typing
and deleting change its last tokens. In PSM the suffix stands behind the prefix: what is typed from where the session
began is therefore read as the beginning of the middle, behind the last marker, until it is 512 characters long or the
cursor moves. Then, as after a move in either layout, the suffix is read again: SPM reads suffix and prefix, PSM what
follows their common beginning. Every suggestion says what it cost.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError
from codecria.generation.candidates import mean, mean_log_probability
from codecria.infill.layout import continues_prefix

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from codecria.generation.code_model import CodeModel
    from codecria.generation.middle import InfillOptions
    from codecria.generation.sequence import Completion, Step

LONGEST_BEGUN = 512
"""Characters typed in PSM before they become part of the prefix, which costs reading the suffix once more."""


@dataclass(frozen=True)
class Suggestion:
    """What the model would write at the cursor.

    Attributes:
        text: it; "" for nothing.
        reused_tokens: of the prompt, held in the cache from earlier steps.
        new_tokens: of the prompt, computed for this suggestion; 0 where an earlier one still answers.
        written_tokens: generated for it.
        log_probability: mean of its tokens' log-probabilities under the model, natural logarithm.
    """

    text: str
    reused_tokens: int
    new_tokens: int
    written_tokens: int
    log_probability: float


@dataclass(frozen=True)
class _Answered:
    """Suggestions, and the text before and after the cursor they were made for."""

    prefix: str
    suffix: str
    suggestions: tuple[Suggestion, ...]

    def still(self, prefix: str, suffix: str) -> Suggestion | None:
        """What is left of the first suggestion that goes on as the text since then does."""
        if suffix != self.suffix or not prefix.startswith(self.prefix):
            return None
        typed = prefix[len(self.prefix) :]
        for each in self.suggestions:
            if each.text.startswith(typed) and (len(each.text) > len(typed) or not typed):
                held = each.reused_tokens + each.new_tokens
                return replace(each, text=each.text[len(typed) :], reused_tokens=held, new_tokens=0, written_tokens=0)
        return None


class Cursor:
    """A place in a document, and what the model says there; `CodeModel.cursor` makes one.

    Not to be used from several threads at once. Each change of the text ends a stream that is under way: its text
    would belong to a place that is no more.

    Attributes:
        prefix, suffix: the document before and after the cursor.
    """

    def __init__(self, model: CodeModel, prefix: str, suffix: str, options: InfillOptions) -> None:
        sentinels = model.infill_markers()
        order = options.get("order") or ("spm" if "spm" in sentinels.orders else sentinels.orders[0])
        self._model = model
        self._options: InfillOptions = {**options, "order": order, "logprobs": True}
        self._joined = continues_prefix(sentinels, order)
        self._stream: Generator[Step] | None = None
        self._answered: _Answered | None = None
        self._begun = 0
        self.prefix = self.suffix = ""
        self.open(prefix, suffix)

    def open(self, prefix: str, suffix: str) -> None:
        """Go to another place, or take over a document that was changed elsewhere."""
        self._change(prefix, suffix)
        self._begun = len(prefix)

    def type(self, text: str) -> None:
        """Put text before the cursor."""
        self._change(self.prefix + text, self.suffix)

    def delete(self, before: int = 1, after: int = 0) -> None:
        """Delete characters before and after the cursor.

        Raises:
            CodecriaError: there are not so many.
        """
        self._within(before, after)
        self._change(self.prefix[: len(self.prefix) - before], self.suffix[after:])

    def move(self, characters: int) -> None:
        """Move to the right, or to the left by a negative number.

        Raises:
            CodecriaError: the text ends before.
        """
        self._within(max(-characters, 0), max(characters, 0))
        text, place = self.prefix + self.suffix, len(self.prefix) + characters
        self.open(text[:place], text[place:])

    def read(self) -> None:
        """Read the prompt into the cache, so that the first suggestion comes as fast as the others."""
        prefix, options = self._request()
        # Planned as the suggestion is: with fewer tokens to write, more of the texts would fit, cut elsewhere.
        prepared = self._model.prepare_infill(prefix, self.suffix, **options)
        only_read = replace(prepared.options, max_tokens=0)
        self._model.engine.generate([prepared.ids], only_read, [prepared.text])

    def suggest(self, *, fresh: bool = False) -> Suggestion:
        """What belongs at the cursor. Where the text goes on as the last suggestion said, its rest, without a pass.

        `fresh` asks the model even there.
        """
        self._end_stream()
        pending = None if fresh else self._pending()
        if pending is None:
            prefix, options = self._request()
            pending = self._remember([self._model.infill(prefix, self.suffix, **options)])[0]
        return pending

    def candidates(self, count: int = 3) -> list[Suggestion]:
        """Different suggestions, the likeliest first; see `CodeModel.infill_candidates`.

        Typing any of them on needs no pass. The first request reads the prompt for all.
        """
        self._end_stream()
        prefix, options = self._request()
        return self._remember(self._model.infill_candidates(prefix, self.suffix, count, **options))

    def stream(self) -> Iterator[str]:
        """As `suggest`, piece by piece. It ends early when the text changes."""
        self._end_stream()
        pending = self._pending()
        if pending is not None:
            return iter([pending.text] if pending.text else [])
        prefix, options = self._request()
        prepared = self._model.prepare_infill(prefix, self.suffix, **options)
        self._stream = self._model.engine.stream([prepared.ids], prepared.options, [prepared.text])
        return self._pieces(self._stream)

    def accept(self, characters: int | None = None) -> str:
        """Make the last suggestion text, or its first `characters`: what was put before the cursor.

        Raises:
            CodecriaError: there is no suggestion for the text as it is.
        """
        pending = self._pending()
        if pending is None:
            raise CodecriaError("there is no suggestion to accept", mend="call suggest() after the last change")
        text = pending.text[:characters]
        self.type(text)
        return text

    def _pieces(self, steps: Generator[Step]) -> Iterator[str]:
        texts: list[str] = []
        log_probabilities: list[float] = []
        with contextlib.closing(steps):
            for step in steps:
                texts.append(step.text)
                if step.log_probability is not None and step.finish_reason != "stop":
                    log_probabilities.append(step.log_probability)
                if step.finish_reason:
                    suggestion = Suggestion("".join(texts), 0, 0, len(log_probabilities), mean(log_probabilities))
                    self._answered = _Answered(self.prefix, self.suffix, (suggestion,))
                if step.text:
                    yield step.text

    def _request(self) -> tuple[str, InfillOptions]:
        """The prefix, and the options with what stands behind it in PSM."""
        if self._joined:
            return self.prefix, {**self._options}
        if not len(self.prefix) - LONGEST_BEGUN <= self._begun <= len(self.prefix):
            self._begun = len(self.prefix)
        return self.prefix[: self._begun], {**self._options, "begun": self.prefix[self._begun :]}

    def _remember(self, completions: Iterable[Completion]) -> list[Suggestion]:
        found = [
            Suggestion(
                each.text,
                each.reused_tokens,
                each.prompt_tokens - each.reused_tokens,
                len(each.ids),
                mean_log_probability(each),
            )
            for each in completions
        ]
        self._answered = _Answered(self.prefix, self.suffix, tuple(found))
        return found

    def _pending(self) -> Suggestion | None:
        return self._answered and self._answered.still(self.prefix, self.suffix)

    def _change(self, prefix: str, suffix: str) -> None:
        self._end_stream()
        self.prefix, self.suffix = prefix, suffix

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _within(self, before: int, after: int) -> None:
        if not (0 <= before <= len(self.prefix) and 0 <= after <= len(self.suffix)):
            raise CodecriaError(
                f"{before} characters before and {after} after the cursor, where there are "
                f"{len(self.prefix)} and {len(self.suffix)}",
                mend="call open() when the document has changed",
            )

"""One text being generated: its prompt, what came so far, and why it ended."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

from codecria.generation.stopping import TextWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from codecria.common.errors import CodecriaError
    from codecria.generation.cache import Place
    from codecria.generation.sampling import SamplingOptions
    from codecria.generation.speculative import PromptLookup
    from codecria.generation.stopping import TextPlan

FinishReason = Literal["stop", "stop-string", "length"]
"""`stop`: the model wrote an end id. `stop-string`: a stop string or another rule on the text. `length`: `max_tokens`
are written or the context is full."""


class Priority(IntEnum):
    """Who goes first: a person who waits at the cursor before a job that nobody looks at."""

    INTERACTIVE = 0
    BATCH = 1


@dataclass(frozen=True)
class Step:
    """One token of one sequence.

    Attributes:
        prompt, sample: which sequence.
        id: the token chosen, an end id included; None when `max_tokens` is 0 or time has run out.
        text: what may be shown now. It lags behind the tokens while a character or a stop string is incomplete.
        log_probability: natural logarithm, when asked for.
        finish_reason: set on the sequence's last step.
        best: with `top_logprobs`, the most probable ids with their log probabilities.
    """

    prompt: int
    sample: int
    id: int | None
    text: str
    log_probability: float | None
    finish_reason: FinishReason | None
    best: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Completion:
    """A generated text.

    Attributes:
        text: cut where a stop string or another rule ends it; "" when the engine was given ids alone.
        ids: every token generated, without the end id; more than the text's when a rule cut it.
        finish_reason: why it ended.
        log_probabilities: of each of `ids` under the model, natural logarithm; None unless asked for. The first of a
            healed text is among the tokens that were allowed.
        prompt_tokens: the prompt's length.
        reused_tokens: so many of them were still in the cache and were not computed again.
        near_ties: steps (from 0) of a greedy text whose two best scores were less than 1e-4 apart: from the first of
            them on, another batch or chunk size may give another text.
    """

    text: str
    ids: list[int]
    finish_reason: FinishReason
    log_probabilities: list[float] | None
    prompt_tokens: int
    reused_tokens: int
    near_ties: list[int]


class Stem:
    """What samples of one prompt have in common.

    Attributes:
        pending: samples that have not begun.
        seat: where the prompt lies, once it has been read while more than one sample was pending.
        logits_1V: the scores behind it, then.
    """

    def __init__(self, pending: int) -> None:
        self.pending = pending
        self.seat: Place | None = None
        self.logits_1V: Tensor | None = None


class Sequence:
    """A text under way. The engine feeds it tokens; it says when it has ended.

    Attributes:
        prompt: token ids.
        options: how it is generated.
        first_ids: tokens that the first one must be among; None for any.
        guess: the token that healing took back, as the first one worth trying; None for none.
        narrow: takes scores out before a token is drawn; see `stopping.TextPlan`.
        limit: how many tokens it may have: `max_tokens`, one more for the prompt's own where that may come again, or
            fewer where the context ends before.
        reused: prompt tokens found in the cache; None until the prompt is first looked at.
        finished: whether nothing follows; a sequence that was cancelled or has failed has no `finish_reason`.
        error: why it failed.
        priority: who goes first.
        outbox: steps nobody has taken yet.
        stem: shared with the other samples of the prompt, until it has begun.
        seat: where its keys and values lie while it is read or runs.
        lookup: its drafts.
    """

    def __init__(
        self,
        prompt: list[int],
        options: SamplingOptions,
        *,
        place: int,
        sample: int,
        seed: int,
        limit: int,
        watch: TextWatch | None,
        first_ids: Iterable[int] | None = None,
        guess: int | None = None,
        narrow: Callable[[Tensor], None] | None = None,
        priority: Priority = Priority.BATCH,
        stem: Stem | None = None,
    ) -> None:
        self.prompt = prompt
        self.options = options
        self.place = place
        self.sample = sample
        self.seed = seed
        self.limit = limit
        self.first_ids = None if first_ids is None else tuple(first_ids)
        self.guess = guess
        self.narrow = narrow
        self.ids: list[int] = []
        self.log_probabilities: list[float] = []
        self.near_ties: list[int] = []
        self.reused: int | None = None
        self.finished = False
        self.finish_reason: FinishReason | None = None
        self.error: CodecriaError | None = None
        self.priority = priority
        self.stem = stem
        self.seat: Place | None = None
        self.lookup: PromptLookup | None = None
        self.outbox: deque[Step] = deque()
        self._watch = watch
        self._stop_ids = frozenset(options.stop_ids)

    @property
    def whole(self) -> list[int]:
        """The prompt and what is written: what is read when the sequence begins, or goes on after a pause."""
        return [*self.prompt, *self.ids] if self.ids else self.prompt

    def accept(
        self, id: int, log_probability: float | None, near_tie: bool, best: tuple[tuple[int, float], ...] = ()
    ) -> None:
        """Take the next token."""
        if near_tie:
            self.near_ties.append(len(self.ids))
        # The token that healing took back is the prompt's: it ends nothing and does not count.
        taken_back = not self.ids and id == self.guess
        if not self.ids and not taken_back:
            self.limit = min(self.limit, self.options.max_tokens)
        if id in self._stop_ids and not taken_back:
            self._emit(id, self._finish_text(), log_probability, "stop", best)
            return
        self.ids.append(id)
        if log_probability is not None:
            self.log_probabilities.append(log_probability)
        text = self._watch.push(id) if self._watch else ""
        reason: FinishReason | None = None
        if self._watch and self._watch.ended:
            reason = "stop-string"
        elif len(self.ids) == self.limit:
            text, reason = text + self._finish_text(), "length"
        self._emit(id, text, log_probability, reason, best)

    def end_now(self) -> None:
        """End without a further token, with what is still to be shown: it may have none, or time has run out."""
        self._emit(None, self._finish_text(), None, "length")

    def fail(self, error: CodecriaError) -> None:
        """End with an error."""
        self.error = error
        self.finished = True

    def result(self) -> Completion:
        """The whole text, once it has a finish reason; raises its error if it has failed."""
        if self.error is not None:
            raise self.error
        assert self.finish_reason is not None
        return Completion(
            text=self._watch.text if self._watch else "",
            ids=self.ids,
            finish_reason=self.finish_reason,
            log_probabilities=self.log_probabilities if self.options.logprobs else None,
            prompt_tokens=len(self.prompt),
            reused_tokens=self.reused or 0,
            near_ties=self.near_ties,
        )

    def _finish_text(self) -> str:
        return self._watch.finish() if self._watch else ""

    def _emit(
        self,
        id: int | None,
        text: str,
        log_probability: float | None,
        reason: FinishReason | None,
        best: tuple[tuple[int, float], ...] = (),
    ) -> None:
        self.finish_reason = reason
        self.finished = reason is not None
        self.outbox.append(Step(self.place, self.sample, id, text, log_probability, reason, best))


def samples_of(
    prompt: list[int],
    options: SamplingOptions,
    text: TextPlan | None,
    place: int,
    seed: int,
    room: int,
    priority: Priority,
) -> list[Sequence]:
    """The samples of prompt number `place`, with their common stem; the context holds `room` tokens behind it."""
    prompt, stem = list(prompt), Stem(options.n)
    healed = text is not None and text.guess is not None and options.max_tokens > 0
    return [
        Sequence(
            prompt,
            options,
            place=place,
            sample=sample,
            seed=seed,
            limit=min(options.max_tokens + healed, room),
            watch=None if text is None else TextWatch(text.new_decoder(), text.rules, options.stop, text.returns),
            first_ids=None if text is None else text.first_ids,
            guess=None if text is None else text.guess,
            narrow=None if text is None else text.narrow,
            priority=priority,
            stem=stem,
        )
        for sample in range(options.n)
    ]

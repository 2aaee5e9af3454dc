"""The one thread that has the model: it takes requests, steps the engine, and hands out what was written.

An engine is not to be used from several threads, and a step of it must not hold up the connections. So all that
touches it happens here, and the connections' side hears of it in deliveries, one for each step.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from codecria.common.errors import CodecriaError
from codecria.generation.memory import out_of_memory
from codecria.generation.prefix_tree import CacheFullError
from codecria.generation.sequence import Priority
from codecria.serving.prepare import prepare
from codecria.serving.problems import Problem, Unavailable, as_problem
from codecria.serving.requests import Infill, Piece, TextRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from codecria.generation.code_model import CodeModel
    from codecria.generation.sequence import Sequence
    from codecria.generation.statistics import Statistics

_log = logging.getLogger("codecria.serving")

_STATISTICS_S = 1.0
_IDLE_S = 0.05
# A prompt of which fewer tokens were read says little of how fast prompts are read.
_TELLING_TOKENS = 128
_NEW_SHARE = 0.3


@dataclass
class Delivery:
    """News of one job.

    Attributes:
        job: as it was handed in.
        pieces: new ones.
        facts: fields of `Outcome` that are known by now.
        done: whether nothing follows.
        error: why not.
    """

    job: Any
    pieces: list[Piece] = field(default_factory=list[Piece])
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    done: bool = False
    error: Problem | None = None


@dataclass
class _Live:
    """A job the engine works at."""

    job: Any
    request: TextRequest
    deadline: float
    sequences: list[Sequence]
    begun_s: float | None = None
    first_s: float | None = None


class EngineThread(threading.Thread):
    """Runs until `stop`.

    Args:
        load: makes the model, in this thread.
        loaded: called with the model, or with what went wrong.
        deliver: called with news.

    Attributes:
        statistics: of the engine, at most a second old while it works.
        read_tokens_per_s: how fast prompts are read; None until one was long enough to tell.
    """

    def __init__(
        self,
        load: Callable[[], CodeModel],
        loaded: Callable[[CodeModel | Exception], None],
        deliver: Callable[[list[Delivery]], None],
    ) -> None:
        super().__init__(name="codecria-engine", daemon=True)
        self.statistics: Statistics | None = None
        self.read_tokens_per_s: float | None = None
        self._load, self._loaded, self._deliver = load, loaded, deliver
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lives: dict[Any, _Live] = {}
        self._stopping = False
        self._told_s = 0.0

    def submit(self, job: Any, request: TextRequest, text_s: float) -> None:
        """Take a job, from any thread; `text_s` from now its texts end."""
        deadline = time.monotonic() + text_s
        self._inbox.put(lambda: self._take(job, request, deadline))

    def cancel(self, job: Any) -> None:
        """Give a job up, from any thread; nothing more is delivered of it."""
        self._inbox.put(lambda: self._drop(job))

    def end_within(self, seconds: float) -> None:
        """Let all texts end within so many seconds, from any thread."""
        until = time.monotonic() + seconds
        self._inbox.put(lambda: self._hurry(until))

    def stop(self) -> None:
        """End the thread after its step, from any thread."""

        def end() -> None:
            self._stopping = True

        self._inbox.put(end)

    def run(self) -> None:
        """The thread's work."""
        try:
            self._model = self._load()
        except Exception as error:
            self._loaded(error)
            return
        self._engine = self._model.engine
        # The connections' side bounds the queue.
        self._engine.max_waiting = 2**31
        self.statistics = self._engine.statistics()
        self._loaded(self._model)
        busy = False
        while not self._stopping:
            self._take_commands(busy)
            busy = self._step()

    def _take_commands(self, busy: bool) -> None:
        try:
            if not busy:
                self._inbox.get(timeout=_IDLE_S if self._lives else None)()
            while True:
                self._inbox.get_nowait()()
        except queue.Empty:
            pass

    def _step(self) -> bool:
        began = time.monotonic()
        try:
            busy = self._engine.step()
        except Exception as error:
            _log.exception("the engine failed", exc_info=error)
            self._fail_all()
            return False
        self._collect(began)
        now = time.monotonic()
        if not busy or now - self._told_s > _STATISTICS_S:
            self.statistics, self._told_s = self._engine.statistics(), now
        return busy

    def _take(self, job: Any, request: TextRequest, deadline: float) -> None:
        try:
            prepared = prepare(self._model, request, self.read_tokens_per_s)
            priority = Priority.INTERACTIVE if isinstance(request.task, Infill) else Priority.BATCH
            sequences = self._engine.submit(prepared.ids, prepared.options, prepared.text, priority)
        except Exception as error:
            if not isinstance(error, CodecriaError):
                _log.exception("a request could not be prepared", exc_info=error)
            self._deliver([Delivery(job, done=True, error=as_problem(error))])
            return
        self._lives[job] = _Live(job, request, deadline, sequences)
        self._deliver([Delivery(job, facts={"prompt_ids": prepared.ids})])

    def _drop(self, job: Any) -> None:
        live = self._lives.pop(job, None)
        if live is not None:
            self._engine.cancel(live.sequences)

    def _hurry(self, until: float) -> None:
        for live in self._lives.values():
            live.deadline = min(live.deadline, until)

    def _fail_all(self) -> None:
        lives, self._lives = list(self._lives.values()), {}
        for live in lives:
            self._engine.cancel(live.sequences)
        error = Problem("the engine failed; the server's log says more")
        self._deliver([Delivery(live.job, done=True, error=error) for live in lives])

    def _collect(self, began: float) -> None:
        """Hand out what a step that began then has changed."""
        news: list[Delivery] = []
        for live in list(self._lives.values()):
            delivery = self._news(live, began, time.monotonic())
            if delivery.done:
                del self._lives[live.job]
            if delivery.done or delivery.pieces or delivery.facts:
                news.append(delivery)
        if news:
            self._deliver(news)

    def _news(self, live: _Live, began: float, now: float) -> Delivery:
        news = Delivery(live.job)
        if live.begun_s is None:
            reused = next((each.reused for each in live.sequences if each.reused is not None), None)
            if reused is not None:
                live.begun_s = began
                news.facts |= {"begun_s": began, "cached_tokens": reused}
        for sequence in live.sequences:
            if sequence.error is not None:
                self._engine.cancel(live.sequences)
                return Delivery(live.job, done=True, error=_runtime_problem(sequence.error))
            self._take_pieces(live, sequence, news, now)
        if live.first_s is None and news.pieces:
            live.first_s = now
            news.facts["first_s"] = now
            self._learn_rate(live, now)
        if now > live.deadline:
            self._end_late(live, news, now)
        if all(each.finished for each in live.sequences):
            news.done = True
            news.facts["ended_s"] = now
        return news

    def _take_pieces(self, live: _Live, sequence: Sequence, news: Delivery, now: float) -> None:
        limit_ms = live.request.predict_ms
        while sequence.outbox:
            step = sequence.outbox.popleft()
            ends = step.finish_reason == "stop"
            text, reason = step.text, step.finish_reason
            late = limit_ms and live.first_s is not None and (now - live.first_s) * 1000 > limit_ms
            if late and reason is None and "\n" in text:
                text, reason = text[: text.index("\n")].removesuffix("\r"), "length"
                self._engine.cancel([sequence])
                sequence.outbox.clear()
            news.pieces.append(Piece(step.sample, step.id, text, step.log_probability, step.best, reason, ends))

    def _end_late(self, live: _Live, news: Delivery, now: float) -> None:
        """End what has run out of time with what it has; a job of which nothing is written fails."""
        unfinished = [each for each in live.sequences if not each.finished]
        if not unfinished:
            return
        self._engine.cancel(unfinished)
        if live.first_s is None:
            news.error = Unavailable("the text did not begin in time", retry_s=1)
            return
        for each in unfinished:
            each.end_now()
            self._take_pieces(live, each, news, now)

    def _learn_rate(self, live: _Live, now: float) -> None:
        prompt, reused = len(live.sequences[0].prompt), live.sequences[0].reused or 0
        # Beside other texts it would tell how busy the engine is, and a window that wavers loses what is cached.
        if live.begun_s is None or len(self._lives) > 1 or prompt - reused < _TELLING_TOKENS:
            return
        rate = (prompt - reused) / max(now - live.begun_s, 1e-6)
        old = self.read_tokens_per_s
        self.read_tokens_per_s = rate if old is None else old + _NEW_SHARE * (rate - old)


def _runtime_problem(error: CodecriaError) -> Problem:
    cause = error.__cause__
    short = isinstance(error, CacheFullError) or (isinstance(cause, Exception) and out_of_memory(cause))
    if cause is not None and not short:
        _log.error("a text failed", exc_info=cause)
    return (Unavailable if short else Problem)(error.what, where=error.where, mend=error.mend)

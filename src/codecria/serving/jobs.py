"""Texts under way and who waits for them: tickets, requests that are one, a bounded queue.

Whatever writes the texts, an engine in this process or another server, is a `Jobs` of its own kind.
"""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from codecria.serving.problems import Busy, Problem, Unavailable
from codecria.serving.requests import ModelInfo, Outcome, Piece, Sample, TextRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from codecria.infill.layout import Sentinels
    from codecria.serving.engine_thread import Delivery
    from codecria.serving.settings import Settings
    from codecria.tokenizer.tokenizer import Tokenizer

_NEW_SHARE = 0.1
_LONGEST_RETRY_S = 60


class Job:
    """A text under way, and who waits for it. Lives on the connections' side.

    Attributes:
        request: what was asked for.
        pieces: all so far, so that who joins later has them too.
        asked_s: when it was made, of the monotonic clock.
        facts: fields of `Outcome`.
        callers: how many tickets are held.
    """

    def __init__(self, request: TextRequest) -> None:
        self.request = request
        self.pieces: list[Piece] = []
        self.asked_s = time.monotonic()
        self.facts: dict[str, Any] = {"asked_s": self.asked_s}
        self.callers = 0
        self.done = False
        self.error: Problem | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def take(self, news: Delivery) -> None:
        """Add what has happened and wake who waits."""
        self.pieces += news.pieces
        self.facts |= news.facts
        self.done, self.error = news.done, news.error
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def news(self) -> None:
        """Wait for something to happen."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


class JobTicket:
    """A `requests.Ticket` for a job."""

    def __init__(self, jobs: Jobs, job: Job) -> None:
        self.outcome = Outcome([Sample() for _ in range(job.request.sampling.n)])
        self._jobs = jobs
        self._job = job
        self._taken = 0
        self._held = True
        job.callers += 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._held:
            self._held = False
            self._jobs.leave(self._job)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        job = self._job
        while await self._more():
            piece = job.pieces[self._taken]
            self._taken += 1
            self.outcome.take(piece)
            yield piece

    async def started(self) -> None:
        """Wait until something is written."""
        await self._more()

    async def finished(self) -> Outcome:
        """Wait until all is written."""
        async for _ in self:
            pass
        return self.outcome

    async def _more(self) -> bool:
        """Wait for a piece that was not taken; False at the end."""
        job = self._job
        while self._taken == len(job.pieces) and not job.done:
            await job.news()
        for name, value in job.facts.items():
            setattr(self.outcome, name, value)
        if self._taken < len(job.pieces):
            return True
        if job.error is not None:
            raise job.error
        return False


class Jobs(ABC):
    """A `requests.Backend` without what writes. Everything here happens in one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs: dict[TextRequest, Job] = {}
        self._texts = 0
        self._stopping = False
        self._info: ModelInfo | None = None  # once there is a model
        self._mean_s = 1.0
        self._counts: Counter[str] = Counter()

    @abstractmethod
    async def start(self) -> None:
        """Make ready to write, and wait until that is done.

        Raises:
            CodecriaError: it cannot be.
        """

    @abstractmethod
    def drain(self, seconds: float) -> None:
        """Refuse new requests, and let texts end within so many seconds."""

    @abstractmethod
    async def stop(self) -> None:
        """End what writes."""

    @property
    def ready(self) -> bool:
        """Whether texts are written."""
        return self._info is not None and not self._stopping

    @property
    def info(self) -> ModelInfo:
        """What is told of the model."""
        if self._info is None:
            raise Unavailable("Loading model", retry_s=1)
        return self._info

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """The model's."""

    @property
    @abstractmethod
    def sentinels(self) -> Sentinels | None:
        """Its infill markers."""

    @abstractmethod
    def counts(self) -> dict[str, float]:
        """Numbers for the metrics."""

    @abstractmethod
    def _rows(self) -> int:
        """How many texts are written together; raises `Unavailable` while there is no model."""

    @abstractmethod
    def _begin(self, job: Job) -> None:
        """Write a text, and `_deliver` what comes of it."""

    @abstractmethod
    def _cancel(self, job: Job) -> None:
        """Write no more of it."""

    def submit(self, request: TextRequest) -> JobTicket:
        """Ask for a text. One that is being written for somebody else, and cannot come out otherwise, is shared."""
        room = self._rows() + self._settings.waiting_texts
        if self._stopping:
            raise Unavailable("the server stops", retry_s=5)
        job = self._jobs.get(request) if request.determined else None
        if job is not None and not job.done:
            self._counts["joined"] += 1
            return JobTicket(self, job)
        texts = request.sampling.n
        if self._texts + texts > room:
            self._counts["refused"] += 1
            what = f"{self._texts} texts are written or wait, and at most {room} may"
            raise Busy(what, mend="try again later", retry_s=self._retry_s())
        job = Job(request)
        self._texts += texts
        if request.determined:
            self._jobs[request] = job
        self._begin(job)
        return JobTicket(self, job)

    def leave(self, job: Job) -> None:
        """A caller no longer waits; what nobody waits for ends."""
        job.callers -= 1
        if job.callers or job.done:
            return
        self._counts["cancelled"] += 1
        self._cancel(job)
        self._forget(job)

    def _asked(self) -> dict[str, float]:
        """Numbers of what was asked for."""
        counted = {name: float(self._counts[name]) for name in ("joined", "refused", "cancelled")}
        return {**counted, "texts": float(self._texts)}

    def _deliver(self, deliveries: list[Delivery]) -> None:
        for news in deliveries:
            job: Job = news.job
            if job.done:
                continue
            job.take(news)
            if job.done:
                seconds = time.monotonic() - job.asked_s
                self._mean_s += _NEW_SHARE * (seconds - self._mean_s)
                self._forget(job)

    def _forget(self, job: Job) -> None:
        job.done = True
        self._texts -= job.request.sampling.n
        if self._jobs.get(job.request) is job:
            del self._jobs[job.request]

    def _retry_s(self) -> int:
        seconds = self._mean_s * self._texts / self._rows()
        return max(1, min(_LONGEST_RETRY_S, math.ceil(seconds)))

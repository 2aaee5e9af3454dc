"""Between connections and the engine's thread: tickets, requests that are one, a bounded queue."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from codecria.serving.engine_thread import Delivery, EngineThread
from codecria.serving.problems import Busy, Problem, Unavailable
from codecria.serving.requests import ModelInfo, Outcome, Piece, Sample, TextRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import PurePath
    from types import TracebackType

    from codecria.generation.code_model import CodeModel
    from codecria.infill.layout import Sentinels
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

    def __init__(self, bridge: Bridge, job: Job) -> None:
        self.outcome = Outcome([Sample() for _ in range(job.request.sampling.n)])
        self._bridge = bridge
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
            self._bridge.leave(self._job)

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


class Bridge:
    """A `requests.Backend` over a model in this process. Everything here happens in one event loop.

    Args:
        load: opens the model; called in the engine's thread.
        name: how the model is called; of a path its last part.
        settings: the limits.
    """

    def __init__(self, load: Callable[[], CodeModel], name: str | PurePath, settings: Settings) -> None:
        self._name = str(name).rstrip("/").rpartition("/")[2]
        self._settings = settings
        self._load = load
        self._model: CodeModel | None = None
        self._info: ModelInfo | None = None
        self._jobs: dict[TextRequest, Job] = {}
        self._texts = 0
        self._stopping = False
        self._mean_s = 1.0
        self._counts: Counter[str] = Counter()

    async def start(self) -> None:
        """Begin to load the model, and wait until that is done.

        Raises:
            CodecriaError: it could not be loaded.
        """
        loop = asyncio.get_running_loop()
        loaded: asyncio.Future[CodeModel] = loop.create_future()

        def tell(found: CodeModel | Exception) -> None:
            if not loaded.done():
                loaded.set_exception(found) if isinstance(found, Exception) else loaded.set_result(found)

        self._thread = EngineThread(
            self._load,
            lambda found: _call(loop, lambda: tell(found)),
            lambda news: _call(loop, lambda: self._deliver(news)),
        )
        self._thread.start()
        self._model = await loaded
        self._info = _info(self._model, self._name)

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
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return self._loaded.tokenizer

    @property
    def sentinels(self) -> Sentinels | None:
        """Its infill markers."""
        return self._loaded.sentinels

    def submit(self, request: TextRequest) -> JobTicket:
        """Ask for a text. One that is being written for somebody else, and cannot come out otherwise, is shared."""
        model = self._loaded
        if self._stopping:
            raise Unavailable("the server stops", retry_s=5)
        job = self._jobs.get(request) if request.determined else None
        if job is not None and not job.done:
            self._counts["joined"] += 1
            return JobTicket(self, job)
        texts = request.sampling.n
        room = model.engine.max_rows + self._settings.waiting_texts
        if self._texts + texts > room:
            self._counts["refused"] += 1
            what = f"{self._texts} texts are written or wait, and at most {room} may"
            raise Busy(what, mend="try again later", retry_s=self._retry_s())
        job = Job(request)
        self._texts += texts
        if request.determined:
            self._jobs[request] = job
        self._thread.submit(job, request, self._settings.text_s)
        return JobTicket(self, job)

    def leave(self, job: Job) -> None:
        """A caller no longer waits; what nobody waits for ends."""
        job.callers -= 1
        if job.callers or job.done:
            return
        self._counts["cancelled"] += 1
        self._thread.cancel(job)
        self._forget(job)

    def drain(self, seconds: float) -> None:
        """Refuse new requests, and let texts end within so many seconds."""
        self._stopping = True
        if self._model is not None:
            self._thread.end_within(seconds)

    async def stop(self) -> None:
        """End the engine's thread; waits for its step."""
        self._stopping = True
        self._thread.stop()
        if self._model is not None:
            await asyncio.to_thread(self._thread.join)

    def counts(self) -> dict[str, float]:
        """Numbers for the metrics."""
        held = self._thread.statistics if self._model is not None else None
        engine = {} if held is None else {name: float(value) for name, value in vars(held).items()}
        asked = {name: float(self._counts[name]) for name in ("joined", "refused", "cancelled")}
        rows = 0 if self._model is None else self._model.engine.max_rows
        return {**engine, **asked, "texts": float(self._texts), "rows": float(rows)}

    @property
    def _loaded(self) -> CodeModel:
        if self._model is None:
            raise Unavailable("Loading model", retry_s=1)
        return self._model

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
        seconds = self._mean_s * self._texts / self._loaded.engine.max_rows
        return max(1, min(_LONGEST_RETRY_S, math.ceil(seconds)))


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """Do something in the loop's thread; nothing where the loop has ended."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(what)


def _info(model: CodeModel, name: str) -> ModelInfo:
    weights = model.engine.model
    config = weights.config
    return ModelInfo(
        name=name,
        max_positions=config.max_positions,
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        parameters=config.parameter_count(),
        weight_bytes=sum(each.numel() * each.element_size() for each in weights.state_dict().values()),
        created=int(time.time()),
    )

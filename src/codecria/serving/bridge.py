"""Between connections and the engine's thread: a backend that writes with a model in this process."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from codecria.generation.speed import weight_bytes
from codecria.serving.engine_thread import EngineThread
from codecria.serving.jobs import Job, Jobs
from codecria.serving.problems import Unavailable
from codecria.serving.requests import ModelInfo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import PurePath

    from codecria.generation.code_model import CodeModel
    from codecria.infill.layout import Sentinels
    from codecria.serving.settings import Settings
    from codecria.tokenizer.tokenizer import Tokenizer


class Bridge(Jobs):
    """A `requests.Backend` over a model in this process.

    Args:
        load: opens the model; called in the engine's thread.
        name: how the model is called; of a path its last part.
        settings: the limits.
    """

    def __init__(self, load: Callable[[], CodeModel], name: str | PurePath, settings: Settings) -> None:
        super().__init__(settings)
        self._name = str(name).rstrip("/").rpartition("/")[2]
        self._load = load
        self._model: CodeModel | None = None

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
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return self._loaded.tokenizer

    @property
    def sentinels(self) -> Sentinels | None:
        """Its infill markers."""
        return self._loaded.sentinels

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
        rows = 0 if self._model is None else self._model.engine.max_rows
        return {**engine, **self._asked(), "rows": float(rows)}

    @property
    def _loaded(self) -> CodeModel:
        if self._model is None:
            raise Unavailable("Loading model", retry_s=1)
        return self._model

    def _rows(self) -> int:
        return self._loaded.engine.max_rows

    def _begin(self, job: Job) -> None:
        self._thread.submit(job, job.request, self._settings.text_s)

    def _cancel(self, job: Job) -> None:
        self._thread.cancel(job)


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
        weight_bytes=weight_bytes(weights),
        created=int(time.time()),
    )

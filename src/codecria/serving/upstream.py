"""A backend that writes with another server: an engine with OpenAI's /v1/completions that takes token ids.

vLLM is one, SGLang another.

Prompts are made here, by the same functions as for a model in this process, and go there as ids; so an engine that
refuses `suffix` infills, behind every interface. What comes back as ids is decoded here. Nothing is healed, for what
an engine writes first cannot be chosen from here, and llama.cpp's `infill` sampler does not act.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx

from codecria.common.errors import CodecriaError
from codecria.generation.endpoint import read_tokenizer
from codecria.generation.http import event_lines_async, said
from codecria.generation.openai_api import COMPLETIONS, Request, request_body
from codecria.generation.preparing import Prepared, Preparer
from codecria.serving.engine_thread import Delivery
from codecria.serving.jobs import Job, Jobs
from codecria.serving.prepare import prepare
from codecria.serving.problems import BadRequest, Busy, Problem, Unavailable, as_problem
from codecria.serving.requests import ModelInfo
from codecria.serving.upstream_texts import UpstreamTexts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codecria.generation.sampling import SamplingOptions
    from codecria.infill.layout import Sentinels
    from codecria.serving.settings import Settings
    from codecria.tokenizer.tokenizer import Tokenizer

_log = logging.getLogger("codecria.serving")

KEY_VARIABLE = "OPENAI_API_KEY"

# An engine on a GPU writes so many together, and queues the rest itself.
_TEXTS_TOGETHER = 256
_CONNECT_S = 10.0
_MOST_BIAS = 100.0
_NO_EVENT = "the engine sends what is no event"


class Upstream(Jobs):
    """A `requests.Backend` over another server. Who leaves closes the connection to it, which ends the text there.

    Args:
        url: up to and with the version, such as `http://localhost:8000/v1`.
        tokenizer: of the engine's model, as a folder or a name that `codecria models` lists.
        settings: the limits.
        model: the model's name there; needed where the engine lists several.
    """

    def __init__(self, url: str, tokenizer: str, settings: Settings, model: str | None = None) -> None:
        super().__init__(settings)
        if not url.startswith(("http://", "https://")):
            raise CodecriaError("is no URL", where=url, mend="for example http://localhost:8000/v1")
        self._url = url.rstrip("/")
        self._tokenizer_name = tokenizer
        self._model = model
        self._preparer: Preparer | None = None
        self._tasks: dict[Job, asyncio.Task[None]] = {}
        self._limits: dict[Job, asyncio.Timeout] = {}
        # A preparer remembers what it encoded last, and is one thread's.
        self._pool = ThreadPoolExecutor(1, "codecria-prepare")

    async def start(self) -> None:
        """Read the tokenizer and ask the engine what it serves.

        Raises:
            CodecriaError: there is no such tokenizer, or the engine does not answer, has no such model or does not say
                how long its context is.
        """
        key = os.environ.get(KEY_VARIABLE, "")
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=_TEXTS_TOGETHER),
        )
        tokenizer = await asyncio.get_running_loop().run_in_executor(self._pool, read_tokenizer, self._tokenizer_name)
        entry = await self._listed()
        self._model = str(entry["id"])
        meta: Mapping[str, Any] = entry.get("meta") or {}
        positions = entry.get("max_model_len") or meta.get("n_ctx_train")
        if not isinstance(positions, int):
            what = f"the engine does not say how long the context of '{self._model}' is"
            raise CodecriaError(what, where=f"{self._url}/models", mend="use one that tells max_model_len")
        name = self._model.rstrip("/").rpartition("/")[2]
        self._preparer = Preparer(tokenizer, positions, name=name, heals=False)
        self._info = ModelInfo(
            name=name,
            max_positions=positions,
            vocab_size=int(meta.get("n_vocab") or tokenizer.vocab_size),
            hidden_size=int(meta.get("n_embd") or 0),
            parameters=int(meta.get("n_params") or 0),
            weight_bytes=int(meta.get("size") or 0),
            created=int(time.time()),
        )

    async def _listed(self) -> dict[str, Any]:
        where = f"{self._url}/models"
        try:
            response = await self._client.get(where, timeout=_CONNECT_S)
            listed = response.json()["data"] if response.is_success else None
        except httpx.TransportError as error:
            what = f"the engine does not answer: {type(error).__name__}"
            raise CodecriaError(what, where=where, mend="start it first, and check the address") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CodecriaError("no list of models came", where=where, mend="check that the URL ends in /v1") from error
        if listed is None:
            mend = f"put the engine's key into ${KEY_VARIABLE}" if response.status_code in (401, 403) else None
            raise CodecriaError(f"the engine answers {response.status_code}: {said(response)}", where=where, mend=mend)
        fitting = [each for each in listed if self._model in (None, each.get("id"))]
        if len(fitting) != 1:
            names = ", ".join(str(each.get("id")) for each in listed) or "nothing"
            raise CodecriaError(f"the engine lists: {names}", where=where, mend="name one with --upstream-model")
        return fitting[0]

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return self._prepares.tokenizer

    @property
    def sentinels(self) -> Sentinels | None:
        """Its infill markers."""
        return self._prepares.sentinels

    def drain(self, seconds: float) -> None:
        """Refuse new requests, and let texts end within so many seconds."""
        self._stopping = True
        until = asyncio.get_running_loop().time() + seconds
        for limit in self._limits.values():
            limit.reschedule(min(until, limit.when() or until))

    async def stop(self) -> None:
        """Close all connections to the engine."""
        self._stopping = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()
        self._pool.shutdown()

    def counts(self) -> dict[str, float]:
        """Numbers for the metrics; the cache's are as far as the engine tells."""
        told = {name: float(self._counts[name]) for name in ("read_tokens", "hit_tokens", "written_tokens")}
        return {**told, **self._asked(), "running": float(len(self._limits)), "rows": float(_TEXTS_TOGETHER)}

    @property
    def _prepares(self) -> Preparer:
        if self._preparer is None:
            raise Unavailable("Loading model", retry_s=1)
        return self._preparer

    def _rows(self) -> int:
        return _TEXTS_TOGETHER if self._prepares else 0

    def _begin(self, job: Job) -> None:
        task = asyncio.create_task(self._write(job))
        self._tasks[job] = task
        task.add_done_callback(lambda _: self._tasks.pop(job, None))

    def _cancel(self, job: Job) -> None:
        self._tasks[job].cancel()

    async def _write(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        texts: UpstreamTexts | None = None
        try:
            async with asyncio.timeout(self._settings.text_s) as limit:
                self._limits[job] = limit
                prepared = await loop.run_in_executor(self._pool, prepare, self._prepares, job.request, None)
                self._deliver([Delivery(job, facts={"prompt_ids": prepared.ids, "begun_s": time.monotonic()})])
                texts = UpstreamTexts(job.request, prepared, self.tokenizer)
                await self._stream(job, prepared, texts)
        except TimeoutError:
            if texts is None or not texts.begun:
                late = Unavailable("the text did not begin in time", retry_s=1)
                self._deliver([Delivery(job, done=True, error=late)])
            else:
                self._deliver([Delivery(job, texts.end_late(), {"ended_s": time.monotonic()}, done=True)])
        except httpx.TransportError as error:
            gone = Unavailable(f"the engine behind this server is lost: {type(error).__name__}", retry_s=5)
            self._deliver([Delivery(job, done=True, error=gone)])
        except Exception as error:
            if not isinstance(error, CodecriaError):
                _log.exception("a text failed", exc_info=error)
            self._deliver([Delivery(job, done=True, error=as_problem(error))])
        finally:
            self._limits.pop(job, None)

    async def _stream(self, job: Job, prepared: Prepared, texts: UpstreamTexts) -> None:
        body = self._body(job.request.sampling, prepared, texts)
        async with self._client.stream("POST", f"{self._url}/{COMPLETIONS}", json=body) as response:
            if not response.is_success:
                await response.aread()
                raise _refused(response)
            async for line in event_lines_async(response.aiter_bytes()):
                name, _, data = line.partition(":")
                if name != "data" or data.strip() == "[DONE]":
                    continue
                event = _parsed(data)
                began = texts.begun
                try:
                    pieces = texts.take(event)
                except (LookupError, TypeError, ValueError, AttributeError, CodecriaError) as error:
                    _log.exception(_NO_EVENT, exc_info=error)
                    raise Unavailable(_NO_EVENT, retry_s=5) from error
                facts: dict[str, Any] = {} if began or not pieces else {"first_s": time.monotonic()}
                if pieces:
                    self._deliver([Delivery(job, pieces, facts)])
                if texts.enough:
                    break  # leaving closes the connection, and the engine stops
        if not texts.ended:
            raise Unavailable("the engine broke off before the text had ended", retry_s=1)
        for name, tokens in texts.counted().items():
            self._counts[name] += tokens
        facts = {"ended_s": time.monotonic(), "cached_tokens": texts.cached_tokens, "told_tokens": texts.told_tokens}
        self._deliver([Delivery(job, facts=facts, done=True)])

    def _body(self, sampling: SamplingOptions, prepared: Prepared, texts: UpstreamTexts) -> dict[str, Any]:
        options = prepared.options
        biases = {id: max(-_MOST_BIAS, min(_MOST_BIAS, bias)) for id, bias in options.biases}
        # Reserved ids cannot be forbidden there, but they can end the text.
        ends = tuple(sorted({*options.stop_ids, *options.forbidden_ids}))
        # Engines refuse 0, and more than the context holds behind the prompt.
        most = max(1, min(options.max_tokens, self.info.max_positions - len(prepared.ids)))
        asked = replace(
            options,
            n=texts.asked_samples,
            max_tokens=most,
            min_tokens=min(options.min_tokens, most),
            stop_ids=ends,
            forbidden_ids=(),
            # What narrows a row here would have done these itself.
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            logit_bias=biases,
        )
        wanted = Request(COMPLETIONS, {"prompt": list(prepared.ids)}, asked, returns=prepared.text.returns)
        body = request_body(wanted, self._model or "", "vllm")
        if options.logprobs:
            body |= {"logprobs": options.top_logprobs, "return_tokens_as_token_ids": True}
        return {**body, "stream": True, "stream_options": {"include_usage": True}}


def _parsed(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise Unavailable(_NO_EVENT, retry_s=5)
    if error := event.get("error"):
        what = error.get("message") if isinstance(error, dict) else error
        raise Unavailable(f"the engine broke off: {str(what)[:500]}", retry_s=1)
    return event


def _refused(response: httpx.Response) -> Problem:
    status, what = response.status_code, said(response)
    wait = response.headers.get("retry-after", "")
    if status == 429:
        return Busy(f"the engine is busy: {what}", retry_s=int(wait) if wait.isdecimal() else 1)
    if status in (400, 413, 422):
        return BadRequest(f"the engine refuses: {what}")
    return Unavailable(f"the engine answers {status}: {what}", retry_s=5)

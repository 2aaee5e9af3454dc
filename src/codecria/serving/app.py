"""The ASGI application: one endpoint an address, with everything that is the same for all of them.

An endpoint reads the body within its limits, finds the dialect that is meant, answers, and watches the connection
meanwhile: when the caller goes, the handler is cancelled, whether it streams or not, and with it its tickets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, cast

import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route as StarletteRoute

from codecria.common.errors import CodecriaError
from codecria.serving import guard
from codecria.serving.metrics import Metrics
from codecria.serving.openapi import describe
from codecria.serving.page.routes import PAGE
from codecria.serving.problems import (
    BadRequest,
    NotAllowed,
    NotFound,
    Problem,
    TooLarge,
    TooSlow,
    Unavailable,
    as_problem,
)
from codecria.serving.routes import JSON, Call, Dialect, Reply, Route, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Receive, Scope, Send

    from codecria.serving.requests import Backend
    from codecria.serving.settings import Settings

_log = logging.getLogger("codecria.serving")

_GONE = 499
_ESCAPES = re.compile(rb"\\(?:u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|(u[dD][89a-fA-F][\da-fA-F]{2})|.)")
"""Escapes of JSON; group 1 is half a pair."""


def build_app(backend: Backend, dialects: Sequence[Dialect], settings: Settings) -> Starlette:
    """The application for a backend in some dialects, and the page.

    Raises:
        ValueError: two routes with the same address both take every request.
    """
    metrics = Metrics(backend)
    dialects = [*dialects, PAGE]
    addresses: dict[tuple[str, str], list[tuple[Dialect, Route]]] = defaultdict(list)
    for dialect in dialects:
        for route in dialect.routes:
            addresses[route.method, route.path].append((dialect, route))
    endpoints = [
        StarletteRoute(path, endpoint=Endpoint(path, owners, backend, settings, metrics), methods=[method])
        for (method, path), owners in addresses.items()
    ]
    document = orjson.dumps(describe(dialects, settings))
    about = Dialect("about", (Route("GET", "/openapi.json", _always(document), "This document", public=True),), _plain)
    owners = [(about, about.routes[0])]
    endpoints.append(StarletteRoute("/openapi.json", Endpoint("/openapi.json", owners, backend, settings, metrics)))
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],  # a key's, and what OpenAI's client says of itself; the origin is what is looked at
    )
    return Starlette(
        routes=endpoints,
        middleware=[cors] if settings.origins else [],
        exception_handlers={HTTPException: _Unrouted(metrics)},
    )


class Endpoint:
    """One address. An ASGI application.

    Args:
        path: the route's.
        owners: who may answer; the last has what nobody claims.
    """

    def __init__(
        self,
        path: str,
        owners: Sequence[tuple[Dialect, Route]],
        backend: Backend,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._owners = sorted(owners, key=lambda owner: owner[1].claims is None)
        if sum(route.claims is None for _, route in owners) > 1:
            raise ValueError(f"two dialects have {owners[0][1].method} {path}, and neither says what it claims")
        self._path = path
        self._backend, self._settings, self._metrics = backend, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        began = time.monotonic()
        call = self._call(scope)
        sender = _Sender(send, self._settings.send_s)
        dialect = self._owners[-1][0]
        try:
            guard.check_origin(call.headers, self._settings)
            if not all(route.public for _, route in self._owners):
                guard.check_key(call.headers, self._settings)
            if any(route.body for _, route in self._owners):
                call.body = await self._read_body(call.headers, receive)
            dialect, route = self._owner(call)
            await _unless_gone(self._answer(call, dialect, route, sender), receive)
        except _GoneError:
            sender.status = _GONE
        except Exception as error:
            await self._refuse(error, dialect, sender)
        seconds = time.monotonic() - began
        self._metrics.answered(scope["method"], self._path, sender.status, seconds)
        self._write_log(scope["method"], sender.status, seconds, call)

    def _call(self, scope: Scope) -> Call:
        return Call(
            self._backend,
            self._settings,
            self._metrics,
            {},
            Headers(scope=scope),
            cast("Mapping[str, str]", scope.get("path_params", {})),
            QueryParams(scope["query_string"]),
        )

    def _owner(self, call: Call) -> tuple[Dialect, Route]:
        for dialect, route in self._owners:
            if route.claims is None or route.claims(call):
                return dialect, route
        raise BadRequest("the request is of no form that is known here", where=self._path)

    async def _answer(self, call: Call, dialect: Dialect, route: Route, sender: _Sender) -> None:
        try:
            answer = await route.answer(call)
            if isinstance(answer, Stream):
                await sender.stream(answer, dialect)
            else:
                await sender.whole(answer)
        except Exception as error:
            await self._refuse(error, dialect, sender)

    async def _refuse(self, error: Exception, dialect: Dialect, sender: _Sender) -> None:
        problem = as_problem(error)
        if problem.status == 500:
            _log.exception("a request failed", exc_info=error)
        with contextlib.suppress(Exception):
            await sender.whole(_error_reply(problem, dialect))

    async def _read_body(self, headers: Mapping[str, str], receive: Receive) -> dict[str, Any]:
        limit = self._settings.body_bytes
        told = headers.get("content-length", "0")
        if told.isdigit() and int(told) > limit:
            raise TooLarge(f"the body has {told} bytes, and at most {limit} may come")
        data = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _GoneError
                    data += message.get("body", b"")
                    if len(data) > limit:
                        raise TooLarge(f"the body has more than {limit} bytes")
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise TooSlow(f"the body did not come within {self._settings.body_s:g} s") from None
        if self._settings.log_prompts:
            _log.info("body", extra={"notes": {"path": self._path, "body": data.decode(errors="replace")}})
        try:
            body = _read_json(bytes(data) or b"{}")
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"the body is not JSON: {error.msg} at character {error.pos}") from None
        if not isinstance(body, dict):
            raise BadRequest("the body is not a JSON object")
        return cast("dict[str, Any]", body)

    def _write_log(self, method: str, status: int, seconds: float, call: Call) -> None:
        notes = {"method": method, "path": self._path, "status": status, "ms": round(1000 * seconds), **call.notes}
        _log.info("request", extra={"notes": notes})


def _read_json(data: bytes) -> Any:
    """JSON as Go reads it, and so Ollama: half a surrogate pair is U+FFFD. An editor may cut a character in two."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return orjson.loads(_ESCAPES.sub(lambda found: rb"\ufffd" if found[1] else found[0], data))


class _GoneError(Exception):
    """The caller has closed the connection."""


async def _unless_gone(work: Any, receive: Receive) -> None:
    """Do something until it is done or the caller goes; then it is cancelled.

    Raises:
        _GoneError: the caller has gone.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _GoneError
        task.result()
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Sender:
    """Writes an answer, and knows how far it is.

    Attributes:
        status: what was sent; 0 for nothing yet.
    """

    def __init__(self, send: Send, send_s: float) -> None:
        self._send = send
        self._send_s = send_s
        self.status = 0

    async def whole(self, reply: Reply) -> None:
        """Send an answer; nothing where one has begun."""
        if self.status:
            return
        data = reply.data
        await self._start(reply.status, reply.media, {"content-length": str(len(data)), **reply.headers})
        await self._body(data, more=False)

    async def stream(self, stream: Stream, dialect: Dialect) -> None:
        """Send frames as they come; a failure between them is a frame itself."""
        frames = stream.frames
        try:
            async for frame in frames:
                if not self.status:
                    await self._start(200, stream.media, {"cache-control": "no-cache", "x-accel-buffering": "no"})
                await self._body(frame, more=True)
        except CodecriaError as error:
            if not self.status:
                raise
            line = orjson.dumps(dialect.error(as_problem(error)))
            await self._body(b"data: " + line + b"\n\n" if "event-stream" in stream.media else line + b"\n", more=True)
        finally:
            close = getattr(frames, "aclose", None)
            if close is not None:
                await close()
        await self._body(b"", more=False)

    async def _start(self, status: int, media: str, headers: Mapping[str, str]) -> None:
        charset = "; charset=utf-8" if media.startswith("text/") and "charset" not in media else ""
        named = {"content-type": media + charset, **headers}
        self.status = status
        pairs = [(name.lower().encode(), value.encode()) for name, value in named.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def _body(self, data: bytes, more: bool) -> None:
        async with asyncio.timeout(self._send_s):
            await self._send({"type": "http.response.body", "body": data, "more_body": more})


class _Unrouted:
    """Answers for addresses that nobody has."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def __call__(self, request: Any, error: Exception) -> Any:
        from starlette.responses import Response

        status = cast("HTTPException", error).status_code
        headers = dict(getattr(error, "headers", None) or {})
        what = f"{request.method} {request.url.path}"[:200]
        kind = {404: NotFound("File Not Found", where=what), 405: NotAllowed("another method is needed", where=what)}
        problem = kind.get(status) or Problem(what)
        self._metrics.answered("other", "unknown", status, 0.0)
        return Response(orjson.dumps(_plain(problem)), status, headers, JSON)


def _error_reply(problem: Problem, dialect: Dialect) -> Reply:
    headers: dict[str, str] = {}
    if problem.retry_s is not None:
        headers["retry-after"] = str(problem.retry_s)
    elif isinstance(problem, Unavailable):
        headers["retry-after"] = "1"
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    if problem.status in (408, 413):
        headers["connection"] = "close"  # what is left of the body is not read
    return Reply(dialect.error(problem), problem.status, headers=headers)


def _plain(problem: Problem) -> dict[str, Any]:
    return {"error": {"code": problem.status, "message": str(problem), "type": problem.kind}}


def _always(data: bytes) -> Any:
    async def answer(_call: Call) -> Reply:
        return Reply(data)

    return answer

"""Requests that are sent again: JSON over kept connections, through httpx."""

from __future__ import annotations

import json
import os
import random
import re
import time
from typing import TYPE_CHECKING, Any

from codecria.common.errors import CodecriaError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterable

_IN_PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_LONGEST_PAUSE_S = 60.0
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a last CR may be half of a CR LF


class _Lines:
    """Cuts bytes into lines as they come, at LF, CR LF and CR alone, as server-sent events do.

    httpx cuts at U+2028, U+2029 and U+0085 too, which JSON may hold as they are.
    """

    def __init__(self) -> None:
        self._rest = b""

    def push(self, data: bytes) -> list[str]:
        *lines, self._rest = _LINE_END.split(self._rest + data)
        return [line.decode(errors="replace") for line in lines]


def event_lines(pieces: Iterable[bytes]) -> Generator[str]:
    """Lines of a stream of events, without their ends; the last one may lack its own."""
    lines = _Lines()
    for piece in pieces:
        yield from lines.push(piece)
    yield from lines.push(b"\n")


async def event_lines_async(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """As `event_lines`."""
    lines = _Lines()
    async for piece in pieces:
        for line in lines.push(piece):
            yield line
    for line in lines.push(b"\n"):
        yield line


class Server:
    """One server's JSON API. May be used from several threads.

    Args:
        url: what paths are put behind.
        key_variable: environment variable of the bearer key; without one in it, none is sent.
        connections: kept open at most.
        timeout_s: longest wait for an answer; to connect, 10 s.
        tries: how often a request is sent before giving up.
        pause_s: before the second try; it doubles with each, up to a minute. `Retry-After` is heeded.

    Raises:
        CodecriaError: httpx is not installed, or the URL is none.
    """

    def __init__(
        self, url: str, key_variable: str, connections: int, timeout_s: float, tries: int, pause_s: float
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            mend = "pip install 'codecria[endpoint]'"
            raise CodecriaError("an endpoint needs httpx, which is not installed", where=url, mend=mend) from error
        if not url.startswith(("http://", "https://")):
            raise CodecriaError("is no URL", where=url, mend="for example http://localhost:8000/v1")
        self.url = url.rstrip("/")
        self._key_variable = key_variable
        self._tries = tries
        self._pause_s = pause_s
        key = os.environ.get(key_variable, "")
        self._errors = (httpx.TransportError,)
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0), pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    def get(self, path: str) -> dict[str, Any]:
        """The answer to GET.

        Raises:
            CodecriaError: as `post`.
        """
        return self._send("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a JSON body.

        Raises:
            CodecriaError: the server refuses, does not answer in so many tries, or answers with something else.
        """
        return self._send("POST", path, body)

    def stream(self, path: str, body: dict[str, Any]) -> Generator[dict[str, Any]]:
        """The events of an answer to a JSON body, as they come (server-sent events up to `[DONE]`).

        A server that does not stream gives its whole answer as one event. What fails before the first event is sent
        again, nothing after it. Closing the iterator closes the connection.

        Raises:
            CodecriaError: as `post`; or the connection is lost on the way.
        """
        where = f"{self.url}/{path}"
        response = self._response("POST", where, body, stream=True)
        try:
            if "text/event-stream" not in response.headers.get("Content-Type", ""):
                response.read()
                yield _parsed(response, where)
                return
            for line in event_lines(response.iter_bytes()):
                field, _, data = line.partition(":")
                if field == "data" and data.strip() == "[DONE]":
                    return
                if field == "data":
                    yield _parsed_event(data, where)
        except self._errors as error:
            what = f"the answer broke off: {type(error).__name__}{f' ({error})' if str(error) else ''}"
            raise CodecriaError(what, where=where, mend="ask again") from error
        finally:
            response.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        where = f"{self.url}/{path}"
        return _parsed(self._response(method, where, body), where)

    def _response(self, method: str, where: str, body: dict[str, Any] | None, *, stream: bool = False) -> Any:
        """One that says success; with `stream` its body is still to be read."""
        what = ""
        for count in range(1, self._tries + 1):
            told = ""
            try:
                response = self._client.send(self._client.build_request(method, where, json=body), stream=stream)
                if not response.is_success:
                    response.read()
            except self._errors as error:
                what = f"no answer: {type(error).__name__}{f' ({error})' if str(error) else ''}"
            else:
                if response.is_success:
                    return response
                what = f"the server answers {response.status_code}: {said(response)}"
                if response.status_code not in _IN_PASSING:
                    raise CodecriaError(what, where=where, mend=self._mend(response.status_code))
                told = response.headers.get("Retry-After", "")
            if count < self._tries:
                time.sleep(self._pause(count, told))
        mend = "check that the server runs and is reached from here"
        raise CodecriaError(f"{what}; {self._tries} tries", where=where, mend=mend)

    def _pause(self, count: int, told: str) -> float:
        pause = self._pause_s * 2 ** (count - 1) * random.uniform(0.75, 1.25)  # so that clients do not return together
        return min(max(pause, float(told) if told.isdecimal() else 0.0), _LONGEST_PAUSE_S)

    def _mend(self, status: int) -> str | None:
        if status in (401, 403):
            return f"put the server's key into ${self._key_variable}"
        return "check the URL (it mostly ends in /v1) and the model's name" if status == 404 else None


def _parsed(response: Any, where: str) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise CodecriaError(f"the answer is no JSON object: {response.text[:200]!r}", where=where)
    return answer


def _parsed_event(data: str, where: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise CodecriaError(f"an event is no JSON object: {data[:200]!r}", where=where)
    return event


def said(response: Any) -> str:
    """The server's own words: OpenAI's error object, vLLM's older one, FastAPI's, or the body's beginning."""
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        error = answer.get("error")
        said = error.get("message") if isinstance(error, dict) else error
        said = said or answer.get("message") or answer.get("detail")
        if said:
            return str(said)[:500]
    return response.text[:200].strip() or "(nothing)"

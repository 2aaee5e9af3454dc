"""What several dialects do alike: many texts of one request, raw prompts, spellings of tokens, the state of health."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecria.serving import guard
from codecria.serving.markers import parse_markers
from codecria.serving.problems import BadRequest, Unauthorised, Unavailable
from codecria.serving.requests import Complete, Infill, Outcome, Piece, TextRequest
from codecria.tokenizer.chat import chats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from codecria.serving.requests import Ticket
    from codecria.serving.routes import Call
    from codecria.tokenizer.tokenizer import Tokenizer

_TABBY = "v0.9.0"
"""The Tabby that its agent is told of: it asks older ones not whether it may report to others, and newer ones for pages
of their own."""


def suffix_task(call: Call, prompt: str, suffix: str | None, heal: bool) -> Infill | None:
    """The middle before a suffix; None without one.

    Continue and minuet send an empty one at a document's end: a middle all the same where the model infills, and code,
    neither a layout nor something said in a chat.
    """
    if suffix or (suffix is not None and call.backend.sentinels is not None):
        return Infill(prompt, suffix, heal=heal)
    return None


def raw_task(call: Call, prompt: str, heal: bool) -> Complete | Infill:
    """What a raw prompt asks for: a middle where it is laid out with markers, else that it be gone on from."""
    return marked_task(call, prompt, heal) or Complete(prompt, heal)


def marked_task(call: Call, prompt: str, heal: bool) -> Infill | None:
    """The middle that a prompt with markers asks for; None for any other prompt, and where markers are only text."""
    understood = call.settings.markers_in_text and call.backend.sentinels is not None
    found = parse_markers(prompt) if understood else None
    return found and replace(found, heal=heal)


class Texts:
    """The tickets of one request's prompts, as a context.

    Raises:
        Problem: they are not taken; see `Call.submit`.
    """

    def __init__(self, call: Call, requests: Sequence[TextRequest]) -> None:
        self._call = call
        self._requests = requests
        self._stack = contextlib.AsyncExitStack()
        self.tickets: list[Ticket] = []

    async def __aenter__(self) -> Texts:
        most = self._call.settings.texts_per_request
        texts = sum(request.sampling.n for request in self._requests)
        if texts > most:
            raise BadRequest(f"{texts} texts in one request, and at most {most} may be asked for")
        try:
            for request in self._requests:
                self.tickets.append(await self._stack.enter_async_context(self._call.submit(request)))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def outcomes(self) -> list[Outcome]:
        """What the prompts have come to so far."""
        return [ticket.outcome for ticket in self.tickets]

    async def started(self) -> None:
        """Wait until something is written for the first prompt."""
        await self.tickets[0].started()

    async def finished(self) -> list[Outcome]:
        """Wait for all."""
        for ticket in self.tickets:
            await ticket.finished()
        self._call.done(*self.outcomes)
        return self.outcomes

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """Pieces as they come, each with its prompt's number."""
        if len(self.tickets) == 1:
            async for piece in self.tickets[0]:
                yield 0, piece
        else:
            async for numbered in self._mixed():
                yield numbered
        self._call.done(*self.outcomes)

    async def _mixed(self) -> AsyncIterator[tuple[int, Piece]]:
        arrived: asyncio.Queue[tuple[int, Piece] | None] = asyncio.Queue()

        async def pump(number: int, ticket: Ticket) -> None:
            try:
                async for piece in ticket:
                    arrived.put_nowait((number, piece))
            finally:
                arrived.put_nowait(None)

        tasks = [asyncio.create_task(pump(*each)) for each in enumerate(self.tickets)]
        try:
            left = len(tasks)
            while left:
                found = await arrived.get()
                if found is None:
                    left -= 1
                else:
                    yield found
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def spelled(tokenizer: Tokenizer, id: int) -> str:
    r"""A token as text; one that is only part of a character as `bytes:\xe2`, which is OpenAI's way."""
    data = tokenizer.token_bytes(id)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def health(call: Call) -> dict[str, Any]:
    """What llama.cpp's clients and Tabby's ask for; who has no key hears of the status alone.

    Raises:
        Unavailable: the model is being loaded, or the server stops.
    """
    name = call.backend.info.name
    if not call.backend.ready:
        raise Unavailable("the server stops", retry_s=5)
    try:
        guard.check_key(call.headers, call.settings)
    except Unauthorised:
        return {"status": "ok"}
    built = {"build_date": "", "build_timestamp": "", "git_sha": "", "git_describe": _TABBY}
    return {
        "status": "ok",
        "model": name,
        "chat_model": name if chats(call.backend.tokenizer) else None,
        "device": "cpu",
        "cuda_devices": [],
        "arch": platform.machine(),
        "cpu_info": _processor(),
        "cpu_count": os.cpu_count() or 1,
        "version": built,
    }


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())

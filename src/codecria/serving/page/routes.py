"""What the page asks for. Other interfaces do not tell the ids a prompt became, so it has routes of its own.

The requests behind them are the ones every other dialect makes: what the page shows is what an editor would get.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from codecria.generation.sampling import SamplingOptions
from codecria.serving.dialects.openai import chat_task
from codecria.serving.page.assets import asks_for_a_page, asset, page
from codecria.serving.requests import Complete, Infill, TextRequest
from codecria.serving.routes import Body, Call, Dialect, Reply, Route, Stream, sse
from codecria.serving.texts import Texts, spelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from codecria.serving.problems import Problem
    from codecria.serving.requests import Outcome
    from codecria.tokenizer.tokenizer import Tokenizer


class PageInfillBody(Body):
    """Text around the cursor."""

    prefix: str
    suffix: str = ""
    stop_at: Literal["end", "line", "block"] = "block"
    max_tokens: int = Field(64, ge=1, le=4096)


class PageChatBody(Body):
    """A conversation. The page asks without chance unless it is told otherwise, so that a text can be had again."""

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=4096)
    max_tokens: int = Field(512, ge=1, le=65536)
    temperature: float = Field(0.0, ge=0, le=100)


async def model(call: Call) -> Reply:
    """GET /page/model."""
    info = call.backend.info
    abilities = {
        "infills": call.backend.sentinels is not None,
        "chats": bool(call.backend.tokenizer.chat_template),
    }
    return Reply({"name": info.name, "context_tokens": info.max_positions, "parameters": info.parameters, **abilities})


async def infill(call: Call) -> Stream:
    """POST /page/infill. A model without markers goes on from the prefix, and the last event says so."""
    body = call.read(PageInfillBody)
    task = Complete(body.prefix)
    if call.backend.sentinels is not None:
        task = Infill(body.prefix, body.suffix, stop_at=body.stop_at)
    return _stream(call, TextRequest(task, SamplingOptions(max_tokens=body.max_tokens, temperature=0)))


async def chat(call: Call) -> Stream:
    """POST /page/chat."""
    body = call.read(PageChatBody)
    task = chat_task(body.messages)
    return _stream(call, TextRequest(task, SamplingOptions(max_tokens=body.max_tokens, temperature=body.temperature)))


def _stream(call: Call, request: TextRequest) -> Stream:
    return Stream(_frames(call, request, Texts(call, [request])))


async def _frames(call: Call, request: TextRequest, texts: Texts) -> AsyncIterator[bytes]:
    """Events: pieces of text, then one with all figures."""
    async with texts:
        await texts.started()
        steps = 0
        async for _, piece in texts.pieces():
            steps += piece.id is not None
            if piece.text:
                yield sse({"text": piece.text})
        yield sse({"figures": _figures(call.backend.tokenizer, request, texts.outcomes[0], steps)})


def _figures(tokenizer: Tokenizer, request: TextRequest, outcome: Outcome, steps: int) -> dict[str, Any]:
    """What a text took. The rate is that of the steps after the first, which is the reading of the prompt's."""
    sample = outcome.samples[0]
    seconds = outcome.ended_s - outcome.first_s
    return {
        "task": type(request.task).__name__.lower(),
        "prompt": _told(tokenizer, outcome.prompt_ids),
        "written": _told(tokenizer, (piece.id for piece in sample.pieces if piece.id is not None)),
        "cached_tokens": outcome.cached_tokens,
        "finish_reason": sample.finish_reason,
        "first_ms": 1000 * (outcome.first_s - outcome.asked_s) if outcome.first_s else None,
        "tokens_per_s": (steps - 1) / seconds if steps > 1 and seconds > 0 else None,
    }


def _told(tokenizer: Tokenizer, ids: Iterable[int]) -> list[tuple[int, str, bool]]:
    """Each id with its text and whether it is a special one, which adds no text to a document."""
    special = set(tokenizer.special_ids)
    return [(id, tokenizer.token_text(id) if id in special else spelled(tokenizer, id), id in special) for id in ids]


def _error(problem: Problem) -> dict[str, Any]:
    return {"error": {"code": problem.status, "message": str(problem), "type": problem.kind}}


PAGE = Dialect(
    "page",
    (
        Route("GET", "/", page, "The page, for browsers", public=True, claims=asks_for_a_page),
        Route("GET", "/page/model", model, "What the page tells of the model"),
        Route("GET", "/page/{version}/{name}", asset, "A file of the page", public=True),
        Route("POST", "/page/infill", infill, "A text at the cursor, with its prompt's ids", PageInfillBody),
        Route("POST", "/page/chat", chat, "An answer, with its prompt's ids", PageChatBody),
    ),
    _error,
)
"""Every server has it beside its dialects. Of two that have `/` it answers browsers."""

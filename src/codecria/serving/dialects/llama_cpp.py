"""llama.cpp's server: /infill as llama.vim and llama.vscode want it, /completion, and what they ask about the server.

Source: llama.cpp's tools/server (October 2026) and requests of both plugins. Where its /infill departs from what Code
Llama was trained with (a space before the suffix, prefix and prompt encoded apart, context before BOS, the wrong order
suffix first), this one does not.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import orjson

from codecria.serving.dialects.llama_cpp_answers import frames, reply, settings_told
from codecria.serving.dialects.llama_cpp_bodies import (
    ApplyTemplateBody,
    CompletionBody,
    DetokenizeBody,
    InfillBody,
    SamplingBody,
    TokenizeBody,
)
from codecria.serving.dialects.openai import chat_task, models
from codecria.serving.problems import TooLong, Unsupported
from codecria.serving.requests import Complete, Infill, TextRequest
from codecria.serving.routes import Call, Dialect, Reply, Route, Stream
from codecria.serving.texts import Texts, health, raw_task, spelled
from codecria.tokenizer.chat import render_chat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.serving.problems import Problem
    from codecria.tokenizer.tokenizer import Tokenizer


async def infill(call: Call) -> Reply | Stream:
    """POST /infill. `prompt` is the line left of the cursor: the prefix's end, and encoded as one text with it."""
    if call.backend.sentinels is None:
        what = "Infill is not supported by this model: its tokenizer has no infill markers"
        raise Unsupported(what, mend="serve one that `codecria models` marks as infilling")
    body = call.read(InfillBody)
    task = Infill(
        body.input_prefix + body.prompt,
        body.input_suffix,
        files=tuple((each.filename, each.text) for each in body.input_extra),
        indent=body.n_indent or None,
        heal=body.heal and not body.n_probs,
    )
    return await _answer(call, body, [task])


async def completion(call: Call) -> Reply | Stream:
    """POST /completion."""
    body = call.read(CompletionBody)
    heal = body.heal and not body.n_probs
    prompts = await asyncio.to_thread(body.prompts, call.backend.tokenizer, call.backend.info.max_positions)
    tasks = [raw_task(call, prompt, heal) if isinstance(prompt, str) else Complete(prompt) for prompt in prompts]
    return await _answer(call, body, tasks)


async def _answer(call: Call, body: SamplingBody, tasks: Sequence[Complete | Infill]) -> Reply | Stream:
    options = await asyncio.to_thread(body.sampling, call.backend.tokenizer, call.backend.info.max_positions)
    requests = [
        TextRequest(
            task,
            options,
            favour_end="infill" in (body.named_samplers or ()),
            prompt_ms=body.t_max_prompt_ms if body.t_max_prompt_ms > 0 else None,
            predict_ms=body.t_max_predict_ms if body.t_max_predict_ms > 0 else None,
        )
        for task in tasks
    ]
    texts = Texts(call, requests)
    if body.stream:
        return Stream(frames(call, body, options, texts))
    async with texts:
        return reply(call, body, options, await texts.finished())


async def props(call: Call) -> Reply:
    """GET /props."""
    info = call.backend.info
    defaults = SamplingBody.model_validate({})
    options = defaults.sampling(call.backend.tokenizer, info.max_positions)
    settings = {"id": 0, "n_ctx": info.max_positions, "params": settings_told(options, defaults, info.max_positions)}
    return Reply(
        {
            "default_generation_settings": settings,
            "total_slots": int(call.backend.counts().get("rows", 1)),
            "model_path": info.name,
            "model_alias": info.name,
            "chat_template": call.backend.tokenizer.chat_template or "",
            "build_info": f"codecria-{version('codecria')}",
            "is_sleeping": False,
        }
    )


async def slots(call: Call) -> Reply:
    """GET /slots. Texts are not tied to slots here: as many are busy as texts run."""
    counts = call.backend.counts()
    rows, running = int(counts.get("rows", 1)), int(counts.get("running", 0))
    positions = call.backend.info.max_positions
    return Reply([{"id": row, "n_ctx": positions, "is_processing": row < running} for row in range(rows)])


async def tokenize(call: Call) -> Reply:
    """POST /tokenize."""
    return Reply({"tokens": await asyncio.to_thread(_tokens, call.backend.tokenizer, call.read(TokenizeBody))})


def _tokens(tokenizer: Tokenizer, body: TokenizeBody) -> list[Any]:
    ids = [*(tokenizer.bos_ids if body.add_special else ()), *tokenizer.encode(body.content)]
    return [{"id": id, "piece": _piece(tokenizer, id)} for id in ids] if body.with_pieces else ids


def _piece(tokenizer: Tokenizer, id: int) -> str | list[int]:
    text = spelled(tokenizer, id)
    return list(tokenizer.token_bytes(id)) if text.startswith("bytes:") else text


async def detokenize(call: Call) -> Reply:
    """POST /detokenize."""
    body = call.read(DetokenizeBody)
    return Reply({"content": await asyncio.to_thread(call.backend.tokenizer.decode, body.tokens)})


async def apply_template(call: Call) -> Reply:
    """POST /apply-template."""
    messages = orjson.loads(chat_task(call.read(ApplyTemplateBody).messages).messages)
    return Reply({"prompt": await asyncio.to_thread(render_chat, call.backend.tokenizer, messages)})


async def healthy(call: Call) -> Reply:
    """GET /health and /v1/health: enough for llama.cpp's clients and for Tabby's."""
    return Reply(health(call))


async def metrics(call: Call) -> Reply:
    """GET /metrics."""
    return Reply(call.metrics.text(), media="text/plain; version=0.0.4; charset=utf-8")


def error(problem: Problem) -> dict[str, Any]:
    """The shape that llama.cpp's clients read."""
    told: dict[str, Any] = {"code": problem.status, "message": str(problem), "type": problem.kind}
    if isinstance(problem, TooLong):
        told |= {"n_prompt_tokens": problem.tokens, "n_ctx": problem.limit}
    return {"error": told}


DIALECT = Dialect(
    "llama.cpp",
    (
        Route("POST", "/infill", infill, "Infill between prefix and suffix", InfillBody),
        Route("POST", "/completion", completion, "Continue a prompt", CompletionBody),
        Route("POST", "/completions", completion, "Continue a prompt", CompletionBody),
        Route("GET", "/props", props, "The server's properties"),
        Route("GET", "/slots", slots, "What it works at"),
        Route("GET", "/models", models, "The model"),
        Route("POST", "/tokenize", tokenize, "Text to ids", TokenizeBody),
        Route("POST", "/detokenize", detokenize, "Ids to text", DetokenizeBody),
        Route("POST", "/apply-template", apply_template, "A conversation as one text", ApplyTemplateBody),
        Route("GET", "/health", healthy, "Whether it can be asked", public=True),
        # Not public: a Tabby agent without a valid key learns it here or never.
        Route("GET", "/v1/health", healthy, "Whether it can be asked"),
        Route("GET", "/metrics", metrics, "Numbers for Prometheus"),
    ),
    error,
)

"""Ollama's interface: generate with `suffix`, chat, and what its clients ask about models.

Source: Ollama's API reference and api/types.go (August 2026); what its Python and JavaScript clients, Continue, twinny,
llm-ls and vim-ollama read. The model named in a request is not looked at, for there is one.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from codecria.serving.dialects.ollama_answers import answer, as_message, as_response, frames, loaded, timestamp
from codecria.serving.dialects.ollama_bodies import GenerateBody, OllamaBody, OllamaChatBody, ShowBody
from codecria.serving.dialects.openai import chat_task
from codecria.serving.problems import BadRequest
from codecria.serving.requests import Chat, Complete, Infill, TextRequest
from codecria.serving.routes import NDJSON, Call, Dialect, Reply, Route, Stream
from codecria.serving.texts import Texts, marked_task, raw_task, suffix_task
from codecria.tokenizer.chat import encode_chat

if TYPE_CHECKING:
    from collections.abc import Callable

    from codecria.serving.problems import Problem

API_VERSION = "0.12.11"
"""The Ollama whose interface this is: clients ask for it, and refuse one that is too old for them."""

_LAYOUT = "<|fim_prefix|>{{ .Prompt }}<|fim_suffix|>{{ .Suffix }}<|fim_middle|>"
_TEMPLATE = f"{{{{ if .Suffix }}}}{_LAYOUT}{{{{ else }}}}{{{{ .Prompt }}}}{{{{ end }}}}"
_NEVER = "2318-12-31T23:59:59Z"


async def generate(call: Call) -> Reply | Stream:
    """POST /api/generate."""
    body = call.read(GenerateBody)
    body.check()
    if not body.prompt and not body.suffix:
        return Reply(loaded(call, as_response))
    # Ids of a conversation can be gone on from; those of a middle or of a raw prompt are nobody's conversation.
    with_context = not body.raw and body.suffix is None
    return await _answer(call, body, await _task(call, body), as_response, with_context)


async def _task(call: Call, body: GenerateBody) -> Complete | Infill | Chat:
    heal = not body.logprobs
    if body.suffix and call.backend.sentinels is None:
        raise BadRequest(f"{call.backend.info.name} does not support insert", where="suffix")
    if middle := suffix_task(call, body.prompt, body.suffix, heal):
        return middle
    if body.raw or body.template:
        return raw_task(call, body.filled_template() if body.template else body.prompt, heal)
    if body.context:
        return await asyncio.to_thread(_go_on, call, body)
    # llm-ls fills a template itself and does not say that its prompt is raw.
    found = marked_task(call, body.prompt, heal)
    if found is not None:
        return found
    if call.backend.tokenizer.chat_template is None:
        return raw_task(call, f"{body.system}\n\n{body.prompt}" if body.system else body.prompt, heal)
    return Chat(orjson.dumps(_messages(body)))


def _messages(body: GenerateBody) -> list[dict[str, Any]]:
    system = [{"role": "system", "content": body.system}] if body.system else []
    return [*system, {"role": "user", "content": body.prompt}]


def _go_on(call: Call, body: GenerateBody) -> Complete:
    """A prompt behind a conversation's ids: as the model's own template would put it where it has one."""
    tokenizer = call.backend.tokenizer
    if tokenizer.chat_template is None:
        return Complete((*body.context, *tokenizer.encode_infilling(body.prompt)))
    ids = encode_chat(tokenizer, _messages(body), add_generation_prompt=True).ids
    begun = len(tokenizer.bos_ids) if ids[: len(tokenizer.bos_ids)] == list(tokenizer.bos_ids) else 0
    return Complete((*body.context, *ids[begun:]))


async def chat(call: Call) -> Reply | Stream:
    """POST /api/chat."""
    body = call.read(OllamaChatBody)
    body.check()
    if not body.messages:
        return Reply(loaded(call, as_message))
    return await _answer(call, body, chat_task(body.messages), as_message, with_context=False)


async def _answer(
    call: Call,
    body: OllamaBody,
    task: Complete | Infill | Chat,
    wrap: Callable[[str], dict[str, Any]],
    with_context: bool,
) -> Reply | Stream:
    request = TextRequest(task, body.sampling(call.backend.info.max_positions))
    texts = Texts(call, [request])
    if body.stream:
        return Stream(frames(call, texts, wrap, with_context), NDJSON)
    async with texts:
        outcome, *_ = await texts.finished()
        return Reply(answer(call, outcome, wrap, with_context))


async def tags(call: Call) -> Reply:
    """GET /api/tags."""
    entry = _entry(call)
    return Reply({"models": [{**entry, "modified_at": timestamp(call.backend.info.created)}]})


async def running(call: Call) -> Reply:
    """GET /api/ps."""
    info = call.backend.info
    entry = {**_entry(call), "expires_at": _NEVER, "size_vram": 0, "context_length": info.max_positions}
    return Reply({"models": [entry]})


async def show(call: Call) -> Reply:
    """POST /api/show. Continue infills through `suffix` where the template has `.Suffix`."""
    call.read(ShowBody)
    info = call.backend.info
    return Reply(
        {
            "license": "",
            "modelfile": f"# served by codecria\nFROM {info.name}\n",
            "parameters": f"num_ctx {info.max_positions}",
            "template": "{{ .Prompt }}" if call.backend.sentinels is None else _TEMPLATE,
            "details": _details(call),
            "model_info": {
                "general.architecture": "llama",
                "general.basename": info.name,
                "general.parameter_count": info.parameters,
                "llama.context_length": info.max_positions,
                "llama.embedding_length": info.hidden_size,
                "llama.vocab_size": info.vocab_size,
            },
            "capabilities": _capabilities(call),
            "modified_at": timestamp(info.created),
        }
    )


async def api_version(_call: Call) -> Reply:
    """GET /api/version."""
    return Reply({"version": API_VERSION})


async def alive(_call: Call) -> Reply:
    """GET /, by which clients see whether there is a server."""
    return Reply("Ollama is running", media="text/plain")


def _entry(call: Call) -> dict[str, Any]:
    info = call.backend.info
    measures = orjson.dumps([info.name, info.max_positions, info.vocab_size, info.hidden_size, info.parameters])
    return {
        "name": info.name,
        "model": info.name,
        "size": info.weight_bytes,
        "digest": hashlib.sha256(measures).hexdigest(),
        "details": _details(call),
        "capabilities": _capabilities(call),
    }


def _details(call: Call) -> dict[str, Any]:
    info = call.backend.info
    bits = 8 * info.weight_bytes / info.parameters if info.parameters else 0
    millions = info.parameters / 1e6
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": f"{millions / 1000:.1f}B" if millions >= 1000 else f"{millions:.2f}M",
        "quantization_level": "F32" if bits > 24 else "F16" if bits > 12 else "Q8_0" if bits > 6 else "Q4_0",
    }


def _capabilities(call: Call) -> list[str]:
    return ["completion"] if call.backend.sentinels is None else ["completion", "insert"]


def _no_page(call: Call) -> bool:
    """Browsers ask for HTML, and Ollama's clients do not."""
    return "text/html" not in call.headers.get("accept", "")


def error(problem: Problem) -> dict[str, Any]:
    """The shape that Ollama's clients read."""
    return {"error": str(problem)}


DIALECT = Dialect(
    "Ollama",
    (
        Route(
            "POST", "/api/generate", generate, "Continue or answer a prompt, or infill before `suffix`", GenerateBody
        ),
        Route("POST", "/api/chat", chat, "Answer a conversation", OllamaChatBody),
        Route("POST", "/api/show", show, "What the model is and can", ShowBody),
        Route("GET", "/api/tags", tags, "The model, as a list"),
        Route("GET", "/api/ps", running, "The model that is loaded, as a list"),
        Route("GET", "/api/version", api_version, "The version of the interface"),
        Route("GET", "/", alive, "Whether there is a server", public=True, claims=_no_page),
    ),
    error,
)

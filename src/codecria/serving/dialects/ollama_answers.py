"""What Ollama's clients are sent: objects, one a line in a stream, with times in nanoseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from codecria.serving.routes import Call, ndjson
from codecria.serving.texts import Texts, spelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from codecria.serving.requests import Outcome, Piece


def as_response(text: str) -> dict[str, Any]:
    """A text as /api/generate has it."""
    return {"response": text}


def as_message(text: str) -> dict[str, Any]:
    """A text as /api/chat has it."""
    return {"message": {"role": "assistant", "content": text}}


def loaded(call: Call, wrap: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The answer to a request without a prompt, which only wants the model to be there."""
    return {**_head(call), **wrap(""), "done": True, "done_reason": "load"}


def answer(call: Call, outcome: Outcome, wrap: Callable[[str], dict[str, Any]], with_context: bool) -> dict[str, Any]:
    """A whole answer."""
    sample = outcome.samples[0]
    told = {**_head(call), **wrap(sample.text), **_logprobs(call, sample.pieces)}
    return {**told, **_ending(outcome, with_context)}


async def frames(
    call: Call, texts: Texts, wrap: Callable[[str], dict[str, Any]], with_context: bool
) -> AsyncIterator[bytes]:
    """Lines of a streamed answer; the last has no text, and says how the text has ended."""
    async with texts:
        await texts.started()
        async for _, piece in texts.pieces():
            logprobs = _logprobs(call, [] if piece.ends else [piece])
            if piece.text or logprobs:
                yield ndjson({**_head(call), **wrap(piece.text), "done": False, **logprobs})
        yield ndjson({**_head(call), **wrap(""), **_ending(texts.outcomes[0], with_context)})


def timestamp(seconds: float | None = None) -> str:
    """A time of day as Ollama writes it, by default now."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _head(call: Call) -> dict[str, Any]:
    return {"model": call.backend.info.name, "created_at": timestamp()}


def _ending(outcome: Outcome, with_context: bool) -> dict[str, Any]:
    sample = outcome.samples[0]
    ended = outcome.ended_s or outcome.first_s or outcome.asked_s
    begun = outcome.begun_s or outcome.asked_s
    first = outcome.first_s or ended
    told: dict[str, Any] = {
        "done": True,
        "done_reason": "length" if sample.finish_reason == "length" else "stop",
        "total_duration": _nanoseconds(ended - outcome.asked_s),
        "load_duration": _nanoseconds(begun - outcome.asked_s),
        "prompt_eval_count": outcome.prompt_tokens,
        "prompt_eval_duration": _nanoseconds(first - begun),
        "eval_count": outcome.written_tokens,
        "eval_duration": _nanoseconds(ended - first),
    }
    if with_context:
        told["context"] = [*outcome.prompt_ids, *(piece.id for piece in sample.pieces)]
    return told


def _logprobs(call: Call, pieces: Sequence[Piece]) -> dict[str, Any]:
    tokenizer = call.backend.tokenizer

    def entry(id: int, value: float) -> dict[str, Any]:
        return {"token": spelled(tokenizer, id), "logprob": value, "bytes": list(tokenizer.token_bytes(id))}

    known = [
        {**entry(piece.id, piece.log_probability), "top_logprobs": [entry(*each) for each in piece.best]}
        for piece in pieces
        if piece.id is not None and piece.log_probability is not None
    ]
    return {"logprobs": known} if known else {}


def _nanoseconds(seconds: float) -> int:
    return max(0, round(1e9 * seconds))

"""What OpenAI's clients are sent: objects, chunks, log-probabilities, usage."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from codecria.serving.routes import DONE, Call, sse
from codecria.serving.texts import Texts, spelled
from codecria.tokenizer.stream import StreamDecoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from codecria.serving.requests import Outcome, Piece
    from codecria.tokenizer.tokenizer import Tokenizer

Prompt = str | tuple[int, ...]


class CompletionForm(NamedTuple):
    """What a completion has beside its text.

    Attributes:
        echo: the prompt before it.
        ids: its tokens' ids, as vLLM tells them.
        tokens_as_ids: log-probabilities name tokens `token_id:N`, for not every token spells a text of its own.
    """

    echo: bool = False
    ids: bool = False
    tokens_as_ids: bool = False


def completion_answer(
    call: Call, outcomes: Sequence[Outcome], prompts: Sequence[Prompt], form: CompletionForm
) -> dict[str, Any]:
    """A whole `text_completion`; samples of the first prompt come first."""
    choices: list[dict[str, Any]] = []
    for outcome, prompt in zip(outcomes, prompts, strict=True):
        before = _prompt_text(call, prompt)
        for sample in outcome.samples:
            logprobs = _Offsets(call.backend.tokenizer, len(before), form.tokens_as_ids)
            choices.append(
                {
                    "text": before + sample.text if form.echo else sample.text,
                    "index": len(choices),
                    "logprobs": logprobs.told(sample.pieces),
                    "finish_reason": _reason(sample.finish_reason),
                    **_ids(form, sample.pieces),
                }
            )
    return {**_head(call, "cmpl", "text_completion"), "choices": choices, "usage": _usage(outcomes)}


async def completion_frames(
    call: Call, texts: Texts, prompts: Sequence[Prompt], form: CompletionForm, with_usage: bool
) -> AsyncIterator[bytes]:
    """Events of a streamed completion."""
    async with texts:
        await texts.started()
        head = _head(call, "cmpl", "text_completion") | ({"usage": None} if with_usage else {})
        samples = len(texts.outcomes[0].samples)
        before = [_prompt_text(call, prompt) for prompt in prompts]
        logprobs = [
            _Offsets(call.backend.tokenizer, len(before[at // samples]), form.tokens_as_ids)
            for at in range(samples * len(before))
        ]
        if form.echo:
            for at in range(len(logprobs)):
                choice = {"text": before[at // samples], "index": at, "logprobs": None, "finish_reason": None}
                yield sse({**head, "choices": [choice]})
        async for number, piece in texts.pieces():
            at = number * samples + piece.sample
            tokens = [] if piece.ends or piece.id is None else [piece]
            told = logprobs[at].told(tokens)
            if not (piece.text or told or piece.finish_reason or (form.ids and tokens)):
                continue
            reason = _reason(piece.finish_reason)
            choice = {"text": piece.text, "index": at, "logprobs": told, "finish_reason": reason, **_ids(form, tokens)}
            yield sse({**head, "choices": [choice]})
        if with_usage:
            yield sse({**head, "choices": [], "usage": _usage(texts.outcomes)})
        yield DONE


def chat_answer(call: Call, outcome: Outcome) -> dict[str, Any]:
    """A whole `chat.completion`."""
    tokenizer = call.backend.tokenizer
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": sample.text, "refusal": None},
            "logprobs": _chat_logprobs(tokenizer, sample.pieces),
            "finish_reason": _reason(sample.finish_reason),
        }
        for index, sample in enumerate(outcome.samples)
    ]
    return {**_head(call, "chatcmpl", "chat.completion"), "choices": choices, "usage": _usage([outcome])}


async def chat_frames(call: Call, texts: Texts, with_usage: bool) -> AsyncIterator[bytes]:
    """Events of a streamed answer: the role, then its text, then why it ended."""
    async with texts:
        await texts.started()
        head = _head(call, "chatcmpl", "chat.completion.chunk") | ({"usage": None} if with_usage else {})

        def chunk(index: int, delta: dict[str, Any], logprobs: Any = None, reason: str | None = None) -> bytes:
            choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
            return sse({**head, "choices": [choice]})

        for index in range(len(texts.outcomes[0].samples)):
            yield chunk(index, {"role": "assistant", "content": ""})
        async for _, piece in texts.pieces():
            told = _chat_logprobs(call.backend.tokenizer, [] if piece.ends else [piece])
            if piece.text or told:
                yield chunk(piece.sample, {"content": piece.text}, told)
            if piece.finish_reason:
                yield chunk(piece.sample, {}, None, _reason(piece.finish_reason))
        if with_usage:
            yield sse({**head, "choices": [], "usage": _usage(texts.outcomes)})
        yield DONE


class _Offsets:
    """Log-probabilities in the form of completions, which counts the characters that are whole before a token."""

    def __init__(self, tokenizer: Tokenizer, start: int, as_ids: bool) -> None:
        self._tokenizer = tokenizer
        self._decoder = StreamDecoder(tokenizer, infilling=True)
        self._as_ids = as_ids
        self._next = start

    def told(self, pieces: Sequence[Piece]) -> dict[str, Any] | None:
        """Of these tokens; None where they were not asked for."""
        known = [piece for piece in pieces if piece.id is not None and piece.log_probability is not None]
        if not known:
            return None
        tokens: list[str] = []
        offsets: list[int] = []
        tops: list[dict[str, float]] = []
        for piece in known:
            id = piece.id or 0
            tokens.append(self._name(id))
            offsets.append(self._next)
            self._next += len(self._decoder.push(id))
            tops.append({self._name(each): value for each, value in piece.best})
        values = [piece.log_probability for piece in known]
        return {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}

    def _name(self, id: int) -> str:
        return f"token_id:{id}" if self._as_ids else spelled(self._tokenizer, id)


def _ids(form: CompletionForm, pieces: Sequence[Piece]) -> dict[str, Any]:
    return {"token_ids": [piece.id for piece in pieces]} if form.ids else {}


def _chat_logprobs(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> dict[str, Any] | None:
    def entry(id: int, value: float) -> dict[str, Any]:
        return {"token": spelled(tokenizer, id), "logprob": value, "bytes": list(tokenizer.token_bytes(id))}

    known = [
        {**entry(piece.id, piece.log_probability), "top_logprobs": [entry(*each) for each in piece.best]}
        for piece in pieces
        if piece.id is not None and piece.log_probability is not None
    ]
    return {"content": known, "refusal": None} if known else None


def _head(call: Call, kind: str, name: str) -> dict[str, Any]:
    info = call.backend.info
    return {"id": f"{kind}-{uuid.uuid4().hex}", "object": name, "created": int(time.time()), "model": info.name}


def _usage(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    prompt = sum(each.prompt_tokens for each in outcomes)
    written = sum(each.written_tokens for each in outcomes)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": sum(each.cached_tokens for each in outcomes)},
    }


def _reason(reason: str | None) -> str | None:
    return "length" if reason == "length" else reason and "stop"


def _prompt_text(call: Call, prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else call.backend.tokenizer.decode_infilling(prompt)

"""What llama.cpp's clients are sent: the long object of a completion, its timings, the fields they pick of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from codecria.serving.routes import Call, Reply, sse
from codecria.serving.texts import Texts, spelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from codecria.generation.sampling import SamplingOptions
    from codecria.serving.dialects.llama_cpp_bodies import SamplingBody
    from codecria.serving.requests import Outcome, Piece, Sample

_ABSENT = object()


def reply(call: Call, body: SamplingBody, options: SamplingOptions, outcomes: Sequence[Outcome]) -> Reply:
    """One object; a list of them for several texts."""
    told: list[dict[str, Any]] = []
    for outcome in outcomes:
        for sample in outcome.samples:
            whole = _final(call, body, options, outcome, sample, len(told))
            told.append(picked(whole, body.response_fields) if body.response_fields else whole)
    return Reply(told[0] if len(told) == 1 else told)


async def frames(call: Call, body: SamplingBody, options: SamplingOptions, texts: Texts) -> AsyncIterator[bytes]:
    """Events of a stream; no `[DONE]` at its end."""
    async with texts:
        await texts.started()
        async for number, piece in texts.pieces():
            outcome = texts.outcomes[number]
            sample = outcome.samples[piece.sample]
            index = number * options.n + piece.sample
            if piece.text or (piece.log_probability is not None and not piece.ends):
                yield sse(_partial(call, body, outcome, sample, piece, index))
            if piece.finish_reason:
                last = _final(call, body, options, outcome, sample, index) | {"content": "", "tokens": []}
                yield sse(picked(last, body.response_fields) if body.response_fields else last)


def picked(whole: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Fields by their paths (`timings/prompt_n`), which become their names; those that are not there are left out."""
    found: dict[str, Any] = {}
    for path in paths:
        value: Any = whole
        for part in path.split("/"):
            value = cast("dict[str, Any]", value).get(part, _ABSENT) if isinstance(value, dict) else _ABSENT
        if value is not _ABSENT:
            found[path] = value
    return found


def settings_told(options: SamplingOptions, body: SamplingBody, max_positions: int) -> dict[str, Any]:
    """`generation_settings`. llama.vscode reads `n_ctx` of it."""
    return {
        "n_ctx": max_positions,
        "n_predict": body.n_predict,
        "max_tokens": body.n_predict,
        "seed": -1 if options.seed is None else options.seed,
        "temperature": options.temperature,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_p": options.min_p,
        "repeat_penalty": options.repetition_penalty,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "stop": list(options.stop),
        "n_probs": body.n_probs,
        "n_indent": body.n_indent,
        "t_max_prompt_ms": body.t_max_prompt_ms,
        "t_max_predict_ms": body.t_max_predict_ms,
        "ignore_eos": body.ignore_eos,
        "stream": body.stream,
        "samplers": body.named_samplers or ["penalties", "top_k", "top_p", "min_p", "temperature"],
    }


def _partial(
    call: Call, body: SamplingBody, outcome: Outcome, sample: Sample, piece: Piece, index: int
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "index": index,
        "content": piece.text,
        "tokens": [] if piece.id is None or piece.ends else [piece.id],
        "stop": False,
        "id_slot": max(body.id_slot, 0),
        "tokens_predicted": len(sample.pieces),
        "tokens_evaluated": outcome.prompt_tokens,
    }
    if body.n_probs:
        told["completion_probabilities"] = _probabilities(call, [] if piece.ends else [piece])
    return told


def _final(
    call: Call, body: SamplingBody, options: SamplingOptions, outcome: Outcome, sample: Sample, index: int
) -> dict[str, Any]:
    kind, word = _stop(call, options, sample)
    info = call.backend.info
    ids = [piece.id for piece in sample.pieces]
    told: dict[str, Any] = {
        "index": index,
        "content": sample.text,
        "tokens": ids if body.return_tokens else [],
        "id_slot": max(body.id_slot, 0),
        "stop": True,
        "model": info.name,
        "tokens_predicted": len(ids),
        "tokens_evaluated": outcome.prompt_tokens,
        "generation_settings": settings_told(options, body, info.max_positions),
        "prompt": call.backend.tokenizer.decode(outcome.prompt_ids),
        "has_new_line": "\n" in sample.text,
        "truncated": kind == "limit" and outcome.prompt_tokens + len(ids) >= info.max_positions,
        "stop_type": kind,
        "stopping_word": word,
        "tokens_cached": outcome.prompt_tokens + len(ids),
        "timings": _timings(outcome, len(ids)),
    }
    if body.n_probs:
        told["completion_probabilities"] = _probabilities(call, sample.pieces)
    return told


def _stop(call: Call, options: SamplingOptions, sample: Sample) -> tuple[str, str]:
    """Why a text ended, and the stop string it ended at. An end by indentation or time is a limit, as in llama.cpp."""
    if sample.finish_reason == "stop":
        return "eos", ""
    if sample.finish_reason == "stop-string":
        whole = call.backend.tokenizer.decode_infilling([piece.id or 0 for piece in sample.pieces])
        # In a document of CR LF the model writes line feeds alone, and stop strings are matched so.
        spelled = [(word, each) for word in options.stop for each in {word, word.replace("\r\n", "\n")}]
        found = [(whole.find(each) + len(each), word) for word, each in spelled if each in whole]
        if found:
            return "word", min(found)[1]
    return "limit", ""


def _timings(outcome: Outcome, predicted: int) -> dict[str, float]:
    """Milliseconds and rates. Never a division by nothing: clients format these as numbers."""
    first = outcome.first_s or outcome.begun_s
    prompt_ms = max(1000 * (first - (outcome.begun_s or first)), 1e-3)
    predicted_ms = max(1000 * ((outcome.ended_s or first) - first), 1e-3)
    read = outcome.prompt_tokens - outcome.cached_tokens
    return {
        "cache_n": outcome.cached_tokens,
        "prompt_n": read,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_ms / max(read, 1),
        "prompt_per_second": 1000 * read / prompt_ms,
        "predicted_n": predicted,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": predicted_ms / max(predicted, 1),
        "predicted_per_second": 1000 * predicted / predicted_ms,
    }


def _probabilities(call: Call, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    tokenizer = call.backend.tokenizer

    def entry(id: int, value: float) -> dict[str, Any]:
        data = tokenizer.token_bytes(id)
        return {"id": id, "token": spelled(tokenizer, id), "bytes": list(data), "logprob": value}

    return [
        {**entry(piece.id, piece.log_probability), "top_logprobs": [entry(*each) for each in piece.best]}
        for piece in pieces
        if piece.id is not None and piece.log_probability is not None
    ]

"""OpenAI's HTTP API as vLLM extends it: a request's body, and the texts of an answer, whole or streamed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from codecria.common.errors import CodecriaError
from codecria.generation.sequence import Completion
from codecria.generation.stopping import TextWatch, line_feeds
from codecria.tokenizer.stream import StreamDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codecria.generation.sampling import SamplingOptions
    from codecria.generation.sequence import FinishReason
    from codecria.generation.stopping import TextRule, TokenDecoder
    from codecria.tokenizer.tokenizer import Tokenizer

Dialect = Literal["vllm", "openai"]
"""`vllm` sends its fields beyond OpenAI's too: `top_k`, `min_p`, `min_tokens`, `stop_token_ids`, `return_token_ids`."""

COMPLETIONS = "completions"
CHAT = "chat/completions"


@dataclass(frozen=True)
class Request:
    """One text to be asked for.

    Attributes:
        path: below the URL.
        body: the request, without what all have.
        options: how the text is sampled.
        continues: whether the text goes on from one before it, so that a leading space is its own.
        rules: cut the text, as `CodeModel` would.
        returns: its line ends become CR LF behind the rules.
    """

    path: str
    body: dict[str, Any]
    options: SamplingOptions
    continues: bool = True
    rules: tuple[TextRule, ...] = field(default=())
    returns: bool = False


def request_body(request: Request, model: str, dialect: Dialect) -> dict[str, Any]:
    """What is sent to a server on which the model has this name."""
    options = request.options
    values: dict[str, Any] = {
        "model": model,
        **request.body,
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "n": options.n,
    }
    if options.seed is not None:
        values["seed"] = options.seed
    if options.stop:
        values["stop"] = [line_feeds(each) if request.returns else each for each in options.stop]
    for name in ("presence_penalty", "frequency_penalty"):
        if penalty := getattr(options, name):
            values[name] = penalty
    if options.logit_bias:
        values["logit_bias"] = {str(id): bias for id, bias in dict(options.logit_bias).items()}
    if options.logprobs:
        values["logprobs"] = True if request.path == CHAT else 0
    if dialect == "vllm":
        values |= {"top_k": options.top_k or -1, "min_p": options.min_p, "return_token_ids": True}
        values |= {"stop_token_ids": list(options.stop_ids), "repetition_penalty": options.repetition_penalty}
        if options.min_tokens:
            values["min_tokens"] = options.min_tokens
    return values


def read_choice(
    request: Request, choice: dict[str, Any], usage: dict[str, Any], tokenizer: Tokenizer | None
) -> Completion:
    """One sample of a whole answer."""
    ends = set(request.options.stop_ids)
    ids: list[int] = choice.get("token_ids") or []
    probabilities = _log_probabilities(choice) if request.options.logprobs else None
    if ids and ids[-1] in ends:
        ids = ids[:-1]
        probabilities = probabilities and probabilities[: len(ids)]
    reason: FinishReason = "length" if choice.get("finish_reason") == "length" else "stop"
    stopped_by = choice.get("stop_reason")
    if isinstance(stopped_by, str):
        reason = "stop-string"
    # The server's text is cut at stop strings; where none ended it, ours is exact to the space.
    text = choice.get("text") if request.path == COMPLETIONS else choice.get("message", {}).get("content")
    if ids and tokenizer is not None and reason != "stop-string" and request.path == COMPLETIONS:
        decode = tokenizer.decode_infilling if request.continues else tokenizer.decode
        text = decode(ids)
    text = (text or "").replace("\r", "") if request.returns else text or ""
    for rule in request.rules:
        cut = rule.cut(text)
        if cut < len(text) and rule.ends(text):
            reason = "stop-string"
        text = text[:cut]
    if request.returns:
        text = text.replace("\n", "\r\n")
    reused = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Completion(text, ids, reason, probabilities, usage.get("prompt_tokens", 0), reused, [])


def read_stream(
    request: Request, events: Iterable[dict[str, Any]], tokenizer: Tokenizer | None, where: str
) -> Iterator[str]:
    """A text piece by piece, as its events come; it ends where the request's rules end it, whatever follows.

    Where the events tell the ids and there is a tokenizer, they are decoded here, exact to the space.

    Raises:
        CodecriaError: an event tells of an error, or the events end before the text does.
    """
    ends = frozenset(request.options.stop_ids)
    told = _AsTold()
    watch: TextWatch | None = None
    by_ids = ended = False
    for event in events:
        if error := event.get("error"):
            said = error.get("message") if isinstance(error, dict) else error
            raise CodecriaError(f"the server broke off: {said}", where=where)
        for choice in event.get("choices") or ():
            text, ids = _delta(request, choice)
            if watch is None and (text or ids):
                by_ids = bool(ids) and tokenizer is not None and request.path == COMPLETIONS
                watch = _watch(request, StreamDecoder(tokenizer, request.continues) if by_ids and tokenizer else told)
            if watch is not None and by_ids:
                yield from _pieces(watch, [id for id in ids if id not in ends])
            elif watch is not None and text:
                told.text = text
                yield from _pieces(watch, [0])
            if watch is not None and watch.ended:
                return
            ended = ended or choice.get("finish_reason") is not None
    if not ended:
        raise CodecriaError("the server broke off before the text had ended", where=where, mend="ask again")
    if watch is not None and (last := watch.finish()):
        yield last


class _AsTold:
    """A decoder of text that came as text; the id means nothing."""

    text = ""

    def push(self, _id: int, /) -> str:
        return self.text

    def finish(self) -> str:
        return ""


def _watch(request: Request, decoder: TokenDecoder) -> TextWatch:
    return TextWatch(decoder, request.rules, request.options.stop, request.returns)


def _pieces(watch: TextWatch, ids: list[int]) -> Iterator[str]:
    for id in ids:
        if piece := watch.push(id):
            yield piece
        if watch.ended:
            return


def _delta(request: Request, choice: dict[str, Any]) -> tuple[str, list[int]]:
    """What an event adds; a server that does not stream tells the whole text as its only event."""
    ids: list[int] = choice.get("token_ids") or []
    if request.path == COMPLETIONS:
        return choice.get("text") or "", ids
    return (choice.get("delta") or choice.get("message") or {}).get("content") or "", ids


def _log_probabilities(choice: dict[str, Any]) -> list[float]:
    told = choice.get("logprobs") or {}
    if "token_logprobs" in told:
        return list(told["token_logprobs"])
    return [each["logprob"] for each in told.get("content") or []]

"""OpenAI's interface: completions with `suffix`, chat, models.

Source: OpenAI's API reference; what its Python and JavaScript clients read. `suffix` infills by token ids. Fields that
vLLM adds are understood too: `top_k`, `min_p`, `min_tokens`, `repetition_penalty`, `stop_token_ids`,
`return_token_ids`, `return_tokens_as_token_ids`. llama.vim and llama.vscode send llama.cpp's `n_predict` and a limit of
-1 here, and twinny Ollama's `options`. The model named in a request is not looked at, for there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import orjson
from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from codecria.generation.sampling import SamplingOptions
from codecria.serving.dialects.openai_answers import (
    CompletionForm,
    chat_answer,
    chat_frames,
    completion_answer,
    completion_frames,
)
from codecria.serving.problems import BadRequest, NotFound, TooLong
from codecria.serving.requests import Chat, Complete, Infill, TextRequest
from codecria.serving.routes import Body, Call, Dialect, Reply, Route, Stop, Stream
from codecria.serving.texts import Texts, raw_task, suffix_task

if TYPE_CHECKING:
    from codecria.serving.problems import Problem

_LEAST_TOP_P = 1e-6

Seed = Annotated[int, Field(ge=-(2**63), le=2**64 - 1)]
Tokens = Annotated[int, Field(ge=0, le=2**31)]
Limit = Annotated[int, Field(ge=-1, le=2**31)]
"""Tokens; -1 for as many as the context holds."""


def _unless_false(value: Any) -> Any:
    """A number, or the boolean that chats have: false is none, and not 0, which asks for the token's own alone."""
    return None if value is False else value


Best = Annotated[int | None, Field(ge=0, le=20), BeforeValidator(_unless_false)]


class StreamOptions(Body):
    """How a stream ends."""

    include_usage: bool = False


class SamplingBody(Body):
    """What completions and chat have in common."""

    model: str = ""
    temperature: float = Field(1.0, ge=0, le=100)
    top_p: float = Field(1.0, ge=0, le=1)
    top_k: int = Field(0, ge=-1, lt=2**31)
    min_p: float = Field(0.0, ge=0, le=1)
    n: int = Field(1, ge=1, le=1024)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    stop: Stop = Field(default_factory=list[str])
    seed: Seed | None = None
    presence_penalty: float = Field(0.0, ge=-100, le=100)
    frequency_penalty: float = Field(0.0, ge=-100, le=100)
    repetition_penalty: float = Field(1.0, gt=0, le=100)
    logit_bias: dict[int, float] = Field(default_factory=dict[int, float], max_length=1024)
    min_tokens: Tokens = 0
    stop_token_ids: list[int] = Field(default_factory=list[int], max_length=4096)

    def sampling(self, max_tokens: int, longest: int, best: int | None) -> SamplingOptions:
        """The options.

        Args:
            max_tokens: the limit; -1 for `longest`.
            longest: as many tokens as the context holds.
            best: how many log-probabilities a token is told with; None for none.
        """
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        return SamplingOptions(
            max_tokens=longest if max_tokens < 0 else max_tokens,
            min_tokens=self.min_tokens,
            stop_ids=tuple(sorted(set(self.stop_token_ids))),
            temperature=self.temperature,
            top_p=max(self.top_p, _LEAST_TOP_P),
            top_k=max(self.top_k, 0),
            min_p=self.min_p,
            seed=self.seed,
            stop=tuple(each for each in stop if each),
            n=self.n,
            logprobs=best is not None,
            top_logprobs=best or 0,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias,
        )


class CompletionBody(SamplingBody):
    """Of /v1/completions."""

    prompt: str | list[int] | list[str] | list[list[int]] = ""
    suffix: str | None = None
    max_tokens: Limit = Field(16, validation_alias=AliasChoices("max_tokens", "n_predict", "num_predict"))
    logprobs: Best = None
    echo: bool = False
    best_of: int | None = Field(None, ge=1)
    heal: bool = True
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False

    @model_validator(mode="before")
    @classmethod
    def _with_options(cls, values: Any) -> Any:
        options = cast("dict[str, Any]", values).get("options") if isinstance(values, dict) else None
        return {**cast("dict[str, Any]", options), **values} if isinstance(options, dict) else values

    @property
    def form(self) -> CompletionForm:
        """What an answer shall have."""
        return CompletionForm(self.echo, self.return_token_ids, self.return_tokens_as_token_ids)

    def prompts(self) -> list[str | tuple[int, ...]]:
        """The prompts, one by one."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if not self.prompt:
            raise BadRequest("there is no prompt", where="prompt")
        if isinstance(self.prompt[0], int):
            return [tuple(cast("list[int]", self.prompt))]
        several = cast("list[str] | list[list[int]]", self.prompt)
        return [each if isinstance(each, str) else tuple(each) for each in several]


class ChatBody(SamplingBody):
    """Of /v1/chat/completions."""

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=4096)
    max_tokens: Limit = Field(-1, validation_alias=AliasChoices("max_completion_tokens", "max_tokens", "n_predict"))
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    tools: list[Any] = Field(default_factory=list[Any])
    response_format: dict[str, Any] = Field(default_factory=dict[str, Any])


async def complete(call: Call) -> Reply | Stream:
    """POST /v1/completions."""
    body = call.read(CompletionBody)
    if body.best_of not in (None, body.n):
        raise BadRequest(f"best_of is {body.best_of} and n is {body.n}", where="best_of", mend="leave it out")
    if body.echo and body.logprobs is not None:
        raise BadRequest("log-probabilities of the prompt are not computed", where="echo", mend="leave it out")
    sampling = body.sampling(body.max_tokens, call.backend.info.max_positions, body.logprobs)
    requests = [TextRequest(_task(call, body, prompt), sampling) for prompt in body.prompts()]
    texts = Texts(call, requests)
    if body.stream:
        return Stream(completion_frames(call, texts, body.prompts(), body.form, body.stream_options.include_usage))
    async with texts:
        await texts.finished()
        return Reply(completion_answer(call, texts.outcomes, body.prompts(), body.form))


def _task(call: Call, body: CompletionBody, prompt: str | tuple[int, ...]) -> Complete | Infill:
    # A healed token's own text was in the prompt in part: where tokens are told of, nothing is healed.
    heal = body.heal and body.logprobs is None
    if body.suffix and not isinstance(prompt, str):
        raise BadRequest("a prompt of ids has no suffix", where="suffix", mend="send the prompt as text")
    if not isinstance(prompt, str):
        return Complete(prompt)
    return suffix_task(call, prompt, body.suffix, heal) or raw_task(call, prompt, heal)


async def chat(call: Call) -> Reply | Stream:
    """POST /v1/chat/completions."""
    body = call.read(ChatBody)
    if body.tools:
        raise BadRequest("tools are not supported", where="tools", mend="leave them out")
    if body.response_format.get("type", "text") != "text":
        raise BadRequest("only text is supported", where="response_format", mend="leave it out")
    best = body.top_logprobs if body.logprobs else None
    sampling = body.sampling(body.max_tokens, call.backend.info.max_positions, best)
    texts = Texts(call, [TextRequest(chat_task(body.messages), sampling)])
    if body.stream:
        return Stream(chat_frames(call, texts, body.stream_options.include_usage))
    async with texts:
        await texts.finished()
        return Reply(chat_answer(call, texts.outcomes[0]))


def chat_task(messages: list[dict[str, Any]]) -> Chat:
    """A conversation whose contents are text: parts are joined, and what is no text is refused.

    Raises:
        BadRequest: a part is an image, a sound or a file, or a field has more levels than orjson writes (254).
    """
    plain = [{**each, "content": _text(place, each.get("content"))} for place, each in enumerate(messages)]
    try:
        return Chat(orjson.dumps(plain))
    except orjson.JSONEncodeError:
        raise BadRequest("a field is nested too deep", where="messages", mend="leave it out") from None


def _text(place: int, content: Any) -> str:
    where = f"messages[{place}].content"
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise BadRequest(f"a {type(content).__name__}, not text", where=where)
    texts: list[str] = []
    for part in cast("list[Any]", content):
        fields = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
        if fields.get("type") not in ("text", "input_text") or not isinstance(fields.get("text"), str):
            raise BadRequest("a part that is no text", where=where, mend="this model reads text alone")
        texts.append(fields["text"])
    return "".join(texts)


def model_entry(call: Call) -> dict[str, Any]:
    """The model as OpenAI's clients and llama.vscode read it; the latter looks for `llamacpp` and `meta`."""
    info = call.backend.info
    meta = {
        "n_vocab": info.vocab_size,
        "n_ctx_train": info.max_positions,
        "n_embd": info.hidden_size,
        "n_params": info.parameters,
        "size": info.weight_bytes,
    }
    entry = {"id": info.name, "object": "model", "created": info.created, "owned_by": "llamacpp"}
    return {**entry, "max_model_len": info.max_positions, "meta": meta}


async def models(call: Call) -> Reply:
    """GET /v1/models."""
    return Reply({"object": "list", "data": [model_entry(call)]})


async def model(call: Call) -> Reply:
    """GET /v1/models/ID. The id is compared, nothing else."""
    entry = model_entry(call)
    if call.path["id"] != entry["id"]:
        raise NotFound("there is no such model here", mend="see /v1/models")
    return Reply(entry)


_CODES: dict[int, Literal["invalid_api_key", "model_not_found", "rate_limit_exceeded"]] = {
    401: "invalid_api_key",
    404: "model_not_found",
    429: "rate_limit_exceeded",
}


def error(problem: Problem) -> dict[str, Any]:
    """The shape that OpenAI's clients read."""
    code = "context_length_exceeded" if isinstance(problem, TooLong) else _CODES.get(problem.status)
    told = {"message": str(problem), "type": problem.kind, "param": problem.where, "code": code}
    # `detail` is what llm-ls reads, which knows no other error of this interface.
    detail = {"loc": [problem.where or ""], "msg": str(problem), "type": problem.kind}
    return {"error": told, "detail": [detail]}


DIALECT = Dialect(
    "OpenAI",
    (
        Route("POST", "/v1/completions", complete, "Continue a text, or infill before `suffix`", CompletionBody),
        Route("POST", "/v1/chat/completions", chat, "Answer a conversation", ChatBody),
        Route("GET", "/v1/models", models, "The model"),
        Route("GET", "/v1/models/{id:path}", model, "The model, by its name"),
    ),
    error,
)

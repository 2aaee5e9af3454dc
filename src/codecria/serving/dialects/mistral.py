"""Mistral's interface for middles, as Continue's and minuet's providers for Codestral ask.

Source: Mistral's API reference of /v1/fim/completions; what both plugins read: answers have the shape of OpenAI's chat.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, Field

from codecria.generation.sampling import SamplingOptions
from codecria.serving.dialects.openai import Seed, Tokens, error
from codecria.serving.dialects.openai_answers import chat_answer, chat_frames
from codecria.serving.requests import Complete, Infill, TextRequest
from codecria.serving.routes import Body, Call, Dialect, Reply, Route, Stop, Stream
from codecria.serving.texts import Texts, suffix_task

_LEAST_TOP_P = 1e-6
_TEMPERATURE = 0.2


class FimBody(Body):
    """Of /v1/fim/completions."""

    model: str = ""
    prompt: str
    suffix: str | None = None
    max_tokens: Tokens | None = None
    min_tokens: Tokens = 0
    temperature: float = Field(_TEMPERATURE, ge=0, le=100)
    top_p: float = Field(1.0, ge=0, le=1)
    random_seed: Annotated[Seed | None, Field(validation_alias=AliasChoices("random_seed", "seed"))] = None
    stop: Stop = Field(default_factory=list[str])
    stream: bool = False

    def sampling(self, longest: int) -> SamplingOptions:
        """The options; a text without a limit may have `longest` tokens."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        return SamplingOptions(
            max_tokens=longest if self.max_tokens is None else self.max_tokens,
            min_tokens=self.min_tokens,
            temperature=self.temperature,
            top_p=max(self.top_p, _LEAST_TOP_P),
            seed=self.random_seed,
            stop=tuple(each for each in stop if each),
        )


async def fim(call: Call) -> Reply | Stream:
    """POST /v1/fim/completions."""
    body = call.read(FimBody)
    texts = Texts(call, [TextRequest(_task(call, body), body.sampling(call.backend.info.max_positions))])
    if body.stream:
        return Stream(chat_frames(call, texts, with_usage=False))
    async with texts:
        outcome, *_ = await texts.finished()
        return Reply(chat_answer(call, outcome))


def _task(call: Call, body: FimBody) -> Complete | Infill:
    # Without a suffix there is nothing to infill before: the API's own word is "a completion" then.
    return suffix_task(call, body.prompt, body.suffix, heal=True) or Complete(body.prompt, heal=True)


DIALECT = Dialect(
    "Mistral",
    (
        Route("POST", "/v1/fim/completions", fim, "Infill between prompt and suffix", FimBody),
        Route("POST", "/fim/completions", fim, "Infill between prompt and suffix", FimBody),
    ),
    error,
)

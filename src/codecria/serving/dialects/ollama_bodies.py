"""What Ollama's clients send."""

from __future__ import annotations

import re
from typing import Any

from pydantic import AliasChoices, Field

from codecria.generation.sampling import SamplingOptions
from codecria.serving.problems import BadRequest
from codecria.serving.routes import Body, Count, Number, Stop

_LEAST_TOP_P = 1e-6
# Each looks at a character a few times at most, whatever a caller sends.
_ACTION = re.compile(r"{{-?((?:(?!{{|}}).)*?)-?}}", re.DOTALL)
_LEFT_TRIMMED = re.compile(r"(?<!\s)\s*+{{-")
_RIGHT_TRIMMED = re.compile(r"-}}\s*")
_FIELDS = {".Prompt": "prompt", ".System": "system", ".Suffix": "suffix", ".Response": ""}


class OllamaOptions(Body):
    """How a text is sampled; Ollama's own defaults, but for its penalty of repetitions, which code cannot do with."""

    num_predict: Count = -1
    temperature: Number = 0.8
    top_k: Count = 40
    top_p: Number = 0.9
    min_p: Number = 0.0
    repeat_penalty: float = Field(1.0, ge=0, le=100)
    presence_penalty: Number = 0.0
    frequency_penalty: Number = 0.0
    seed: int = Field(-1, ge=-(2**63), le=2**64 - 1)
    stop: Stop = Field(default_factory=list[str])


class OllamaBody(Body):
    """What /api/generate and /api/chat have in common. `keep_alive` changes nothing: the model stays."""

    model: str = ""
    stream: bool = True
    format: str | dict[str, Any] = ""
    options: OllamaOptions = OllamaOptions.model_validate({})
    think: bool | str = False
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)

    def sampling(self, longest: int) -> SamplingOptions:
        """The options; a text without a limit may have `longest` tokens.

        Raises:
            BadRequest: JSON or thinking is asked for.
        """
        if self.format:
            raise BadRequest("formats are not supported", where="format", mend="leave it out")
        if self.think:
            raise BadRequest("the model does not support thinking", where="think", mend="leave it out")
        asked = self.options
        stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop
        return SamplingOptions(
            max_tokens=longest if asked.num_predict < 0 else asked.num_predict,
            temperature=max(asked.temperature, 0.0),
            top_k=max(asked.top_k, 0),
            top_p=min(max(asked.top_p, _LEAST_TOP_P), 1.0),
            min_p=min(max(asked.min_p, 0.0), 1.0),
            seed=None if asked.seed < 0 else asked.seed,
            stop=tuple(each for each in stop if each),
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs if self.logprobs else 0,
            repetition_penalty=asked.repeat_penalty or 1.0,
            presence_penalty=asked.presence_penalty,
            frequency_penalty=asked.frequency_penalty,
        )


class GenerateBody(OllamaBody):
    """Of /api/generate."""

    prompt: str = ""
    suffix: str | None = None
    system: str = ""
    template: str = ""
    raw: bool = False
    context: list[int] = Field(default_factory=list[int])
    images: list[Any] = Field(default_factory=list[Any])

    def check(self) -> None:
        """Refuse what does not go together, and pictures.

        Raises:
            BadRequest: there is such.
        """
        if self.images:
            raise BadRequest("the model reads text alone", where="images", mend="leave them out")
        if self.raw and (self.template or self.system or self.context):
            raise BadRequest("raw mode does not support template, system, or context", where="raw")

    def filled_template(self) -> str:
        """The template of the request with its fields put in.

        Only fields are understood, of all that Go's templates can do; a client that brings its own writes little more.

        Raises:
            BadRequest: the template has something else.
        """
        text = _RIGHT_TRIMMED.sub("}}", _LEFT_TRIMMED.sub("{{", self.template))

        def put(action: re.Match[str]) -> str:
            name = action.group(1).strip()
            if name not in _FIELDS:
                told = f"'{name[:40]}' is not understood; only {', '.join(_FIELDS)} are"
                raise BadRequest(told, where="template", mend="send the filled prompt with raw")
            return (getattr(self, _FIELDS[name]) or "") if _FIELDS[name] else ""

        return _ACTION.sub(put, text)


class OllamaChatBody(OllamaBody):
    """Of /api/chat."""

    messages: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]], max_length=4096)
    tools: list[Any] = Field(default_factory=list[Any])

    def check(self) -> None:
        """Refuse tools and pictures.

        Raises:
            BadRequest: there are such.
        """
        if self.tools:
            raise BadRequest("the model does not support tools", where="tools", mend="leave them out")
        if any(message.get("images") for message in self.messages):
            raise BadRequest("the model reads text alone", where="messages", mend="leave images out")


class ShowBody(Body):
    """Of /api/show. The name is not looked at: there is one model."""

    model: str = Field("", validation_alias=AliasChoices("model", "name"))
    verbose: bool = False

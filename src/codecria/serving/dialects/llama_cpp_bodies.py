"""What llama.cpp's clients send."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, Field

from codecria.generation.sampling import SamplingOptions
from codecria.serving.prepare import refuse_endless
from codecria.serving.problems import BadRequest, Unsupported
from codecria.serving.routes import Body, Count, Number, Stop

if TYPE_CHECKING:
    from codecria.tokenizer.tokenizer import Tokenizer

_RANDOM_SEEDS = (-1, 2**32 - 1)
_SAMPLERS = {"k": "top_k", "p": "top_p", "m": "min_p", "t": "temperature", "i": "infill", "e": "penalties"}
"""Letters that name samplers in a string."""
_ID = re.compile(r"-?[0-9]{1,10}")


class SamplingBody(Body):
    """What /infill and /completion have in common.

    Samplers act in one order whatever order they are named in; those that are not known here are left out.
    """

    n_predict: Count = Field(-1, validation_alias=AliasChoices("n_predict", "max_tokens", "max_completion_tokens"))
    n_cmpl: int = Field(1, ge=1, le=16, validation_alias=AliasChoices("n_cmpl", "n"))
    temperature: Number = 0.8
    top_k: Count = 40
    top_p: Number = 0.95
    min_p: Number = 0.05
    repeat_penalty: float = Field(1.0, ge=0, le=100)
    presence_penalty: Number = 0.0
    frequency_penalty: Number = 0.0
    seed: int = Field(-1, ge=-(2**63), le=2**64 - 1)
    stop: Stop = Field(default_factory=list[str])
    stream: bool = False
    cache_prompt: bool = True
    id_slot: Count = -1
    n_probs: int = Field(0, ge=0, le=100)
    n_indent: int = Field(0, ge=0, le=10_000)
    t_max_prompt_ms: Number = -1
    t_max_predict_ms: Number = -1
    samplers: str | list[str] | None = None
    logit_bias: list[tuple[int | str, float | bool]] | dict[str, float | bool] = Field(
        default_factory=list[tuple[int | str, float | bool]], max_length=1024
    )
    ignore_eos: bool = False
    return_tokens: bool = False
    response_fields: list[str] | None = Field(None, max_length=256)
    grammar: str | dict[str, Any] = ""
    json_schema: Any = None
    heal: bool = True

    @property
    def named_samplers(self) -> list[str] | None:
        """Names of the samplers asked for; None for llama.cpp's own, which are all but `infill`."""
        if isinstance(self.samplers, str):
            return [_SAMPLERS[letter] for letter in self.samplers if letter in _SAMPLERS]
        return self.samplers

    def sampling(self, tokenizer: Tokenizer, longest: int) -> SamplingOptions:
        """The options; a text without a limit may have `longest` tokens.

        Raises:
            Unsupported: a grammar is asked for.
            CodecriaError: an option is out of range.
        """
        if self.grammar or self.json_schema is not None:
            raise Unsupported("grammars and JSON schemas are not supported", mend="leave them out")
        named = self.named_samplers

        def on(name: str) -> bool:
            return named is None or name in named

        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        top_p = self.top_p if on("top_p") and 0 <= self.top_p < 1 else 1.0
        return SamplingOptions(
            max_tokens=longest if self.n_predict < 0 else self.n_predict,
            temperature=max(self.temperature, 0.0) if on("temperature") or self.temperature <= 0 else 1.0,
            top_k=max(self.top_k, 0) if on("top_k") else 0,
            top_p=max(top_p, 1e-6),
            min_p=min(max(self.min_p, 0.0), 1.0) if on("min_p") else 0.0,
            seed=None if self.seed in _RANDOM_SEEDS else self.seed,
            stop=tuple(each for each in stop if each),
            n=self.n_cmpl,
            logprobs=self.n_probs > 0,
            top_logprobs=self.n_probs,
            repetition_penalty=(self.repeat_penalty or 1.0) if on("penalties") else 1.0,
            presence_penalty=self.presence_penalty if on("penalties") else 0.0,
            frequency_penalty=self.frequency_penalty if on("penalties") else 0.0,
            logit_bias=self._biases(tokenizer),
        )

    def _biases(self, tokenizer: Tokenizer) -> dict[int, float]:
        biases = dict.fromkeys(tokenizer.special_ids, float("-inf")) if self.ignore_eos else {}
        pairs = self.logit_bias.items() if isinstance(self.logit_bias, dict) else self.logit_bias
        for token, bias in pairs:
            value = float("-inf") if bias is False else float(bias)
            is_id = isinstance(token, int) or bool(_ID.fullmatch(token))
            for id in [int(token)] if is_id else tokenizer.encode_infilling(str(token)):
                biases[id] = value
        return biases


class ExtraFile(Body):
    """A piece of another file."""

    text: str
    filename: str = "untitled"


class InfillBody(SamplingBody):
    """Of /infill."""

    input_prefix: str
    input_suffix: str
    input_extra: list[ExtraFile] = Field(default_factory=list[ExtraFile], max_length=1024)
    prompt: str = ""


class CompletionBody(SamplingBody):
    """Of /completion. A prompt is text, ids, or both in turn; a list of such is several prompts."""

    prompt: str | list[int | str | list[int | str]]

    def prompts(self, tokenizer: Tokenizer, longest: int) -> list[str | tuple[int, ...]]:
        """The prompts, one by one.

        Raises:
            BadRequest: one is empty, or cannot have as few as `longest` tokens.
        """
        if isinstance(self.prompt, str):
            return [self.prompt]
        parts = self.prompt
        if not parts or any(isinstance(part, int) for part in parts):
            return [_mixed(tokenizer, parts, longest)]
        return [part if isinstance(part, str) else _mixed(tokenizer, _parts(part), longest) for part in parts]


def _parts(part: Any) -> list[Any]:
    return part if isinstance(part, list) else [part]


def _mixed(tokenizer: Tokenizer, parts: list[Any], longest: int) -> tuple[int, ...]:
    refuse_endless(longest, sum(len(part) for part in parts if isinstance(part, str)))
    ids: list[int] = []
    for place, part in enumerate(parts):
        if isinstance(part, int):
            ids.append(part)
        elif isinstance(part, str):
            ids += tokenizer.encode_infilling(part) if place else [*tokenizer.bos_ids, *tokenizer.encode(part)]
        else:
            raise BadRequest("neither text nor ids", where="prompt")
    if not ids:
        raise BadRequest("it is empty", where="prompt")
    return tuple(ids)


class TokenizeBody(Body):
    """Of /tokenize. Special tokens are never made of text, whatever `parse_special` says."""

    content: str = ""
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


class DetokenizeBody(Body):
    """Of /detokenize."""

    tokens: list[int] = Field(default_factory=list[int])


class ApplyTemplateBody(Body):
    """Of /apply-template."""

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=4096)

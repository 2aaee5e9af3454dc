r"""The same texts from a server that speaks OpenAI's HTTP API, such as vLLM on a cluster.

    with Endpoint("http://cluster:8000/v1", "codellama/CodeLlama-7b-hf", tokenizer="checkpoints/CodeLlama-7b") as model:
        model.infill_many([("def add(a, b):\n    return ", "\n")], n=16, temperature=0.8)

With a tokenizer, prompts to be completed or infilled go as token ids that `infill/` made, and what the server gives
back as ids is decoded here. Without one, text is sent, and infilling goes by the field `suffix`. vLLM refuses that
field and llama.cpp's server ignores it silently; Ollama knows it. `Endpoint.infills_by` says which way is taken.

A server cannot be told which token may come first, so nothing is healed; in PSM nothing needs to be.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from codecria.common.errors import CodecriaError
from codecria.generation.http import Server
from codecria.generation.middle import ending_rules, of_sampling, plan_middle
from codecria.generation.sampling import SamplingOptions
from codecria.generation.sequence import Completion
from codecria.tokenizer.sentinels import find_sentinels
from codecria.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Unpack

    from codecria.generation.middle import CompleteOptions, InfillOptions, Options
    from codecria.generation.sequence import FinishReason
    from codecria.generation.stopping import TextRule

Dialect = Literal["vllm", "openai"]
"""`vllm` sends its fields beyond OpenAI's too: `top_k`, `min_p`, `stop_token_ids`, `return_token_ids`."""

_COMPLETIONS = "completions"
_CHAT = "chat/completions"


@dataclass(frozen=True)
class _Request:
    """One text to be asked for.

    Attributes:
        path: below the URL.
        body: the request, without what all have.
        options: how the text is sampled.
        continues: whether the text goes on from one before it, so that a leading space is its own.
        rules: cut the text, as `CodeModel` would.
        returns: its line ends become CR LF.
    """

    path: str
    body: dict[str, Any]
    options: SamplingOptions
    continues: bool = True
    rules: tuple[TextRule, ...] = field(default=())
    returns: bool = False


class Endpoint:
    """A model behind an OpenAI-compatible server. May be used from several threads; a context manager.

    Every input is a request of its own. One that fails in passing (429, 5xx, a lost connection) is sent again after a
    pause, alone: what came already is kept.

    Args:
        url: up to and with the version, such as `http://localhost:8000/v1`.
        model: the model's name on the server.
        tokenizer: the model's, as a folder or a name that `codecria models` lists; None sends text.
        dialect: which fields the server knows.
        key_variable: the environment variable that holds the key, if there is one.
        max_positions: tokens that the context holds; asked of the server (vLLM tells) where not given.
        concurrency: requests under way at once.
        timeout_s: longest wait for one answer.
        tries: how often a request is sent before giving up.
        pause_s: before the second try; it doubles with each.

    Raises:
        CodecriaError: httpx is not installed, or the tokenizer cannot be read.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        tokenizer: str | Path | None = None,
        dialect: Dialect = "vllm",
        key_variable: str = "OPENAI_API_KEY",
        max_positions: int | None = None,
        concurrency: int = 32,
        timeout_s: float = 600.0,
        tries: int = 6,
        pause_s: float = 0.5,
    ) -> None:
        self.name = model
        self.dialect: Dialect = dialect
        self.tokenizer = None if tokenizer is None else _read_tokenizer(tokenizer)
        self.sentinels = None if self.tokenizer is None else find_sentinels(self.tokenizer)
        self._positions = max_positions
        self._concurrency = concurrency
        self._server = Server(url, key_variable, concurrency, timeout_s, tries, pause_s)

    @property
    def infills_by(self) -> Literal["ids", "suffix"]:
        """Whether infilling sends ids made here, or leaves the layout to the server's `suffix`."""
        return "suffix" if self.sentinels is None else "ids"

    @property
    def max_positions(self) -> int:
        """Tokens that the context holds.

        Raises:
            CodecriaError: the server does not say.
        """
        if self._positions is not None:
            return self._positions
        listed = self._server.get("models").get("data", [])
        stated = next((each.get("max_model_len") for each in listed if each.get("id") == self.name), None)
        if not isinstance(stated, int):
            names = ", ".join(str(each.get("id")) for each in listed)
            what = f"the server does not say how long the context of '{self.name}' is (it lists: {names or 'nothing'})"
            raise CodecriaError(what, where=self._server.url, mend="give max_positions")
        self._positions = stated
        return stated

    def complete_many(self, prompts: Sequence[str], **options: Unpack[CompleteOptions]) -> list[list[Completion]]:
        """Continue texts. `heal` is not heeded."""
        options.pop("heal", None)
        sampling = self._sampling(cast("Options", options))
        requests: list[_Request] = []
        for prompt in prompts:
            tokenizer = self.tokenizer
            sent = prompt if tokenizer is None else [*tokenizer.bos_ids, *tokenizer.encode(prompt)]
            requests.append(_Request(_COMPLETIONS, {"prompt": sent}, sampling, continues=bool(prompt)))
        return self._ask_all(requests)

    def infill_many(self, pairs: Sequence[tuple[str, str]], **options: Unpack[InfillOptions]) -> list[list[Completion]]:
        """Write what stands between each prefix and suffix. `heal` is not heeded.

        Raises:
            CodecriaError: also where the tokenizer given has no infill markers, or not this order.
        """
        return self._ask_all([self._infill_request(prefix, suffix, options) for prefix, suffix in pairs])

    def chat_many(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]], **options: Unpack[Options]
    ) -> list[list[Completion]]:
        """Answer conversations, by the server's own template."""
        sampling = self._sampling(options)
        bodies = ({"messages": [dict(message) for message in messages]} for messages in conversations)
        return self._ask_all([_Request(_CHAT, body, sampling, continues=False) for body in bodies])

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _infill_request(self, prefix: str, suffix: str, options: InfillOptions) -> _Request:
        sampling = self._sampling(of_sampling(options))
        if options.get("stop_at") == "line":
            sampling = replace(sampling, stop=(*sampling.stop, "\n"))
        if self.tokenizer is None:
            rules = ending_rules(options, prefix, suffix)
            return _Request(_COMPLETIONS, {"prompt": prefix, "suffix": suffix}, sampling, rules=rules)
        if self.sentinels is None:
            raise CodecriaError("the tokenizer has no infill markers", where=self.name, mend="give no tokenizer")
        middle = plan_middle(
            self.tokenizer,
            self.sentinels,
            prefix,
            suffix,
            options,
            max_tokens=sampling.max_tokens,
            positions=self.max_positions,
        )
        return _Request(
            _COMPLETIONS, {"prompt": middle.ids}, sampling, middle.continues, middle.rules, returns=middle.returns
        )

    def _sampling(self, options: Options) -> SamplingOptions:
        stop = options.get("stop", ())
        ends: set[int] = set(options.get("stop_ids", ()))
        if self.tokenizer is not None:  # a control id is never text
            ends |= {*self.tokenizer.eos_ids, *self.tokenizer.special_ids}
        values: dict[str, Any] = {**options, "stop": (stop,) if isinstance(stop, str) else tuple(stop)}
        values["stop_ids"] = tuple(sorted(ends))
        sampling = SamplingOptions(**values)
        if self.dialect == "openai":
            for name in ("top_k", "min_p", "stop_ids", "repetition_penalty"):
                if options.get(name):
                    raise CodecriaError(f"OpenAI's API has no {name}", where=self._server.url, mend="leave it out")
        return sampling

    def _ask_all(self, requests: list[_Request]) -> list[list[Completion]]:
        pool = ThreadPoolExecutor(max(1, min(self._concurrency, len(requests))), "endpoint")
        try:
            return list(pool.map(self._ask, requests))
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure nothing more is sent

    def _ask(self, request: _Request) -> list[Completion]:
        answer = self._server.post(request.path, self._body(request))
        choices = sorted(answer.get("choices", []), key=lambda choice: choice.get("index", 0))
        if len(choices) != request.options.n:
            what = f"{len(choices)} samples came, {request.options.n} were asked for"
            raise CodecriaError(what, where=f"{self._server.url}/{request.path}")
        return [self._completion(request, choice, answer.get("usage") or {}) for choice in choices]

    def _body(self, request: _Request) -> dict[str, Any]:
        options = request.options
        values: dict[str, Any] = {
            "model": self.name,
            **request.body,
            "max_tokens": options.max_tokens,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "n": options.n,
        }
        if options.seed is not None:
            values["seed"] = options.seed
        if options.stop:
            values["stop"] = list(options.stop)
        for name in ("presence_penalty", "frequency_penalty"):
            if penalty := getattr(options, name):
                values[name] = penalty
        if options.logit_bias:
            values["logit_bias"] = {str(id): bias for id, bias in dict(options.logit_bias).items()}
        if options.logprobs:
            values["logprobs"] = True if request.path == _CHAT else 0
        if self.dialect == "vllm":
            values |= {"top_k": options.top_k or -1, "min_p": options.min_p, "return_token_ids": True}
            values |= {"stop_token_ids": list(options.stop_ids), "repetition_penalty": options.repetition_penalty}
        return values

    def _completion(self, request: _Request, choice: dict[str, Any], usage: dict[str, Any]) -> Completion:
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
        text = choice.get("text") if request.path == _COMPLETIONS else choice.get("message", {}).get("content")
        if ids and self.tokenizer is not None and reason != "stop-string" and request.path == _COMPLETIONS:
            decode = self.tokenizer.decode_infilling if request.continues else self.tokenizer.decode
            text = decode(ids)
        text = (text or "").replace("\n", "\r\n") if request.returns else text or ""
        for rule in request.rules:
            cut = rule.cut(text)
            if cut < len(text) and rule.ends(text):
                reason = "stop-string"
            text = text[:cut]
        reused = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Completion(text, ids, reason, probabilities, usage.get("prompt_tokens", 0), reused, [])


def _log_probabilities(choice: dict[str, Any]) -> list[float]:
    told = choice.get("logprobs") or {}
    if "token_logprobs" in told:
        return list(told["token_logprobs"])
    return [each["logprob"] for each in told.get("content") or []]


def _read_tokenizer(name_or_path: str | Path) -> Tokenizer:
    path = Path(name_or_path)
    if (path / "tokenizer.json").is_file() or (path / "tokenizer.model").is_file():
        return Tokenizer.from_folder(path)
    from codecria.checkpoint.open import open_checkpoint

    return open_checkpoint(name_or_path).tokenizer

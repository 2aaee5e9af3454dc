r"""The same texts from a server that speaks OpenAI's HTTP API, such as vLLM on a cluster.

    with Endpoint("http://cluster:8000/v1", "codellama/CodeLlama-7b-hf", tokenizer="checkpoints/CodeLlama-7b") as model:
        model.infill_many([("def add(a, b):\n    return ", "\n")], n=16, temperature=0.8)

With a tokenizer, prompts to be completed or infilled go as token ids that `infill/` made, and what the server gives
back as ids is decoded here. Without one, text is sent, and infilling goes by the field `suffix`. vLLM refuses that
field and llama.cpp's server ignores it silently; Ollama knows it. `Endpoint.infills_by` says which way is taken.

A server cannot be told which token may come first, so nothing is healed; in PSM nothing needs to be.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from codecria.common.errors import CodecriaError
from codecria.generation.candidates import infill_candidates
from codecria.generation.http import Server
from codecria.generation.middle import ending_rules, of_sampling, plan_middle
from codecria.generation.openai_api import CHAT, COMPLETIONS, Request, read_choice, read_stream, request_body
from codecria.generation.sampling import SamplingOptions
from codecria.tokenizer.sentinels import find_sentinels
from codecria.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Unpack

    from codecria.generation.middle import CompleteOptions, InfillOptions, Options
    from codecria.generation.openai_api import Dialect
    from codecria.generation.sequence import Completion


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
        self.tokenizer = None if tokenizer is None else read_tokenizer(tokenizer)
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
        return self._ask_all([self._complete_request(prompt, options) for prompt in prompts])

    def stream_complete(self, prompt: str, **options: Unpack[CompleteOptions]) -> Iterator[str]:
        """As `complete_many` for one text, piece by piece. Closing the iterator ends the request on the server."""
        return self._stream(self._complete_request(prompt, options))

    def infill_many(self, pairs: Sequence[tuple[str, str]], **options: Unpack[InfillOptions]) -> list[list[Completion]]:
        """Write what stands between each prefix and suffix. `heal` is not heeded.

        Raises:
            CodecriaError: also where the tokenizer given has no infill markers, or not this order.
        """
        return self._ask_all([self._infill_request(prefix, suffix, options) for prefix, suffix in pairs])

    def stream_infill(self, prefix: str, suffix: str, **options: Unpack[InfillOptions]) -> Iterator[str]:
        """As `infill_many` for one middle, piece by piece; the request ends on the server where the middle does."""
        return self._stream(self._infill_request(prefix, suffix, options))

    def infill_candidates(
        self, prefix: str, suffix: str, count: int = 3, **options: Unpack[InfillOptions]
    ) -> list[Completion]:
        """See `CodeModel.infill_candidates`. The rank is by the server's log-probabilities."""
        return infill_candidates(self, prefix, suffix, count, options)

    def chat_many(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]], **options: Unpack[Options]
    ) -> list[list[Completion]]:
        """Answer conversations, by the server's own template."""
        return self._ask_all([self._chat_request(messages, options) for messages in conversations])

    def stream_chat(self, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]) -> Iterator[str]:
        """As `chat_many` for one conversation, piece by piece."""
        return self._stream(self._chat_request(messages, options))

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _complete_request(self, prompt: str, options: CompleteOptions) -> Request:
        sampling = self._sampling(cast("Options", {name: value for name, value in options.items() if name != "heal"}))
        tokenizer = self.tokenizer
        sent = prompt if tokenizer is None else [*tokenizer.bos_ids, *tokenizer.encode(prompt)]
        return Request(COMPLETIONS, {"prompt": sent}, sampling, continues=bool(prompt))

    def _chat_request(self, messages: Sequence[Mapping[str, Any]], options: Options) -> Request:
        body = {"messages": [dict(message) for message in messages]}
        return Request(CHAT, body, self._sampling(options), continues=False)

    def _infill_request(self, prefix: str, suffix: str, options: InfillOptions) -> Request:
        sampling = self._sampling(of_sampling(options))
        if options.get("stop_at") == "line":
            sampling = replace(sampling, stop=(*sampling.stop, "\n"))
        if self.tokenizer is None:
            for name in ("files", "window_tokens", "order", "begun"):
                if options.get(name):
                    mend = "name the model's tokenizer, or leave it out"
                    raise CodecriaError(
                        f"by `suffix` a server is not told of {name}", where=self._server.url, mend=mend
                    )
            rules = ending_rules(options, prefix, suffix)
            return Request(COMPLETIONS, {"prompt": prefix, "suffix": suffix}, sampling, rules=rules)
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
        return Request(
            COMPLETIONS, {"prompt": middle.ids}, sampling, middle.continues, middle.rules, returns=middle.returns
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
            for name in ("top_k", "min_p", "min_tokens", "stop_ids", "repetition_penalty"):
                if options.get(name):
                    raise CodecriaError(f"OpenAI's API has no {name}", where=self._server.url, mend="leave it out")
        return sampling

    def _ask_all(self, requests: list[Request]) -> list[list[Completion]]:
        pool = ThreadPoolExecutor(max(1, min(self._concurrency, len(requests))), "endpoint")
        try:
            return list(pool.map(self._ask, requests))
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure nothing more is sent

    def _stream(self, request: Request) -> Iterator[str]:
        if request.options.n != 1:
            raise CodecriaError(f"n is {request.options.n}, but one text is streamed", mend="leave n out")
        return self._streamed(request)

    def _streamed(self, request: Request) -> Iterator[str]:
        body = {**request_body(request, self.name, self.dialect), "stream": True}
        with contextlib.closing(self._server.stream(request.path, body)) as events:
            yield from read_stream(request, events, self.tokenizer, f"{self._server.url}/{request.path}")

    def _ask(self, request: Request) -> list[Completion]:
        answer = self._server.post(request.path, request_body(request, self.name, self.dialect))
        choices = sorted(answer.get("choices", []), key=lambda choice: choice.get("index", 0))
        if len(choices) != request.options.n:
            what = f"{len(choices)} samples came, {request.options.n} were asked for"
            raise CodecriaError(what, where=f"{self._server.url}/{request.path}")
        return [read_choice(request, choice, answer.get("usage") or {}, self.tokenizer) for choice in choices]


def read_tokenizer(name_or_path: str | Path) -> Tokenizer:
    """A model's tokenizer, of a folder or a name that `codecria models` lists.

    Raises:
        CodecriaError: there is none.
    """
    path = Path(name_or_path)
    if (path / "tokenizer.json").is_file() or (path / "tokenizer.model").is_file():
        return Tokenizer.from_folder(path)
    from codecria.checkpoint.open import open_checkpoint

    return open_checkpoint(name_or_path).tokenizer

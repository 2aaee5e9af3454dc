"""The model under evaluation: here with its weights, or behind an endpoint that only writes."""

from __future__ import annotations

import hashlib
import json
import struct
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from codecria.common.errors import CodecriaError
from codecria.evaluation.asking import Asking
from codecria.generation.code_model import CodeModel
from codecria.infill.layout import infill_prompt
from codecria.tokenizer.chat import encode_chat
from codecria.tokenizer.sentinels import find_sentinels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from codecria.generation.generator import Generator
    from codecria.generation.middle import CompleteOptions, InfillOptions
    from codecria.generation.preparing import Prepared
    from codecria.generation.sequence import Completion
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer

    Done = Callable[[int, int, Completion], None]
    """Told of each sample once it is written: its prompt's place, its number, itself."""


@dataclass(frozen=True)
class Asked:
    """A text to be written: behind a prompt, between a prefix and a suffix, or as the answer to a conversation.

    Attributes:
        prompt, pair, messages: one of them.
        options: as of `complete`, `infill` and `chat`; with `pair` it names an order.
    """

    prompt: str | None = None
    pair: tuple[str, str] | None = None
    messages: Sequence[Mapping[str, Any]] | None = None
    options: InfillOptions = field(default_factory=lambda: cast("InfillOptions", {}))


class Subject(ABC):
    """A model to be evaluated.

    Attributes:
        name: what reports call it.
        tokenizer: its tokenizer; None where it is not known.
        sentinels: its infill markers, None where it has none or they are not known.
    """

    def __init__(self, name: str, tokenizer: Tokenizer | None) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.sentinels: Sentinels | None = None if tokenizer is None else find_sentinels(tokenizer)

    @property
    @abstractmethod
    def max_positions(self) -> int | None:
        """How many tokens the model can read; None where that is not known."""

    @abstractmethod
    def write(self, asked: Sequence[Asked], done: Done | None = None) -> list[list[Completion]]:
        """The samples of each, in order; `done` is told of each when it has ended, while others are being written.

        They share one number of samples and do not depend on what was written before.
        """

    @abstractmethod
    def fresh(self) -> Generator:
        """The model as people use it, with nothing read yet."""

    def reason_against(self, asked: Asked) -> str:
        """Why this model cannot be asked so; "" when it can."""
        if asked.pair is not None:
            if self.tokenizer is None:
                return "the endpoint's tokenizer is not known: give --tokenizer"
            if reason := Asking(self.tokenizer, self.sentinels).reason_against(asked.options.get("order") or "psm"):
                return reason
        try:
            tokens, most = self.prompt_tokens(asked), self.max_positions
        except CodecriaError as error:  # no chat template, or one that refuses
            return str(error)
        if tokens is None or most is None or tokens < most:
            return ""
        return f"{tokens} tokens, the model has {most} positions"

    def prompt_ids(self, asked: Asked) -> list[int] | None:
        """The prompt before anything is healed; None where the server makes it."""
        tokenizer = self.tokenizer
        if tokenizer is None:
            return None
        if asked.prompt is not None:
            return [*tokenizer.bos_ids, *tokenizer.encode(asked.prompt)]
        if asked.pair is not None:
            assert self.sentinels is not None
            return infill_prompt(tokenizer, self.sentinels, *asked.pair, asked.options.get("order") or "psm")
        return self._chat_ids(asked.messages or ())

    def prompt_tokens(self, asked: Asked) -> int | None:
        """How many tokens the prompt has, where that is known."""
        ids = self.prompt_ids(asked)
        return None if ids is None else len(ids)

    def prompt_sha256(self, asked: Asked) -> str:
        """Of the prompt's ids (see `prompt_hash`); of its text, as JSON, where the server makes the ids."""
        ids = self.prompt_ids(asked)
        if ids is not None:
            return prompt_hash(ids)
        text = json.dumps([asked.prompt, asked.pair, asked.messages], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def _chat_ids(self, messages: Sequence[Mapping[str, Any]]) -> list[int] | None:
        assert self.tokenizer is not None
        return encode_chat(self.tokenizer, messages, add_generation_prompt=True).ids


class LocalSubject(Subject):
    """A model in this process.

    Attributes:
        model: weights, on the device they are evaluated on.
        tokenizer: its tokenizer.
    """

    tokenizer: Tokenizer  # pyright: ignore[reportIncompatibleVariableOverride] here it is always known

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, ending_ids: Sequence[int] = (), name: str = "model"
    ) -> None:
        super().__init__(name, tokenizer)
        self.model = model.eval()
        self._ending_ids = tuple(ending_ids)

    @property
    def max_positions(self) -> int:
        """How many tokens the model can read."""
        return self.model.config.max_positions

    def fresh(self) -> CodeModel:
        """The model as people use it, with nothing read yet.

        Each group takes one: its texts must not depend on what another group left in a cache.
        """
        return CodeModel(self.model, self.tokenizer, name=self.name, ending_ids=self._ending_ids)

    @cached_property
    def asking(self) -> Asking:
        """Prompts and truths for this tokenizer."""
        return Asking(self.tokenizer, self.sentinels)

    def write(self, asked: Sequence[Asked], done: Done | None = None) -> list[list[Completion]]:
        """See `Subject.write`. All samples of a prompt share its keys and values.

        Without BOS an empty text is read after a document's end.
        """
        model = self.fresh()
        prepared = [_prepared(model, each) for each in asked]
        ids = [each.ids or list(self.tokenizer.eos_ids[:1]) for each in prepared]
        return model.engine.generate(ids, [each.options for each in prepared], [each.text for each in prepared], done)


def _prepared(model: CodeModel, asked: Asked) -> Prepared:
    if asked.prompt is not None:
        return model.prepare_completion(asked.prompt, **cast("CompleteOptions", asked.options))
    if asked.pair is not None:
        return model.prepare_infill(*asked.pair, **asked.options)
    return model.prepare_chat(asked.messages or (), **cast("Any", asked.options))


class RemoteSubject(Subject):
    """A model behind a server, through anything that is a `Generator`.

    Args:
        generator: writes; several threads use it.
        tokenizer: the model's, where it is known: then prompts go as ids, and a prompt that is too long is not sent.
        concurrency: prompts under way at once.
    """

    def __init__(self, generator: Generator, tokenizer: Tokenizer | None, concurrency: int = 32) -> None:
        super().__init__(generator.name, tokenizer)
        self._generator = generator
        self._concurrency = concurrency
        try:
            self._positions: int | None = generator.max_positions
        except CodecriaError:
            self._positions = None

    @property
    def max_positions(self) -> int | None:
        """As the server says; None where it does not."""
        return self._positions

    def fresh(self) -> Generator:
        """What writes behind the server."""
        return self._generator

    def write(self, asked: Sequence[Asked], done: Done | None = None) -> list[list[Completion]]:
        """See `Subject.write`. Each prompt is a request of its own."""
        found: dict[int, list[Completion]] = {}
        pool = ThreadPoolExecutor(max(1, min(self._concurrency, len(asked))), "evaluate")
        try:
            places = {pool.submit(self._write_one, each): place for place, each in enumerate(asked)}
            for future in as_completed(places):
                found[places[future]] = future.result()
                for number, completion in enumerate(future.result() if done is not None else ()):
                    cast("Done", done)(places[future], number, completion)
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure nothing more is sent
        return [found[place] for place in range(len(asked))]

    def _write_one(self, asked: Asked) -> list[Completion]:
        if asked.prompt is not None:
            options = cast("CompleteOptions", asked.options)
            return self._generator.complete_many([asked.prompt], **options)[0]
        if asked.pair is not None:
            return self._generator.infill_many([asked.pair], **asked.options)[0]
        return self._generator.chat_many([asked.messages or ()], **cast("Any", asked.options))[0]

    def _chat_ids(self, messages: Sequence[Mapping[str, Any]]) -> list[int] | None:
        del messages  # the server's own template lays the conversation out
        return None


def with_weights(subject: Subject) -> LocalSubject:
    """The subject as one whose weights are here: for tasks with `needs_scores`.

    Raises:
        CodecriaError: it is behind an endpoint.
    """
    if not isinstance(subject, LocalSubject):
        raise CodecriaError("the weights are not here: an endpoint scores no given text", where=subject.name)
    return subject


def prompt_hash(ids: Sequence[int]) -> str:
    """SHA-256 of a prompt's ids, each as 4 bytes, little end first."""
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()

"""The events of one answer of another server, as pieces of its samples."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from codecria.generation.stopping import TextWatch
from codecria.serving.requests import Piece

if TYPE_CHECKING:
    from codecria.generation.preparing import Prepared
    from codecria.generation.sequence import FinishReason
    from codecria.serving.requests import TextRequest
    from codecria.tokenizer.tokenizer import Tokenizer

_NAMED_ID = "token_id:"


class _AsTold:
    """A decoder of text that came as text; the id means nothing."""

    text = ""

    def push(self, _id: int, /) -> str:
        return self.text

    def finish(self) -> str:
        return ""


class UpstreamTexts:
    """The samples of one request as they grow.

    Attributes:
        asked_samples: how many the engine is asked for. A greedy text is the same each time, and vLLM refuses several.
        cached_tokens: of the prompt, as far as the engine tells.
        told_tokens: written, where the engine does not tell which.
    """

    def __init__(self, request: TextRequest, prepared: Prepared, tokenizer: Tokenizer) -> None:
        options = prepared.options
        self._request = request
        self._tokenizer = tokenizer
        self._plan = prepared.text
        self._ends = frozenset((*options.stop_ids, *options.forbidden_ids))
        self._stop = options.stop
        self._samples = options.n
        self.asked_samples = 1 if options.temperature == 0 else options.n
        self._reads_only = options.max_tokens == 0
        self._watches: dict[int, TextWatch] = {}
        self._told: dict[int, _AsTold] = {}
        self._open = set(range(self.asked_samples))
        self._running = set(range(self.asked_samples))
        self._first_s: float | None = None
        self._prompt_tokens, self._written_tokens = len(prepared.ids), 0
        self._has_ids = False
        self.cached_tokens = 0

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return self._first_s is not None

    @property
    def ended(self) -> bool:
        """Whether all samples have."""
        return not self._open

    @property
    def enough(self) -> bool:
        """Whether what the engine still writes is of no use."""
        return not self._open and bool(self._running)

    @property
    def told_tokens(self) -> int:
        """Written, by the engine's count, where it tells no ids."""
        return 0 if self._has_ids else self._written_tokens * (self._samples // self.asked_samples)

    def counted(self) -> dict[str, int]:
        """Tokens read, found in the cache and written."""
        read = self._prompt_tokens - self.cached_tokens
        return {"read_tokens": read, "hit_tokens": self.cached_tokens, "written_tokens": self._written_tokens}

    def take(self, event: dict[str, Any]) -> list[Piece]:
        """What an event adds."""
        usage = event.get("usage") or {}
        if usage:
            self.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            self._written_tokens = usage.get("completion_tokens") or self._written_tokens
        pieces: list[Piece] = []
        for choice in event.get("choices") or ():
            index = int(choice.get("index") or 0)
            if index in self._open:
                pieces += self._choice(index, choice)
            if choice.get("finish_reason") is not None:
                self._running.discard(index)
        if pieces and self._first_s is None:
            self._first_s = time.monotonic()
        if self.asked_samples == self._samples:
            return pieces
        return [replace(piece, sample=sample) for piece in pieces for sample in range(self._samples)]

    def end_late(self) -> list[Piece]:
        """Time has run out: what is open ends with what it has."""
        late = sorted(self._open)
        pieces = [Piece(index, None, self._watch(index).finish(), finish_reason="length") for index in late]
        self._open.clear()
        if self.asked_samples == self._samples:
            return pieces
        return [replace(piece, sample=sample) for piece in pieces for sample in range(self._samples)]

    def _choice(self, index: int, choice: dict[str, Any]) -> list[Piece]:
        reason = choice.get("finish_reason")
        if self._reads_only:
            self._open.discard(index)
            return [Piece(index, None, "", finish_reason="length")]
        ids: list[int] = choice.get("token_ids") or []
        text: str = choice.get("text") or ""
        self._has_ids = self._has_ids or bool(ids)
        pieces: list[Piece] = []
        if self._has_ids:
            self._written_tokens += len(ids)
            told = _log_probabilities(choice, ids)
            for place, id in enumerate(ids):
                if index in self._open and id not in self._ends:
                    pieces.append(self._token(index, id, *told[place]))
        elif text:
            self._watch(index)
            self._told[index].text = text
            pieces.append(self._token(index, None, None, ()))
        if reason is not None and index in self._open:
            self._open.discard(index)
            last = self._watch(index).finish()
            why: FinishReason = "length" if reason == "length" else "stop"
            if isinstance(choice.get("stop_reason"), str):
                why = "stop-string"
            pieces.append(Piece(index, None, last, finish_reason=why, ends=True))
        return pieces

    def _token(
        self, index: int, id: int | None, log_probability: float | None, best: tuple[tuple[int, float], ...]
    ) -> Piece:
        watch = self._watch(index)
        text = watch.push(0 if id is None else id)
        reason: FinishReason | None = "stop-string" if watch.ended else None
        limit_ms = self._request.predict_ms
        late = limit_ms and self._first_s is not None and (time.monotonic() - self._first_s) * 1000 > limit_ms
        if late and reason is None and "\n" in text:
            text, reason = text[: text.index("\n")].removesuffix("\r"), "length"
        if reason is not None:
            self._open.discard(index)
        return Piece(index, id, text, log_probability, best, reason)

    def _watch(self, index: int) -> TextWatch:
        found = self._watches.get(index)
        if found is None:
            decoder = self._plan.new_decoder()
            if not self._has_ids:
                decoder = self._told[index] = _AsTold()
            found = self._watches[index] = TextWatch(decoder, self._plan.rules, self._stop, self._plan.returns)
        return found


def _log_probabilities(
    choice: dict[str, Any], ids: list[int]
) -> list[tuple[float | None, tuple[tuple[int, float], ...]]]:
    """Of each id: its log-probability and the best ones; an engine that names no ids tells of no best ones."""
    told = choice.get("logprobs") or {}
    values: list[float | None] = told.get("token_logprobs") or []
    tops: list[dict[str, float] | None] = told.get("top_logprobs") or []
    values = [*values, *[None] * (len(ids) - len(values))]
    tops = [*tops, *[None] * (len(ids) - len(tops))]
    return [(value, _best(top or {})) for value, top in zip(values, tops, strict=False)]


def _best(top: dict[str, float]) -> tuple[tuple[int, float], ...]:
    named = [(name.removeprefix(_NAMED_ID), value) for name, value in top.items() if name.startswith(_NAMED_ID)]
    pairs = [(int(id), value) for id, value in named if id.isdecimal()]
    return tuple(sorted(pairs, key=lambda pair: -pair[1]))

"""What every dialect's request becomes, and what comes back: one form for the bridge to a model here or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from types import TracebackType

    from codecria.generation.middle import StopAt
    from codecria.generation.sampling import SamplingOptions
    from codecria.generation.sequence import FinishReason
    from codecria.infill.layout import Sentinels
    from codecria.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Complete:
    """Go on from a text, or from ids that are taken as they are.

    Attributes:
        prompt: text or ids.
        heal: whether a text's last token may become a longer one.
    """

    prompt: str | tuple[int, ...]
    heal: bool = True


@dataclass(frozen=True)
class Infill:
    """Write what stands between two texts, which are only text whatever they spell.

    Attributes:
        prefix, suffix: around the cursor.
        files: (path, text) of other files, what helps most last.
        path: the document's own.
        indent: end before the first line that is indented by fewer characters; None for no such end.
        stop_at: where the middle ends at the latest.
        trim: whether an end that repeats the suffix is cut.
        heal: whether the prefix's last token may become a longer one.
    """

    prefix: str
    suffix: str
    files: tuple[tuple[str, str], ...] = ()
    path: str | None = None
    indent: int | None = None
    stop_at: StopAt = "end"
    trim: bool = True
    heal: bool = True


@dataclass(frozen=True)
class Chat:
    """Answer a conversation.

    Attributes:
        messages: as JSON, so that equal ones are equal.
    """

    messages: bytes


@dataclass(frozen=True)
class TextRequest:
    """A text to be written. Equal requests whose text is determined are written once.

    Attributes:
        task: what for.
        sampling: how; its `stop_ids` and `forbidden_ids` are the bridge's to fill.
        favour_end: whether a middle rather ends than goes on unsure; see `generation.ending`.
        prompt_ms: reading the prompt should take no longer: it is cut to what is read in that time.
        predict_ms: once so long has been written for, the text ends at the next line end.
    """

    task: Complete | Infill | Chat
    sampling: SamplingOptions
    favour_end: bool = False
    prompt_ms: float | None = None
    predict_ms: float | None = None

    @property
    def determined(self) -> bool:
        """Whether the same request again gives the same text."""
        return self.sampling.temperature == 0 or self.sampling.seed is not None


@dataclass(frozen=True)
class Piece:
    """One token of one sample.

    Attributes:
        sample: which.
        id: the token; None where a text ends without one.
        text: what may be shown now; it lags behind while a character or a stop string is incomplete.
        log_probability: natural logarithm, when asked for.
        best: the most probable ids, when asked for.
        finish_reason: set on the sample's last piece.
        ends: whether the token ends the text instead of being part of it.
    """

    sample: int
    id: int | None
    text: str
    log_probability: float | None = None
    best: tuple[tuple[int, float], ...] = ()
    finish_reason: FinishReason | None = None
    ends: bool = False


@dataclass
class Sample:
    """A text as far as it is written; `pieces` are those of its tokens, without one that ends it."""

    text: str = ""
    pieces: list[Piece] = field(default_factory=list[Piece])
    finish_reason: FinishReason | None = None


@dataclass
class Outcome:
    """What a request has come to.

    Attributes:
        samples: the texts.
        prompt_ids: what the model was given.
        cached_tokens: of the prompt, found in the cache.
        asked_s, begun_s, first_s, ended_s: when it was asked for, begun, wrote its first token and ended; seconds of
            the monotonic clock.
        told_tokens: written, by the word of a server that does not tell which.
    """

    samples: list[Sample]
    prompt_ids: Sequence[int] = ()
    cached_tokens: int = 0
    asked_s: float = 0.0
    begun_s: float = 0.0
    first_s: float = 0.0
    ended_s: float = 0.0
    told_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Of the prompt."""
        return len(self.prompt_ids)

    @property
    def written_tokens(self) -> int:
        """Of all samples."""
        return self.told_tokens or sum(len(sample.pieces) for sample in self.samples)

    def take(self, piece: Piece) -> None:
        """Add a piece."""
        sample = self.samples[piece.sample]
        sample.text += piece.text
        if piece.id is not None and not piece.ends:
            sample.pieces.append(piece)
        sample.finish_reason = piece.finish_reason or sample.finish_reason


class Ticket(Protocol):
    """One caller's share in a text. Leaving its context gives it up; what nobody waits for is not written on.

    Attributes:
        outcome: what has been handed to this caller so far.
    """

    outcome: Outcome

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[Piece]:
        """Pieces of all samples, as they come.

        Raises:
            Problem: it could not be written.
        """
        ...

    async def started(self) -> None:
        """Wait until something is written.

        Raises:
            Problem: it could not be.
        """
        ...

    async def finished(self) -> Outcome:
        """Wait until all is written.

        Raises:
            Problem: it could not be.
        """
        ...


@dataclass(frozen=True)
class ModelInfo:
    """What is told of a model.

    Attributes:
        name: how it is called here; never a path.
        max_positions: tokens of its context.
        vocab_size, hidden_size, parameters, weight_bytes: its measures.
        created: when it was loaded, in seconds since 1970.
    """

    name: str
    max_positions: int
    vocab_size: int
    hidden_size: int
    parameters: int
    weight_bytes: int
    created: int


class Backend(Protocol):
    """What writes the texts: an engine in this process, or another server.

    `info`, `tokenizer` and `sentinels` raise `Unavailable` until `ready`.
    """

    @property
    def ready(self) -> bool:
        """Whether it can be asked."""
        ...

    @property
    def info(self) -> ModelInfo:
        """What is told of the model."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        ...

    @property
    def sentinels(self) -> Sentinels | None:
        """Its infill markers; None where it does not infill."""
        ...

    def submit(self, request: TextRequest) -> Ticket:
        """Ask for a text.

        Raises:
            Problem: the queue is full, the model is not there yet, or the server stops.
        """
        ...

    def counts(self) -> dict[str, float]:
        """Numbers for the metrics, by name; see `serving.metrics`."""
        ...

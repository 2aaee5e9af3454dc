"""What a dialect is made of: routes, the bodies they read, and how an error looks to its clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from codecria.serving.problems import BadRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from codecria.serving.metrics import Metrics
    from codecria.serving.problems import Problem
    from codecria.serving.requests import Backend, Outcome, TextRequest, Ticket
    from codecria.serving.settings import Settings

BodyType = TypeVar("BodyType", bound="Body")

JSON = "application/json"
SSE = "text/event-stream"
NDJSON = "application/x-ndjson"


Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Count = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Stop = str | Annotated[list[str], Field(max_length=64)]


class Body(BaseModel):
    """A request's body. Fields nobody knows are left alone, and null is as good as nothing."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in cast("dict[str, Any]", values).items() if value is not None}


@dataclass(frozen=True)
class Reply:
    """An answer that is whole.

    Attributes:
        content: bytes or text as they are, else written as JSON in one line without spaces: llama.vim looks for
            `"content":"`.
    """

    content: Any
    status: int = 200
    media: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def data(self) -> bytes:
        """The body."""
        if isinstance(self.content, bytes):
            return self.content
        return self.content.encode() if isinstance(self.content, str) else orjson.dumps(self.content)


@dataclass(frozen=True)
class Stream:
    """An answer that comes in frames. The status is sent with the first one, so what fails before is an error still."""

    frames: AsyncIterator[bytes]
    media: str = SSE


def sse(content: Any) -> bytes:
    """An event. There are no comments and no pings between events: some clients take one for the stream's end."""
    return b"data: " + (content.encode() if isinstance(content, str) else orjson.dumps(content)) + b"\n\n"


DONE = sse("[DONE]")


def ndjson(content: Any) -> bytes:
    """A line."""
    return orjson.dumps(content) + b"\n"


@dataclass
class Call:
    """A request on its way.

    Attributes:
        backend: writes texts.
        settings: the limits.
        metrics: is told what was done.
        body: the JSON object; empty for a request without one.
        headers: names in lower case.
        path: what placeholders of the path stand for.
        query: of the address.
        notes: what the log says of it: numbers, never texts.
    """

    backend: Backend
    settings: Settings
    metrics: Metrics
    body: dict[str, Any]
    headers: Mapping[str, str]
    path: Mapping[str, str]
    query: Mapping[str, str]
    notes: dict[str, Any] = field(default_factory=dict[str, Any])

    def read(self, form: type[BodyType]) -> BodyType:
        """The body in a form.

        Raises:
            BadRequest: it does not fit; says which field.
        """
        try:
            return form.model_validate(self.body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            what = str(first["msg"]).removeprefix("Value error, ")
            raise BadRequest(f"Field '{where}': {what}", where=None) from None

    def submit(self, request: TextRequest) -> Ticket:
        """Ask for a text; to be used as a context, so that it ends when the caller goes.

        Raises:
            Problem: see `Backend.submit`; also more texts than one request may ask for.
        """
        most = self.settings.texts_per_request
        if request.sampling.n > most:
            raise BadRequest(f"{request.sampling.n} texts in one request, and at most {most} may be asked for")
        self.notes["task"] = type(request.task).__name__.lower()
        return self.backend.submit(request)

    def done(self, *outcomes: Outcome) -> None:
        """Count what texts have come to."""
        for outcome in outcomes:
            self.metrics.count(outcome)
            for name in ("prompt_tokens", "cached_tokens", "written_tokens"):
                self.notes[name] = self.notes.get(name, 0) + getattr(outcome, name)
            if outcome.first_s:
                self.notes["first_ms"] = round(1000 * (outcome.first_s - outcome.asked_s))


@dataclass(frozen=True)
class Route:
    """One address of a dialect.

    Attributes:
        method, path: as Starlette writes them (`/v1/models/{id:path}`).
        answer: the handler.
        summary: one line for the OpenAPI document.
        body: what it reads; None for none.
        public: whether it is answered without a key.
        claims: of two dialects with the same address the one whose `claims` says so has the request; one of them may
            have no `claims` and gets the rest.
    """

    method: str
    path: str
    answer: Callable[[Call], Awaitable[Reply | Stream]]
    summary: str
    body: type[Body] | None = None
    public: bool = False
    claims: Callable[[Call], bool] | None = None


@dataclass(frozen=True)
class Dialect:
    """An interface.

    Attributes:
        name: for the ready line, metrics and documents.
        routes: its addresses.
        error: a problem as its clients read one.
    """

    name: str
    routes: tuple[Route, ...]
    error: Callable[[Problem], Any]

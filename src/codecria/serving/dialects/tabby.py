"""Tabby's interface: completions from segments, and what its agent asks and tells a server.

Source: Tabby's crates/tabby/src/services/completion.rs (June 2026) and requests of tabby-agent 1.5.0. OpenAI has the
same address for completions; who sends `segments` means this one. /v1/health is among llama.cpp's addresses.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from codecria.generation.sampling import SamplingOptions
from codecria.serving.dialects.openai import error
from codecria.serving.problems import BadRequest
from codecria.serving.requests import Complete, Infill, TextRequest
from codecria.serving.routes import Body, Call, Dialect, Reply, Route
from codecria.serving.texts import Texts, raw_task, spelled

if TYPE_CHECKING:
    from codecria.serving.requests import Outcome

_MOST_TOKENS = 64
_TEMPERATURE = 0.1


class Snippet(Body):
    """A piece of another file."""

    filepath: str = "untitled"
    body: str = ""
    score: float = 0.0


class Segments(Body):
    """What stands around the cursor."""

    prefix: str
    suffix: str = ""
    filepath: str | None = None
    declarations: list[Snippet] = Field(default_factory=list[Snippet], max_length=1024)
    relevant_snippets_from_changed_files: list[Snippet] = Field(default_factory=list[Snippet], max_length=1024)
    relevant_snippets_from_recently_opened_files: list[Snippet] = Field(default_factory=list[Snippet], max_length=1024)

    def files(self) -> tuple[tuple[str, str], ...]:
        """Snippets as (path, text), those that help most last."""
        opened, changed = self.relevant_snippets_from_recently_opened_files, self.relevant_snippets_from_changed_files
        ranked = [*sorted(opened, key=_score), *sorted(changed, key=_score), *self.declarations]
        return tuple((each.filepath, each.body) for each in ranked if each.body)


def _score(snippet: Snippet) -> float:
    return snippet.score


class DebugOptions(Body):
    """What a developer of Tabby looks at."""

    raw_prompt: str | None = None
    return_snippets: bool = False
    return_prompt: bool = False
    disable_retrieval_augmented_code_completion: bool = False


class SegmentsBody(Body):
    """Of /v1/completions. `language`, `user` and `mode` change nothing."""

    segments: Segments | None = None
    temperature: float = Field(_TEMPERATURE, ge=0, le=100)
    seed: int | None = Field(None, ge=-(2**63), le=2**64 - 1)
    debug_options: DebugOptions = DebugOptions()


class EventBody(Body):
    """Of /v1/events: what became of a suggestion."""

    type: Literal["view", "select", "dismiss"]
    completion_id: str = ""
    choice_index: int = 0
    view_id: str | None = None
    elapsed: int | None = None


async def complete(call: Call) -> Reply:
    """POST /v1/completions with segments."""
    body = call.read(SegmentsBody)
    sampling = SamplingOptions(max_tokens=_MOST_TOKENS, temperature=body.temperature, seed=body.seed)
    async with Texts(call, [TextRequest(_task(call, body), sampling)]) as texts:
        outcome, *_ = await texts.finished()
    choice = {"index": 0, "text": outcome.samples[0].text}
    return Reply({"id": f"cmpl-{uuid.uuid4()}", "choices": [choice], **_debug_data(call, body, outcome)})


def _task(call: Call, body: SegmentsBody) -> Complete | Infill:
    if body.debug_options.raw_prompt is not None:
        return raw_task(call, body.debug_options.raw_prompt, heal=True)
    segments = body.segments
    if segments is None or not (segments.prefix or segments.suffix):
        raise BadRequest("there is nothing around the cursor", where="segments.prefix")
    if call.backend.sentinels is None:
        return Complete(segments.prefix)
    files = () if body.debug_options.disable_retrieval_augmented_code_completion else segments.files()
    # The agent cuts a suggestion to its block; what it would cut need not be written.
    return Infill(segments.prefix, segments.suffix, files, segments.filepath, stop_at="block")


def _debug_data(call: Call, body: SegmentsBody, outcome: Outcome) -> dict[str, Any]:
    asked = body.debug_options
    told: dict[str, Any] = {}
    if asked.return_snippets:
        files = body.segments.files() if body.segments else ()
        told["snippets"] = [{"filepath": name, "body": text, "score": 1.0} for name, text in files]
    if asked.return_prompt:
        tokenizer = call.backend.tokenizer
        controls = set(tokenizer.special_ids)
        told["prompt"] = "".join(
            tokenizer.token_text(id) if id in controls else spelled(tokenizer, id) for id in outcome.prompt_ids
        )
    return {"debug_data": told} if told else {}


async def event(call: Call) -> Reply:
    """POST /v1/events. It is noted in the log."""
    body = call.read(EventBody)
    call.notes["event_type"] = body.type
    if body.elapsed is not None:
        call.notes["elapsed_ms"] = body.elapsed
    return Reply(b"", media="text/plain")


async def server_setting(_call: Call) -> Reply:
    """GET /v1beta/server_setting: the agent shall not report to anybody else."""
    return Reply({"disable_client_side_telemetry": True})


def _has_segments(call: Call) -> bool:
    return call.body.get("segments") is not None or "prompt" not in call.body


DIALECT = Dialect(
    "Tabby",
    (
        Route("POST", "/v1/completions", complete, "Infill between segments", SegmentsBody, claims=_has_segments),
        Route("POST", "/v1/events", event, "What became of a suggestion", EventBody),
        Route("GET", "/v1beta/server_setting", server_setting, "What the agent may report"),
    ),
    error,
)

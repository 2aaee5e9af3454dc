"""Numbers for Prometheus. Labels are the server's own addresses, never a caller's text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.core import Metric

    from codecria.serving.requests import Backend, Outcome

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.3, 0.5, 0.7, 1, 2, 5, 10, 30, 60)

_COUNTERS = {
    "read_tokens": "Tokens of prompts that went through the model",
    "hit_tokens": "Tokens of prompts found in the cache",
    "written_tokens": "Tokens written",
    "drafted_tokens": "Tokens guessed ahead",
    "accepted_tokens": "Guesses that were right",
    "evictions": "Runs of cached tokens given up for memory",
    "pauses": "Texts that had to wait again after they had begun",
    "joined": "Requests answered by a text that was being written for another",
    "refused": "Requests refused because the queue was full",
    "cancelled": "Texts that ended because nobody waited for them any more",
}
_GAUGES = {
    "running": "Texts that are read or written",
    "waiting": "Texts that wait",
    "texts": "Texts asked for and not ended",
    "cache_bytes": "Memory that keys and values may take",
    "cached_bytes": "Memory that they take",
    "locked_bytes": "Of these, what running texts need",
}
_LLAMA_CPP = {
    "prompt_tokens_total": ("read_tokens", "counter"),
    "tokens_predicted_total": ("written_tokens", "counter"),
    "requests_processing": ("running", "gauge"),
    "requests_deferred": ("waiting", "gauge"),
}
"""Names by which llama.cpp's dashboards know the same numbers."""


class Metrics:
    """What is counted, in a registry of its own."""

    def __init__(self, backend: Backend) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("codecria_requests", "Requests", ["method", "path", "status"], registry=self._registry)
        self._seconds = Histogram(
            "codecria_request_seconds", "From a request to its answer's end", buckets=_SECONDS, registry=self._registry
        )
        self._first = Histogram(
            "codecria_first_token_seconds",
            "From a request to its first token",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._prompt_seconds = Counter(
            "llamacpp:prompt_seconds", "Seconds in which prompts were read", registry=self._registry
        )
        self._predicted_seconds = Counter(
            "llamacpp:tokens_predicted_seconds", "Seconds in which texts were written", registry=self._registry
        )
        self._spent = {"prompt": 0.0, "predicted": 0.0}
        self._registry.register(_Held(backend, self._spent))

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count an answer; `path` is the route's, 499 the status of a caller who has gone."""
        self._requests.labels(method, path, str(status)).inc()
        self._seconds.observe(seconds)

    def count(self, outcome: Outcome) -> None:
        """Count a text."""
        if outcome.first_s:
            self._first.observe(max(0.0, outcome.first_s - outcome.asked_s))
            read_s = max(0.0, outcome.first_s - (outcome.begun_s or outcome.asked_s))
            written_s = max(0.0, (outcome.ended_s or outcome.first_s) - outcome.first_s)
            self._prompt_seconds.inc(read_s)
            self._predicted_seconds.inc(written_s)
            self._spent["prompt"] += read_s
            self._spent["predicted"] += written_s

    def text(self) -> bytes:
        """All in Prometheus's text format."""
        return generate_latest(self._registry)


class _Held(Collector):
    """What the backend counts itself, and rates of that by the seconds spent."""

    def __init__(self, backend: Backend, spent: Mapping[str, float]) -> None:
        self._backend = backend
        self._spent = spent

    def collect(self) -> Iterator[Metric]:
        """The numbers as they are now."""
        counts = self._backend.counts()
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"codecria_{name}", text, value=counts.get(name, 0.0))
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"codecria_{name}", text, value=counts.get(name, 0.0))
        seen = counts.get("hit_tokens", 0.0) + counts.get("read_tokens", 0.0)
        share = counts.get("hit_tokens", 0.0) / seen if seen else 0.0
        yield GaugeMetricFamily("codecria_cache_hit_share", "Of prompts' tokens, those found in the cache", value=share)
        for name, (ours, kind) in _LLAMA_CPP.items():
            family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            yield family(f"llamacpp:{name}", f"As codecria_{ours}", value=counts.get(ours, 0.0))
        for name, ours in (("prompt", "read_tokens"), ("predicted", "written_tokens")):
            rate = counts.get(ours, 0.0) / self._spent[name] if self._spent[name] else 0.0
            yield GaugeMetricFamily(f"llamacpp:{name}_tokens_seconds", "Tokens a second, of all so far", value=rate)

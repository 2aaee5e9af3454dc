"""Different middles for one place, the likeliest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codecria.generation.generator import Generator
    from codecria.generation.middle import InfillOptions
    from codecria.generation.sequence import Completion

_TEMPERATURE = 0.8


def infill_candidates(
    generator: Generator, prefix: str, suffix: str, count: int, options: InfillOptions
) -> list[Completion]:
    """At most `count` different middles, those the model finds more likely first.

    One is greedy, the others are samples, at a temperature of 0.8 where none is given. Their rank is the mean
    log-probability of their tokens.
    """
    asked: InfillOptions = {**options, "logprobs": True}
    temperature = options.get("temperature") or _TEMPERATURE
    [found] = generator.infill_many([(prefix, suffix)], **{**asked, "temperature": 0.0, "n": 1})
    if count > 1:
        sampled: InfillOptions = {**asked, "temperature": temperature, "n": count - 1}
        found = [*found, *generator.infill_many([(prefix, suffix)], **sampled)[0]]
    return ranked(found)


def ranked(completions: Iterable[Completion]) -> list[Completion]:
    """Those with different texts, the highest mean log-probability first; equal ones in their order."""
    different: dict[str, Completion] = {}
    for each in completions:
        known = different.setdefault(each.text, each)
        if mean_log_probability(each) > mean_log_probability(known):
            different[each.text] = each
    return sorted(different.values(), key=mean_log_probability, reverse=True)


def mean_log_probability(completion: Completion) -> float:
    """Over the tokens of a completion that was asked for `logprobs`, those that a rule cut included; 0 for none."""
    return mean(completion.log_probabilities or [])


def mean(values: list[float]) -> float:
    """0 for none."""
    return sum(values) / len(values) if values else 0.0

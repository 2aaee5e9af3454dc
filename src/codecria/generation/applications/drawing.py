"""In which order a model's texts are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codecria.generation.middle import InfillOptions


def draws(samples: int, seed: int) -> tuple[InfillOptions, ...]:
    """Options for the most probable text, then for so many samples."""
    first: InfillOptions = {"temperature": 0.0, "n": 1}
    return (first, {"temperature": 0.8, "top_p": 0.95, "n": samples, "seed": seed}) if samples else (first,)

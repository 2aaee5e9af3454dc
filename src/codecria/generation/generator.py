"""What evaluation and self-instruct need of a model: many texts at a time, wherever it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Unpack

    from codecria.generation.middle import CompleteOptions, InfillOptions, Options
    from codecria.generation.sequence import Completion


@runtime_checkable
class Generator(Protocol):
    """Writes text. `CodeModel` is one, here in this process; `Endpoint` is one, over HTTP.

    Each method gives, for each input in its order, its `n` samples.
    """

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def max_positions(self) -> int:
        """Tokens that the context holds."""
        ...

    def complete_many(self, prompts: Sequence[str], **options: Unpack[CompleteOptions]) -> list[list[Completion]]:
        """Continue texts."""
        ...

    def infill_many(self, pairs: Sequence[tuple[str, str]], **options: Unpack[InfillOptions]) -> list[list[Completion]]:
        """Write what stands between each prefix and suffix."""
        ...

    def chat_many(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]], **options: Unpack[Options]
    ) -> list[list[Completion]]:
        """Answer conversations."""
        ...

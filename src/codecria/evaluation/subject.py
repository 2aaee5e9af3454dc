"""The model under evaluation, and the unit of work that a killed run repeats whole."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from codecria.evaluation.asking import Asking
from codecria.generation.code_model import CodeModel
from codecria.tokenizer.sentinels import find_sentinels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from codecria.evaluation.judge import Judge
    from codecria.evaluation.samples import Sample
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer


class Subject:
    """A model with its tokenizer.

    Attributes:
        model: weights, on the device they are evaluated on.
        tokenizer: its tokenizer.
        sentinels: its infill markers, None where it has none.
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, ending_ids: Sequence[int] = ()) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.sentinels = find_sentinels(tokenizer)
        self._ending_ids = tuple(ending_ids)

    @property
    def max_positions(self) -> int:
        """How many tokens the model can read."""
        return self.model.config.max_positions

    def fresh(self) -> CodeModel:
        """The model as people use it, with nothing read yet.

        Each group takes one: its texts must not depend on what another group left in a cache.
        """
        return CodeModel(self.model, self.tokenizer, ending_ids=self._ending_ids)

    @cached_property
    def asking(self) -> Asking:
        """Prompts and truths for this tokenizer."""
        return Asking(self.tokenizer, self.sentinels)


@dataclass(frozen=True)
class Group:
    """Items that are run together: `run` gives their samples. A finished group is kept, another runs whole.

    Attributes:
        name: names its file; unique in a run.
        items: how many samples `run` gives.
    """

    name: str
    items: int
    run: Callable[[Subject, Judge], list[Sample]]


def in_groups(items: Sequence[object], size: int) -> list[slice]:
    """Slices of `size` items, the last one shorter."""
    return [slice(start, min(start + size, len(items))) for start in range(0, len(items), size)]


def prompt_hash(ids: Sequence[int]) -> str:
    """SHA-256 of a prompt's ids, each as 4 bytes, little end first."""
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()

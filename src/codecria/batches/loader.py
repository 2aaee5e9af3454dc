"""Training sequences by number. Sequence n depends on (seed, n) alone, so loader state is one counter (law 3)."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from codecria.batches.infilling import render_piece
from codecria.batches.mixture import Mixture
from codecria.batches.prepare import INNER, WHOLE, open_sources
from codecria.batches.recipe import SLOT_MARGIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from codecria.batches.infilling import Rendered
    from codecria.batches.recipe import BatchRecipe
    from codecria.infill.layout import Sentinels
    from codecria.tokenizer.tokenizer import Tokenizer


KINDS_OF_TOKENS = ("plain", "context", "psm", "spm")
"""What a token is as a target: of a piece left to right, of an infilled piece outside its middle, of a middle (its end
marker included) in PSM or in SPM order."""


@dataclass(frozen=True)
class Sequence:
    """One packed row.

    Attributes:
        ids: int64 [L], L at most the recipe's sequence length; nothing is padded here.
        weights: float32 [L]: loss weight of each id as a target; 0 at the start of each document.
        kinds: uint8 [L]: each id's index in `KINDS_OF_TOKENS`.
        lengths: number of ids of each packed document.
        source: kind of the documents (`code`), or kind and language (`code/Python`).
        epoch: how often the source had been gone through before.
        forms: how many pieces were `plain`, `psm`, `spm`, `outgrown`.
    """

    ids: np.ndarray
    weights: np.ndarray
    kinds: np.ndarray
    lengths: list[int]
    source: str
    epoch: int
    forms: dict[str, int]


class Sequences:
    """The run's sequences, by number.

    Args:
        folder: a prepared folder.
        tokenizer: the one it was prepared with.
        sentinels: infill markers, or None to train left to right.
        recipe: the batches' recipe.
        seed: the run's seed.
    """

    def __init__(
        self, folder: Path, tokenizer: Tokenizer, sentinels: Sentinels | None, recipe: BatchRecipe, seed: int
    ) -> None:
        self._sources = open_sources(folder)
        self._texts = pa.ipc.open_file(pa.memory_map(str(folder / "texts.arrow"))).read_all()
        self._tokenizer = tokenizer
        self._sentinels = sentinels
        self._end_ids = document_end_ids(tokenizer)
        self._recipe = recipe
        self._seed = seed
        weights = [recipe.mixture[source.name] for source in self._sources]
        names = [source.name for source in self._sources]
        self._mixture = Mixture(weights, [len(source) for source in self._sources], names, seed)

    @property
    def sources(self) -> list[str]:
        """Names of the sources, in a fixed order."""
        return [source.name for source in self._sources]

    def sequence(self, n: int) -> Sequence:
        """Sequence number `n`, n ≥ 0; there is no last one, epochs follow one another."""
        place = self._mixture.place(n)
        source = self._sources[place.source]
        members = source.members[source.bounds[place.row] : source.bounds[place.row + 1]]
        ids: list[int] = []
        weights: list[np.ndarray] = []
        kinds: list[np.ndarray] = []
        lengths: list[int] = []
        forms: dict[str, int] = {}
        for row, start, stop, tokens, kind in source.pieces[members].tolist():
            text = self._texts["text"][row].as_py()[start:stop]
            content_hash: str = self._texts["content_hash"][row].as_py()
            rendered = render_piece(
                self._tokenizer,
                self._sentinels,
                text,
                self._recipe,
                key=(self._seed, place.epoch, content_hash, start),
                slot=tokens + SLOT_MARGIN,
                eligible=self._recipe.infill.level == "context" or kind == WHOLE,
                end_ids=[] if kind == INNER else self._end_ids,
            )
            ids += rendered.ids
            weights.append(rendered.weights)
            kinds.append(_kinds(rendered))
            lengths.append(len(rendered.ids))
            forms[rendered.form] = forms.get(rendered.form, 0) + 1
        return Sequence(
            ids=np.array(ids, dtype=np.int64),
            weights=np.concatenate(weights),
            kinds=np.concatenate(kinds),
            lengths=lengths,
            source=source.name,
            epoch=place.epoch,
            forms=forms,
        )

    def run(self, numbers: Iterable[int], workers: int = 0, ahead: int = 8) -> Iterator[Sequence]:
        """The sequences of these numbers, in their order, made ahead meanwhile.

        Args:
            numbers: which, in which order.
            workers: processes that make them; 0 is a thread. The sequences do not depend on it.
            ahead: how many are made before they are asked for, a worker.
        """
        del workers
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="sequences") as pool:
            pending: deque[Future[Sequence]] = deque()
            upcoming = iter(numbers)
            while True:
                while len(pending) < ahead and (n := next(upcoming, None)) is not None:
                    pending.append(pool.submit(self.sequence, n))
                if not pending:
                    return
                yield pending.popleft().result()


def _kinds(rendered: Rendered) -> np.ndarray:
    infilled = rendered.form in KINDS_OF_TOKENS[2:]
    kinds = np.full(len(rendered.ids), KINDS_OF_TOKENS.index("context" if infilled else "plain"), dtype=np.uint8)
    if infilled:
        kinds[rendered.middle_start :] = KINDS_OF_TOKENS.index(rendered.form)
    return kinds


def document_end_ids(tokenizer: Tokenizer) -> list[int]:
    """The id a document ends with: `<|endoftext|>` where the vocabulary has it, else the first end id, else none.

    Chat models name their end of turn first, which ends no document.
    """
    end = tokenizer.token_id("<|endoftext|>")
    return [end] if end is not None else list(tokenizer.eos_ids[:1])

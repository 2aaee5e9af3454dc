"""Training sequences by number. Sequence n depends on (seed, n) alone, so loader state is one counter (law 3)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from codecria.batches import conversations, repository
from codecria.batches.infilling import render_piece
from codecria.batches.mixture import Mixture
from codecria.batches.prepare import INNER, WHOLE, open_sources
from codecria.batches.recipe import SLOT_MARGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

    from codecria.batches.infilling import Rendered
    from codecria.batches.prepare import Source
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
        sentinels: infill markers; None where the recipe takes none.
        recipe: the batches' recipe.
        seed: the run's seed.
        sequences_per_step: what the mixture's changes, which come by step, are counted in.

    Attributes:
        mixture: their order.

    """

    def __init__(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        sentinels: Sentinels | None,
        recipe: BatchRecipe,
        seed: int,
        sequences_per_step: int = 1,
    ) -> None:
        self._arguments = (folder, tokenizer, sentinels, recipe, seed, sequences_per_step)
        self._sources = open_sources(folder)
        self._texts = pa.ipc.open_file(pa.memory_map(str(folder / "texts.arrow"))).read_all()
        self._tokenizer = tokenizer
        self._sentinels = sentinels
        self._end_ids = document_end_ids(tokenizer)
        self._recipe = recipe
        self._seed = seed
        self.mixture = Mixture.of(self._sources, recipe, seed, sequences_per_step)

    @property
    def sources(self) -> list[str]:
        """Names of the sources, in a fixed order."""
        return [source.name for source in self._sources]

    def sequence(self, n: int) -> Sequence:
        """Sequence number `n`, n ≥ 0; there is no last one, epochs follow one another."""
        place = self.mixture.place(n)
        source = self._sources[place.source]
        members = source.members[source.bounds[place.row] : source.bounds[place.row + 1]]
        ids: list[int] = []
        weights: list[np.ndarray] = []
        kinds: list[np.ndarray] = []
        lengths: list[int] = []
        forms: dict[str, int] = {}
        for piece in source.pieces[members].tolist():
            rendered = self._render(source, place.epoch, piece)
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

    def _render(self, source: Source, epoch: int, piece: list[int]) -> Rendered:
        row, start, stop, tokens, kind = piece
        text = self._texts["text"][row].as_py()[start:stop]
        key = (self._seed, epoch, self._texts["content_hash"][row].as_py(), start)
        slot = tokens + SLOT_MARGIN
        if source.style == "conversations":
            return conversations.render(self._tokenizer, text, slot)
        if source.style == "repository":
            assert self._sentinels is not None
            return repository.render(self._tokenizer, self._sentinels, text, self._recipe, key=key, slot=slot)
        return render_piece(
            self._tokenizer,
            self._sentinels,
            text,
            self._recipe,
            key=key,
            slot=slot,
            eligible=self._recipe.infill.level == "context" or kind == WHOLE,
            end_ids=[] if kind == INNER else self._end_ids,
            language=self._texts["language"][row].as_py(),
        )

    def run(self, numbers: Iterable[int], workers: int = 0, ahead: int = 8) -> Generator[Sequence]:
        """The sequences of these numbers, in their order, made ahead meanwhile.

        An error in making one is raised here, as it is. When a worker is killed, this process makes the rest.

        Args:
            numbers: which, in which order.
            workers: processes that make them; 0 is a thread. The sequences do not depend on it.
            ahead: how many are made before they are asked for, a worker.
        """
        upcoming, taken = iter(numbers), deque[int]()
        if workers:
            # Spawned, not forked: a fork copies the locks of threads in whatever state they are in.
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(self,))
            try:
                yield from _in_order(pool, _make, upcoming, taken, ahead * workers)
            except BrokenProcessPool:
                print("a process that makes sequences was killed: the training process makes them now", file=sys.stderr)
                upcoming = chain(list(taken), upcoming)
        yield from _in_order(ThreadPoolExecutor(1, "sequences"), self.sequence, upcoming, deque(), ahead)

    def __reduce__(self) -> tuple[type[Sequences], tuple[object, ...]]:
        return Sequences, self._arguments


def _in_order(
    pool: Executor, make: Callable[[int], Sequence], upcoming: Iterator[int], taken: deque[int], ahead: int
) -> Generator[Sequence]:
    """Keep `ahead` tasks in a pool. `taken` holds the numbers that were taken and whose sequences were not yielded."""
    tasks: deque[Future[Sequence]] = deque()
    try:
        while True:
            # Processes begin here, and keep what is blocked: Ctrl-C is their parent's.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                for n in islice(upcoming, ahead - len(tasks)):
                    taken.append(n)
                    tasks.append(pool.submit(make, n))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if not tasks:
                return
            row = tasks.popleft().result()
            taken.popleft()
            yield row
    finally:
        pool.shutdown(cancel_futures=True)


_sequences: Sequences


def _start(sequences: Sequences) -> None:
    """Begin a worker, which does not outlive its parent."""
    global _sequences
    _sequences = sequences
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _make(n: int) -> Sequence:
    return _sequences.sequence(n)


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

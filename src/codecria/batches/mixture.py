"""Which source sequence n comes from: shares count tokens, may change by step, and end where a source is seen enough.

Every source has a clock that runs at its share of the run's tokens. A source's sequences lie one after another on its
clock, in the order of its epochs, each at the middle of its tokens; the run's order is the order of those moments. So
the place of sequence n is found by bisection, without the sequences before it, and after any of them a source is
within half a sequence of its clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from codecria.common.errors import CodecriaError
from codecria.common.random import generator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from codecria.batches.prepare import Source
    from codecria.batches.recipe import BatchRecipe

_BITS = 40
"""Shares are integers of 2**-40, and clocks integers too: the order is the same on every machine."""


class Place(NamedTuple):
    """Where sequence n comes from: the source's number, its epoch, and which of its packed sequences."""

    source: int
    epoch: int
    row: int


class _Stretch(NamedTuple):
    """Sequences `first` and on, while shares stay as they are. Times are in half tokens of the whole run."""

    first: int
    begins: int
    spent: tuple[int, ...]
    shares: tuple[int, ...]


class Mixture:
    """The order of a run's sequences: a function of (seed, n), not of ranks, workers or restarts (law 3).

    With k sources, at every n the tokens of a source with share w differ from w times all tokens by at most
    (1 + w (k - 2)) / 2 sequences. Within a source, each epoch visits every packed sequence once in an order keyed by
    (seed, source, epoch).

    Args:
        weights: each source's share of the tokens, in any unit; 0 for one that comes in later.
        tokens: of each packed sequence of each source; a number stands for so many that are alike.
        names: what keys each source's order, so that adding a source does not reorder another.
        seed: the run's seed.
        changes: (n, weights): the shares from sequence n on; n rises.
        max_epochs: by name: how often a source may be gone through; then the others take its share.
    """

    def __init__(
        self,
        weights: Sequence[float],
        tokens: Sequence[Sequence[int] | np.ndarray | int],
        names: Sequence[str],
        seed: int,
        changes: Sequence[tuple[int, Sequence[float]]] = (),
        max_epochs: Mapping[str, float] | None = None,
    ) -> None:
        self._tokens = [np.ones(each, np.int64) if isinstance(each, int) else np.asarray(each) for each in tokens]
        self._names, self._seed = list(names), seed
        self._epoch_time = [2 * int(each.sum()) for each in self._tokens]
        self._epochs = max_epochs or {}
        self._limits = [
            round(self._epochs[name] * time) if name in self._epochs else None
            for name, time in zip(names, self._epoch_time, strict=True)
        ]
        self._orders: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        self._stretches: list[_Stretch] = []
        self._exhausted: list[tuple[int, int]] = []
        self._plan(weights, deque(changes))

    @classmethod
    def of(cls, sources: Sequence[Source], recipe: BatchRecipe, seed: int, sequences_per_step: int) -> Mixture:
        """The mixture of a recipe; its steps become sequence numbers."""
        names = [source.name for source in sources]

        def weights(mixture: Mapping[str, float]) -> list[float]:
            return [mixture.get(name, 0.0) for name in names]

        caps = recipe.max_epochs
        return cls(
            weights(recipe.mixture),
            [source.tokens for source in sources],
            names,
            seed,
            [(change.from_step * sequences_per_step, weights(change.mixture)) for change in recipe.mixture_changes],
            caps if isinstance(caps, dict) or caps is None else dict.fromkeys(names, caps),
        )

    def place(self, n: int) -> Place:
        """Where sequence `n` comes from.

        Raises:
            CodecriaError: `max_epochs` leaves no sequence n.
        """
        source, counts = self._locate(n)
        epoch, position = divmod(counts[source], len(self._tokens[source]))
        return Place(source, epoch, int(self._order(source, epoch)[0][position]))

    def epochs(self, n: int) -> dict[str, float]:
        """How often each source has been gone through before sequence `n`."""
        counts = [0] * len(self._names)
        if n > 0:
            last, counts = self._locate(n - 1)
            counts[last] += 1
        return {
            name: count / len(tokens) for name, count, tokens in zip(self._names, counts, self._tokens, strict=True)
        }

    def check(self, sequences: int) -> list[str]:
        """What a run of so many sequences should be told: a line for each source that gives way within it.

        Raises:
            CodecriaError: `max_epochs` leaves fewer sequences.
        """
        self._locate(sequences - 1)
        return [
            f"{self._names[source]} will have been seen {self._epochs[self._names[source]]:g} times by sequence "
            f"{n:,} of {sequences:,}; the others take its share"
            for n, source in self._exhausted
            if n < sequences
        ]

    def _plan(self, weights: Sequence[float], changes: deque[tuple[int, Sequence[float]]]) -> None:
        """Lay out the stretches: each ends where shares change or a source has been seen enough."""
        first, begins, spent = 0, 0, tuple(0 for _ in weights)
        while True:
            live = [0.0 if spent[i] == self._limits[i] else weight for i, weight in enumerate(weights)]
            shares = tuple(round(weight / (sum(live) or 1.0) * (1 << _BITS)) for weight in live)
            stretch = _Stretch(first, begins, spent, shares)
            self._stretches.append(stretch)
            # Shares are rounded, so a limit is reached within the tick that is rounded up to; `_spent` stops at it.
            ends = [
                begins - ((spent[i] - limit << _BITS) // share)
                for i, (share, limit) in enumerate(zip(shares, self._limits, strict=True))
                if limit is not None and share
            ]
            end = min(ends, default=None)
            if not any(shares) or (end is None and not changes):
                return
            if changes and (end is None or sum(self._counts(stretch, end)) >= changes[0][0]):
                n, weights = changes.popleft()
                end = self._moment(stretch, n - 1) if n > first else begins
            assert end is not None
            before, spent, begins = spent, self._spent(stretch, end), end
            first = sum(self._counts(stretch, end))
            limits = enumerate(self._limits)
            self._exhausted += [(first, i) for i, limit in limits if spent[i] == limit and before[i] != limit]

    def _locate(self, n: int) -> tuple[int, list[int]]:
        """The source of sequence n, and how many sequences of each source come before it."""
        stretch = self._stretches[bisect_right(self._stretches, n, key=lambda each: each.first) - 1]
        if not any(stretch.shares):
            seen = ", ".join(f"{name} {len(t):,}" for name, t in zip(self._names, self._tokens, strict=True))
            raise CodecriaError(
                f"the run needs {n + 1:,} sequences or more, and max_epochs leaves {stretch.first:,} ({seen} an epoch)",
                where="batches.max_epochs",
                mend="raise it, train fewer steps or build a larger corpus",
            )
        moment = self._moment(stretch, n)
        counts, after = self._counts(stretch, moment - 1), self._counts(stretch, moment)
        # Sequences of one moment come in the order of their sources.
        for source, count in enumerate(after):
            step = min(count - counts[source], n - sum(counts))
            counts[source] += step
            if counts[source] < count:
                return source, counts
        raise AssertionError("no sequence at its moment")

    def _moment(self, stretch: _Stretch, n: int) -> int:
        """The earliest moment by which sequence n has come: an estimate, then bisection."""
        rate = sum(
            share * len(tokens) / time
            for share, tokens, time in zip(stretch.shares, self._tokens, self._epoch_time, strict=True)
        )
        low = high = stretch.begins + round((n - stretch.first) / (rate / (1 << _BITS)))
        width = 4 * max(time // len(tokens) for time, tokens in zip(self._epoch_time, self._tokens, strict=True))
        while sum(self._counts(stretch, low)) > n and low > stretch.begins:
            low, width = max(stretch.begins, low - width), 2 * width
        while sum(self._counts(stretch, high)) <= n:
            high, width = high + width, 2 * width
        return bisect_right(range(high + 1), n, lo=low, key=lambda moment: sum(self._counts(stretch, moment)))

    def _spent(self, stretch: _Stretch, moment: int) -> tuple[int, ...]:
        gone = moment - stretch.begins
        spent = (before + (share * gone >> _BITS) for before, share in zip(stretch.spent, stretch.shares, strict=True))
        limited = zip(spent, self._limits, strict=True)
        return tuple(each if limit is None else min(each, limit) for each, limit in limited)

    def _counts(self, stretch: _Stretch, moment: int) -> list[int]:
        """How many sequences of each source have come by a moment."""
        counts: list[int] = []
        for source, spent in enumerate(self._spent(stretch, moment)):
            epoch, rest = divmod(spent, self._epoch_time[source])
            within = np.searchsorted(self._order(source, epoch)[1], rest, side="right") if rest else 0
            counts.append(epoch * len(self._tokens[source]) + int(within))
        return counts

    def _order(self, source: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's rows in their order, and the middle of each on the epoch's clock: 16 bytes a sequence."""
        if (source, epoch) not in self._orders:
            tokens = self._tokens[source]
            order = generator("order", self._seed, self._names[source], epoch).permutation(len(tokens))
            ordered = tokens[order]
            if len(self._orders) >= 3 * len(self._tokens):
                self._orders.clear()
            self._orders[source, epoch] = order, 2 * np.cumsum(ordered, dtype=np.int64) - ordered
        return self._orders[source, epoch]

"""Which source sequence n comes from: error diffusion of the weights, so every prefix of the run is close to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from codecria.common.random import permutation

if TYPE_CHECKING:
    from collections.abc import Sequence

_RESOLUTION = 1_000_000
_BLOCK = 64


class Place(NamedTuple):
    """Where sequence n comes from: the source's number, its epoch, and which of its packed sequences."""

    source: int
    epoch: int
    row: int


class Mixture:
    """The order of a run's sequences: a function of (seed, n), not of ranks, workers or restarts (law 3).

    Sequence n comes from the source furthest behind its share; ties go to the first. Within a source, each epoch
    visits every packed sequence once in an order keyed by (seed, source, epoch).

    Args:
        weights: each source's share, in any unit; they are compared as integers of a millionth.
        sizes: number of packed sequences of each source, none of them 0.
        names: what keys each source's order, so that adding a source does not reorder another.
        seed: the run's seed.
    """

    def __init__(self, weights: Sequence[float], sizes: Sequence[int], names: Sequence[str], seed: int) -> None:
        total = sum(weights)
        self._weights = [round(weight / total * _RESOLUTION) for weight in weights]
        self._sizes = list(sizes)
        self._names = list(names)
        self._seed = seed
        self._counts: list[tuple[int, ...]] = [tuple(0 for _ in weights)]
        self._orders: dict[tuple[int, int], Sequence[int]] = {}

    def place(self, n: int) -> Place:
        """Where sequence `n` comes from. Counts are kept every 64 sequences, so any n is reached quickly."""
        block = n // _BLOCK
        while len(self._counts) <= block:
            first = (len(self._counts) - 1) * _BLOCK
            counts = list(self._counts[-1])
            for earlier in range(first, first + _BLOCK):
                counts[self._behind(counts, earlier)] += 1
            self._counts.append(tuple(counts))
        counts = list(self._counts[block])
        for earlier in range(block * _BLOCK, n):
            counts[self._behind(counts, earlier)] += 1
        source = self._behind(counts, n)
        epoch, position = divmod(counts[source], self._sizes[source])
        return Place(source, epoch, self._order(source, epoch)[position])

    def _behind(self, counts: list[int], n: int) -> int:
        debts = [weight * (n + 1) - count * _RESOLUTION for weight, count in zip(self._weights, counts, strict=True)]
        return debts.index(max(debts))

    def _order(self, source: int, epoch: int) -> Sequence[int]:
        if (source, epoch) not in self._orders:
            if len(self._orders) >= 2 * len(self._sizes):
                self._orders.clear()
            order = permutation(self._sizes[source], "order", self._seed, self._names[source], epoch)
            self._orders[source, epoch] = order
        return self._orders[source, epoch]

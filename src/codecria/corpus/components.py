"""Which documents can be copies of each other at all: those that a chain of shared buckets joins.

Documents of different components share no bucket, so each component can be searched alone, in any process. The
memory is 8 bytes a document and one band's keys; a bucket of k documents gives k - 1 edges, never k * k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from codecria.corpus.shingles import Hashes, Integers

NO_KEY = np.uint64(0)
"""The key of a document without shingles: it meets no other."""


def bucket_pairs(keys: Hashes) -> tuple[Integers, Integers]:
    """Places of equal keys, as edges: every bucket's first place beside each of its other places.

    Args:
        keys: one band's keys, [documents]; `NO_KEY` makes no bucket.
    """
    order = np.argsort(keys)
    ordered = keys[order]
    edges = np.empty(keys.size + 1, dtype=np.bool_)
    edges[0] = edges[-1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=edges[1:-1])
    # A place that begins a bucket and ends it is alone.
    shared = ~(edges[:-1] & edges[1:]) & (ordered != NO_KEY)
    order, begins = order[shared], edges[:-1][shared]
    if order.size == 0:
        return order, order
    starts = np.flatnonzero(begins)
    first = np.minimum.reduceat(order, starts).repeat(np.diff(starts, append=order.size))
    other = first != order
    return first[other], order[other]


class Components:
    """The documents 0 .. count - 1 and which of them are joined, band after band in any order."""

    def __init__(self, count: int) -> None:
        self._parent: Integers = np.arange(count)

    def link(self, first: Integers, other: Integers) -> None:
        """Join the documents `first[n]` and `other[n]`, for all n."""
        while first.size:
            first, other = self._roots(first), self._roots(other)
            apart = first != other
            first, other = np.minimum(first[apart], other[apart]), np.maximum(first[apart], other[apart])
            # Roots hang under smaller ones only, so there is no cycle, and a component's root is its smallest.
            np.minimum.at(self._parent, other, first)

    def labels(self) -> Integers:
        """The smallest document of each document's component, [documents]."""
        return self._roots(np.arange(self._parent.size))

    def _roots(self, documents: Integers) -> Integers:
        """Roots of documents, whose parents they become. Each turn halves the way, so a chain of n takes log n."""
        while True:
            above = self._parent[documents]
            further = self._parent[above]
            if np.array_equal(above, further):
                return above
            self._parent[documents] = further


def group_components(labels: Integers, weights: Integers, limit: int) -> list[Integers]:
    """Whole components of at least two documents, packed to groups that are searched one by one.

    Args:
        labels: from `Components.labels`, [documents].
        weights: what each document costs, such as its shingles, [documents].
        limit: a group's weights add up to at most this, unless it is one component.

    Returns:
        The documents of each group, in rising order.
    """
    inside = np.flatnonzero(np.bincount(labels, minlength=1)[labels] > 1)
    inside = inside[np.argsort(labels[inside], kind="stable")]
    starts = np.flatnonzero(np.diff(labels[inside], prepend=-1))
    ends = np.append(starts[1:], inside.size)
    total = np.concatenate([[0], np.cumsum(weights[inside])])
    groups: list[Integers] = []
    first = 0
    while first < starts.size:
        fits = int(np.searchsorted(total[ends], total[starts[first]] + limit, side="right"))
        last = max(fits, first + 1)
        groups.append(np.sort(inside[starts[first] : ends[last - 1]]))
        first = last
    return groups

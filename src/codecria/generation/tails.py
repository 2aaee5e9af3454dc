"""What the samples of a prompt have written, each its own row, so that all of them attend in one product.

Shapes: R rows, B rows of this pass, G key-value heads, T slots, K head_dim.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codecria.generation.extent import pointers_of

if TYPE_CHECKING:
    from codecria.generation.extent import Extent, Pointers
    from codecria.generation.prefix_tree import PrefixTree


class Tails:
    """Keys and values of rows of different lengths, stored in the model's dtype. Rows in use come first.

    Memory is taken for all rows in blocks of slots as the longest needs it, and given back when no row is left. It
    counts against the tree's budget.
    """

    def __init__(self, tree: PrefixTree) -> None:
        self._tree = tree
        self._layout = tree.layout
        self.release()

    def reserve(self, rows: int, slots: int) -> None:
        """Have memory for so many rows of so many slots.

        Raises:
            CacheFullError: there is none.
        """
        if rows <= self.rows and slots <= self.slots:
            return
        rows, slots = max(rows, self.rows), max(self._layout.whole(slots), self.slots)
        nbytes = rows * slots * dataclasses.replace(self._layout, int8=False).slot_bytes
        self._tree.make_room(nbytes - self._tree.taken)
        self._tree.allocate(lambda: self._resize(rows, slots))
        self._tree.taken, self.rows, self.slots = nbytes, rows, slots

    def _resize(self, rows: int, slots: int) -> None:
        self._pointers = None
        for layer, old in enumerate(self._stored):
            # Zeros, not empty: a slot that is masked out still must not hold a NaN.
            new = old.new_zeros(2, rows, old.shape[2], slots, old.shape[4])
            # Cut, for a layer may have been enlarged before memory ended at a later one.
            new[:, : self.rows, :, : self.slots] = old[:, : self.rows, :, : self.slots]
            self._stored[layer] = new

    def release(self) -> None:
        """Give all memory back."""
        layout = self._layout
        shape = (2, 0, layout.kv_heads, 0, layout.head_dim)
        self._stored = [torch.zeros(shape, dtype=layout.dtype, device=layout.device) for _ in range(layout.layers)]
        self._pointers: Pointers | None = None
        self._tree.taken = self.rows = self.slots = 0

    def move(self, source: int, row: int, length: int) -> None:
        """Put what a row holds into another."""
        for stored in self._stored:
            stored[:, row, :, :length] = stored[:, source, :, :length]

    def clear(self, row: int) -> None:
        """Zero a row."""
        for stored in self._stored:
            stored[:, row] = 0

    def copy_to(self, extent: Extent, row: int, length: int) -> None:
        """Write a row's first slots to the beginning of an extent."""
        for layer, stored in enumerate(self._stored):
            extent.write(layer, 0, stored[0, row, :, :length], stored[1, row, :, :length])

    def write(self, layer: int, rows_B: Tensor, slots_B: Tensor, k_BGK: Tensor, v_BGK: Tensor) -> None:
        """Store one token of each row."""
        keys, values = self._stored[layer]
        keys[rows_B, :, slots_B] = k_BGK
        values[rows_B, :, slots_B] = v_BGK

    def pointers(self) -> Pointers:
        """Where each layer's keys and values [2, R, G, T, K] lie."""
        if self._pointers is None:
            self._pointers = pointers_of(self._stored), None
        return self._pointers

    def read(self, layer: int, rows: slice | Tensor, slots: int) -> tuple[Tensor, Tensor]:
        """Keys and values of rows, [B, G, T, K] each: views where rows are a slice."""
        keys, values = self._stored[layer]
        return keys[rows, :, :slots], values[rows, :, :slots]

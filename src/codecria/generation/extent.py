"""Memory for keys and values: a contiguous run of slots, one for each token.

Why runs and not a table of fixed blocks: a CPU has no attention kernel that follows such a table, so all keys of a
sequence would be copied together at every step. A run is one view; it grows in whole blocks, layer by layer.

Shapes: G key-value heads, L tokens, S slots, K head_dim, C capacity.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """What a slot holds.

    Attributes:
        layers, kv_heads, head_dim: of the model.
        dtype: what keys and values are computed in, and stored in unless `int8`.
        device: where they lie.
        block_slots: memory is taken in so many slots.
        int8: whether they are stored as 8-bit integers with a float16 scale for each token and head.
        growth_slots: a text that grows takes at least so many at once, where there is room.
    """

    layers: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device
    block_slots: int = 64
    int8: bool = False
    growth_slots: int = 0

    @property
    def slot_bytes(self) -> int:
        """Memory of one token: 2 · layers · kv_heads · (head_dim · bytes of a number), with int8 2 more a head."""
        head = self.head_dim + 2 if self.int8 else self.head_dim * self.dtype.itemsize
        return 2 * self.layers * self.kv_heads * head

    @property
    def block_bytes(self) -> int:
        """Memory of a block."""
        return self.block_slots * self.slot_bytes

    def whole(self, slots: int) -> int:
        """Slots of the blocks that so many need."""
        return -(-slots // self.block_slots) * self.block_slots


class Extent:
    """Keys and values of all layers for a run of tokens.

    Attributes:
        capacity: slots there is memory for.
        moves: how often the memory was taken anew, so that who keeps addresses of it sees that they are old.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.capacity = self.moves = 0
        self._pointers: Pointers | None = None
        shape = (2, layout.kv_heads, 0)
        stored = torch.int8 if layout.int8 else layout.dtype
        self._stored = [self._empty((*shape, layout.head_dim), stored) for _ in range(layout.layers)]
        self._scales = [self._empty((*shape, 1), torch.float16) for _ in range(layout.layers if layout.int8 else 0)]

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return self.capacity * self.layout.slot_bytes

    def resize(self, capacity: int, used: int) -> None:
        """Change the capacity; the first `used` slots keep what they hold. At no time is a second copy of all held."""
        self._pointers = None
        self.moves += 1  # before the first layer moves: memory may end at a later one
        for tensors in (self._stored, self._scales):
            for layer, old in enumerate(tensors):
                new = self._empty((*old.shape[:2], capacity, old.shape[3]), old.dtype)
                new[:, :, :used] = old[:, :, :used]
                tensors[layer] = new
        self.capacity = capacity

    def write(self, layer: int, slot: int, k_GLK: Tensor, v_GLK: Tensor) -> None:
        """Store one layer's keys and values of tokens from `slot` on."""
        span = slice(slot, slot + k_GLK.shape[1])
        for part, x_GLK in enumerate((k_GLK, v_GLK)):
            if self.layout.int8:
                scale_GL1 = (x_GLK.abs().amax(dim=-1, keepdim=True).float() / 127).clamp_(min=2.0**-24).half()
                self._scales[layer][part, :, span] = scale_GL1
                x_GLK = (x_GLK.float() / scale_GL1.float()).round_().clamp_(-127, 127)
            self._stored[layer][part, :, span] = x_GLK

    def write_at(self, layer: int, slot_1: Tensor, k_G1K: Tensor, v_G1K: Tensor) -> None:
        """Store one layer's key and value of a token at a slot that a tensor on the device names; not as int8."""
        for stored_GSK, x_G1K in zip(self._stored[layer].unbind(), (k_G1K, v_G1K), strict=True):
            stored_GSK.index_copy_(1, slot_1, x_G1K)

    def clear(self, slot: int) -> None:
        """Zero the slots from `slot` on, which nobody may hold."""
        for stored in (*self._stored, *self._scales):
            stored[:, :, slot:] = 0

    def read(self, layer: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Keys and values of slots: [1, G, S, K] each, without a copy unless they are stored as int8."""
        stored = self._stored[layer][:, None, :, start:stop]
        if self.layout.int8:
            stored = stored.to(self.layout.dtype) * self._scales[layer][:, None, :, start:stop].to(self.layout.dtype)
        return stored[0], stored[1]

    def pointers(self) -> Pointers:
        """Where each layer's keys and values [2, G, C, K] lie, and their scales if they have any."""
        if self._pointers is None:
            self._pointers = pointers_of(self._stored), pointers_of(self._scales) if self._scales else None
        return self._pointers

    def copy_from(self, other: Extent, start: int, count: int, slot: int) -> None:
        """Copy `count` slots of another extent, from its slot `start` on, to `slot`."""
        for mine, theirs in ((self._stored, other._stored), (self._scales, other._scales)):
            for target, source in zip(mine, theirs, strict=True):
                target[:, :, slot : slot + count] = source[:, :, start : start + count]

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.layout.device)


Pointers = tuple["ctypes.Array[ctypes.c_void_p]", "ctypes.Array[ctypes.c_void_p] | None"]


def pointers_of(layers: list[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    """The addresses of some tensors."""
    return (ctypes.c_void_p * len(layers))(*(each.data_ptr() for each in layers))

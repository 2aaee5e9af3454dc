"""Keys and values of earlier tokens: of many rows of different lengths, and of one prompt between calls.

Shapes: B rows in use, L tokens of this pass, S slots, G key-value heads, K head_dim. A token's slot is its position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codecria.infill.layout import common_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.model.config import ModelConfig

BLOCK_SLOTS = 256


class RowCache:
    """Keys and values of many sequences; implements `model.attention.KeyValueCache`.

    One pass over the model is `positions = cache.place(tokens)`, then the model's forward with these positions and
    this cache, then `cache.commit()`. A pass that fails before `commit` leaves the sequences as they were.

    Memory is taken for all rows in blocks of slots as the longest needs it, and kept.

    Attributes:
        lengths: tokens held of each row in use.
    """

    def __init__(
        self, config: ModelConfig, *, dtype: torch.dtype, device: torch.device, block_slots: int = BLOCK_SLOTS
    ) -> None:
        shape = (0, config.num_kv_heads, 0, config.head_dim)
        self._keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_layers)]
        self._values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_layers)]
        self._block_slots = block_slots
        self._device = device
        self.lengths: list[int] = []
        self._starts: list[int] = []
        self._tokens = 0
        self._span = 0
        self._aligned = True
        self._rows_B1 = torch.empty(0, dtype=torch.int64)
        self._positions_BL = torch.empty(0, dtype=torch.int64)

    @property
    def rows(self) -> int:
        """How many sequences there is memory for."""
        return self._values[-1].shape[0]

    @property
    def slots(self) -> int:
        """How many tokens of each there is memory for."""
        return self._values[-1].shape[2]

    def place(self, tokens: int) -> Tensor:
        """Put the next `tokens` tokens of every row in use behind its last: their positions, int64 [B, L]."""
        self._starts = list(self.lengths)
        self._tokens = tokens
        self._span = max(self._starts) + tokens
        self._aligned = min(self._starts) == max(self._starts)
        self.reserve(len(self._starts), self._span)
        starts_B1 = torch.tensor(self._starts, device=self._device)[:, None]
        self._positions_BL = starts_B1 if tokens == 1 else starts_B1 + torch.arange(tokens, device=self._device)
        if not self._aligned:
            self._rows_B1 = torch.arange(len(self._starts), device=self._device)[:, None]
        return self._positions_BL

    def commit(self) -> None:
        """Count the placed tokens as held."""
        self.lengths = [start + self._tokens for start in self._starts]

    def mask(self, positions_BL: Tensor) -> Tensor | None:
        """Slots up to each query's own position; None where that is all of them, or where plain causal attention is."""
        if self._aligned and (self._tokens == 1 or self._starts[0] == 0):
            return None
        return torch.arange(self._span, device=self._device) <= positions_BL[:, None, :, None]

    def update(self, layer: int, k_BGLK: Tensor, v_BGLK: Tensor) -> tuple[Tensor, Tensor]:
        """Write the placed tokens' keys and values; return those of all slots up to the longest row: [B, G, S, K]."""
        rows = len(self._starts)
        keys_BGSK, values_BGSK = self._keys[layer][:rows, :, : self._span], self._values[layer][:rows, :, : self._span]
        if self._aligned:
            keys_BGSK[:, :, self._starts[0] :] = k_BGLK
            values_BGSK[:, :, self._starts[0] :] = v_BGLK
        else:
            keys_BGSK[self._rows_B1, :, self._positions_BL] = k_BGLK.transpose(1, 2)
            values_BGSK[self._rows_B1, :, self._positions_BL] = v_BGLK.transpose(1, 2)
        return keys_BGSK, values_BGSK

    def reserve(self, rows: int, slots: int) -> None:
        """Have memory for `rows` sequences of `slots` tokens."""
        if rows <= self.rows and slots <= self.slots:
            return
        rows = max(rows, self.rows)
        slots = max(-(-slots // self._block_slots) * self._block_slots, self.slots)
        for tensors in (self._keys, self._values):
            for layer, old in enumerate(tensors):
                # Zeros, not empty: a slot that is masked out still must not hold a NaN.
                new = old.new_zeros(rows, old.shape[1], slots, old.shape[3])
                new[: old.shape[0], :, : old.shape[2]] = old
                tensors[layer] = new

    def add_row(self, source: RowCache | None = None) -> None:
        """Take one more row into use, empty or as the source's row 0."""
        row, length = len(self.lengths), source.lengths[0] if source else 0
        self.reserve(row + 1 if row < self.rows else max(1, 2 * row), length)
        if source is not None:
            self._copy(source, 0, row, length)
        self.lengths.append(length)

    def drop_row(self, row: int) -> None:
        """Take a row out of use. The last row gets its number."""
        last = len(self.lengths) - 1
        if row != last:
            self._copy(self, last, row, self.lengths[last])
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def truncate(self, row: int, length: int) -> None:
        """Forget a row's tokens from position `length` on."""
        self.lengths[row] = length

    def _copy(self, source: RowCache, source_row: int, row: int, length: int) -> None:
        for mine, theirs in ((self._keys, source._keys), (self._values, source._values)):
            for target, origin in zip(mine, theirs, strict=True):
                target[row, :, :length] = origin[source_row, :, :length]


class PrefixCache:
    """One sequence's keys and values, kept between calls: a prompt that begins as the last one did needs only its rest.

    Attributes:
        cache: one row.
        ids: the tokens whose keys and values it holds.
    """

    def __init__(self, cache: RowCache) -> None:
        self.cache = cache
        self.ids: list[int] = []
        cache.add_row()

    def keep(self, prompt: Sequence[int]) -> int:
        """Forget what differs from `prompt`: how many of its leading tokens are held.

        Never all of them: the last one has to go through the model again for its scores.
        """
        held = min(common_length(self.ids, prompt), len(prompt) - 1)
        self.cache.truncate(0, held)
        del self.ids[held:]
        return held

    def extend(self, ids: Sequence[int]) -> None:
        """Note the tokens of a pass that has gone through."""
        self.cache.commit()
        self.ids.extend(ids)

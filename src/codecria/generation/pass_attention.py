"""One pass of the model over new tokens of some texts: where they are stored, and what they attend.

A prompt that several rows share is attended once, with the queries of all of them in one product; then each row's own.
The parts are merged by the sums of their scores' exponentials.

Shapes: B rows, L tokens of this pass (1 where there are several rows), H query heads, G key-value heads, K head_dim,
Q queries of the heads that share keys: L of each of the H / G heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codecria.generation.partial_attention import attend_own, attend_part, attend_whole, fold, has_kernel, merge
from codecria.generation.parts import Part, commit, parts_of
from codecria.model.documents import causal_attention

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from codecria.generation.cache import Cache, Place

_MASKED_SCORES = 2**18
_PIECE_SLOTS = 4096


class Pass:
    """New tokens of some places; implements `model.attention.KeyValueCache`.

    Memory for them must have been reserved. Nothing counts as held before `commit`, so a pass that fails leaves the
    places as they were.

    Args:
        cache: owns the places.
        places: one for each row.
        ids_BL: the rows' next tokens; more than one of each only if there is one row, which extends its leaf.

    Attributes:
        positions_BL: of the tokens, int64.
    """

    def __init__(self, cache: Cache, places: Sequence[Place], ids_BL: Sequence[list[int]]) -> None:
        self._layout = cache.layout
        self._tails = cache.tails
        self._places = places
        self._ids = ids_BL
        self._tokens = len(ids_BL[0])
        device = self._layout.device
        self.positions_BL = torch.tensor([each.length for each in places], device=device)[:, None]
        if self._tokens > 1:
            self.positions_BL = self.positions_BL + torch.arange(self._tokens, device=device)
        self._own = [(row, each.leaf) for row, each in enumerate(places) if each.row is None]
        parts = parts_of(places, self._tokens)
        lone = parts[0] if len(places) == len(parts) == 1 and self._own else None
        self._lone = lone if lone is not None and self._may_mask(lone) else None
        self._mask: Tensor | None = None
        if self._lone is None and self._tokens > 1:
            for part in parts:
                part.stop -= self._tokens if part is parts[-1] else 0
        self._parts = list(self._pieces([part for part in parts if part.stop > part.start]))
        self._plan_tails([(row, each) for row, each in enumerate(places) if each.row is not None])

    def commit(self) -> None:
        """Count the tokens as held."""
        commit(self._places, self._ids)

    def attend(self, layer: int, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor) -> Tensor:
        """See `KeyValueCache`."""
        for row, leaf in self._own:
            leaf.extent.write(layer, leaf.stop, k_BGLK[row], v_BGLK[row])
        q_BGQK = fold(q_BHLK, k_BGLK.shape[1])
        if self._lone is not None:
            part = self._lone
            if self._tokens > 1 and self._mask is None:
                self._mask = _causal_mask(q_BGQK.shape[2] // self._tokens, self._tokens, part, q_BGQK)
            y_BGQK = attend_whole(q_BGQK, *part.extent.read(layer, part.start, part.stop), self._mask)
            return y_BGQK.reshape(q_BHLK.shape)
        if self._tokens > 1:
            leaf = self._places[0].leaf
            if self._layout.int8:
                # What later tokens will see of these, so that a text does not depend on the chunks it was read in.
                k_BGLK, v_BGLK = leaf.extent.read(layer, leaf.stop, leaf.stop + self._tokens)
            if not self._parts:
                return causal_attention(q_BHLK, k_BGLK, v_BGLK)
        found = self._attend_parts(layer, q_BGQK)
        if self._tokens > 1:
            own = attend_own(q_BHLK, k_BGLK, v_BGLK)
            found = own if found is None else merge(found, own)
        elif self._tail_rows:
            found = self._attend_tails(layer, q_BGQK, k_BGLK, v_BGLK, found)
        assert found is not None
        return found[0].to(q_BHLK.dtype).reshape(q_BHLK.shape)

    def _attend_parts(self, layer: int, q_BGQK: Tensor) -> tuple[Tensor, Tensor] | None:
        """What the rows take from the tree."""
        every = q_BGQK.shape[0]
        found: tuple[Tensor, Tensor] | None = None
        for part in self._parts:
            rows: list[int] | slice = part.rows
            if len(part.rows) == every:
                rows = slice(None)
            elif len(part.rows) == 1:
                rows = slice(part.rows[0], part.rows[0] + 1)
            taken = _attend_together(q_BGQK[rows], *part.extent.read(layer, part.start, part.stop))
            if len(part.rows) == every:
                found = taken if found is None or part.begins else merge(found, taken)
                continue
            if found is None:
                found = (torch.empty_like(q_BGQK, dtype=torch.float32), q_BGQK.new_empty(q_BGQK.shape[:3]).float())
            elif found[0].dtype != torch.float32:
                found = (found[0].float(), found[1])
            y_BGQK, sums_BGQ = found
            if not part.begins:
                taken = merge((y_BGQK[rows], sums_BGQ[rows]), taken)
            y_BGQK[rows], sums_BGQ[rows] = taken[0].to(y_BGQK.dtype), taken[1]
        return found

    def _attend_tails(
        self, layer: int, q_BGQK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, found: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """What the rows took from the tree, with what those beside it take from their own tails."""
        assert found is not None, "a prompt has at least one token"
        mine = slice(None) if len(self._tail_rows) == q_BGQK.shape[0] else self._tail_rows
        self._tails.write(layer, self._rows_B, self._slots_B, k_BGLK[mine, :, 0], v_BGLK[mine, :, 0])
        keys, values = self._tails.read(layer, self._tail_span, self._tail_slots)
        taken = attend_part(q_BGQK[mine], keys, values, self._tail_mask)
        if len(self._tail_rows) == q_BGQK.shape[0]:
            return merge(found, taken)
        y_BGQK, sums_BGQ = found[0].float(), found[1]
        merged = merge((y_BGQK[mine], sums_BGQ[mine]), taken)
        y_BGQK[mine], sums_BGQ[mine] = merged
        return y_BGQK, sums_BGQ

    def _pieces(self, parts: list[Part]) -> Iterator[Part]:
        """The parts, cut where scores or numbers that are unpacked would take much memory."""
        whole = has_kernel(self._layout.device, self._layout.dtype) and not self._layout.int8
        for part in parts:
            step = part.stop - part.start if whole else _PIECE_SLOTS
            for start in range(part.start, part.stop, step):
                begins = part.begins and start == part.start
                yield Part(part.extent, start, min(start + step, part.stop), part.rows, begins)

    def _may_mask(self, part: Part) -> bool:
        slots = part.stop - part.start
        if self._layout.int8 and slots > _PIECE_SLOTS:
            return False
        return self._tokens == 1 or (slots > self._tokens and self._tokens * slots <= _MASKED_SCORES)

    def _plan_tails(self, rows: list[tuple[int, Place]]) -> None:
        self._tail_rows = [row for row, _ in rows]
        if not rows:
            return
        device, lengths = self._layout.device, [len(place.tail) for _, place in rows]
        numbers = [place.row for _, place in rows]
        self._rows_B = torch.tensor(numbers, device=device)
        self._slots_B = torch.tensor(lengths, device=device)
        self._tail_slots = max(lengths) + 1
        self._tail_span = slice(0, len(rows)) if numbers == list(range(len(rows))) else self._rows_B
        self._tail_mask = None
        if min(lengths) != max(lengths):
            unseen = torch.arange(self._tail_slots, device=device) > self._slots_B[:, None]
            mask = torch.zeros(unseen.shape, dtype=self._layout.dtype, device=device).masked_fill_(unseen, -torch.inf)
            self._tail_mask = mask[:, None, None]


def _attend_together(q_BGQK: Tensor, k_1GSK: Tensor, v_1GSK: Tensor) -> tuple[Tensor, Tensor]:
    """Queries of several rows over the same keys, in one product."""
    rows, heads, queries, width = q_BGQK.shape
    if rows == 1:
        return attend_part(q_BGQK, k_1GSK, v_1GSK)
    packed = q_BGQK.transpose(0, 1).reshape(1, heads, rows * queries, width)
    y, sums = attend_part(packed, k_1GSK, v_1GSK)
    y_BGQK = y.reshape(heads, rows, queries, width).transpose(0, 1)
    return y_BGQK, sums.reshape(heads, rows, queries).transpose(0, 1)


def _causal_mask(groups: int, tokens: int, part: Part, like: Tensor) -> Tensor:
    """The part's last slots are the tokens': scores to add, once for each head that shares keys: [1, 1, Q, S]."""
    slots = part.stop - part.start
    unseen = torch.ones(tokens, slots, dtype=torch.bool, device=like.device).triu_(slots - tokens + 1)
    mask = torch.zeros(tokens, slots, dtype=like.dtype, device=like.device).masked_fill_(unseen, -torch.inf)
    return mask.repeat(1, 1, groups, 1)

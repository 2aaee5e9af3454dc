"""Keys and values of all running texts and of what was read before: places in the prefix tree, and rows beside it.

A text that runs alone behind its leaf writes there. Samples of one prompt share its leaf and write each to a row of
`Tails`; what they wrote moves into the tree when they end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from codecria.generation.extent import Layout
from codecria.generation.prefix_tree import PrefixTree
from codecria.generation.tails import Tails

if TYPE_CHECKING:
    import torch

    from codecria.generation.prefix_node import Node
    from codecria.model.config import ModelConfig

CacheType = Literal["model", "int8"]
"""How keys and values are stored: as the model computes them, or as 8-bit integers with a scale for each."""

GRAPH_SLOTS = 256
"""Tokens a text grows by on a GPU: a graph of its step holds addresses, and lives until its memory moves."""


class Place:
    """Where a text's keys and values lie.

    Attributes:
        leaf: the node of the tree it runs behind.
        row: its row of the tails, None where it extends the leaf itself.
        tail: the tokens in that row.
    """

    __slots__ = ("leaf", "row", "tail")

    def __init__(self, leaf: Node, row: int | None = None) -> None:
        self.leaf = leaf
        self.row = row
        self.tail: list[int] = []

    @property
    def length(self) -> int:
        """Tokens held."""
        return self.leaf.end + len(self.tail)


class Cache:
    """Keys and values of many texts within a number of bytes.

    Args:
        config: the model's.
        dtype: what it computes in.
        device: where it is.
        budget: bytes.
        stored: how the tree stores them; rows of samples are always stored as computed.
        block_slots: memory is taken in so many tokens.

    Attributes:
        hit_tokens: tokens of prompts that were held already.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        dtype: torch.dtype,
        device: torch.device,
        budget: int,
        stored: CacheType = "model",
        block_slots: int = 64,
    ) -> None:
        heads = (config.num_layers, config.num_kv_heads, config.head_dim)
        self.layout = Layout(
            *heads,
            dtype,
            device,
            block_slots=block_slots,
            int8=stored == "int8",
            growth_slots=GRAPH_SLOTS if device.type == "cuda" else 0,
        )
        self.tree = PrefixTree(self.layout, budget)
        self.tails = Tails(self.tree)
        self.hit_tokens = 0
        self._rows: list[Place] = []

    def open(self, ids: list[int], spare: int = 0) -> Place:
        """A place for a text, with memory for all of its ids and `spare` more; `length` of them are held already.

        Never all of them are: the last one has to go through the model for its scores.

        Raises:
            CacheFullError: there is no memory.
        """
        place = Place(self.tree.open(ids, len(ids) - 1))
        held = place.length
        try:
            self.reserve(place, len(ids) - held + spare)
        except BaseException:
            self.close(place)
            raise
        self.hit_tokens += held
        return place

    def fork(self, place: Place, count: int) -> None:
        """Let `count` texts run behind the place's leaf, each with a row of its own."""
        self.tree.share(place.leaf, count)

    def new_row(self, leaf: Node) -> Place:
        """A place for one of the texts behind a shared leaf. Its lock is among those that `fork` took.

        Raises:
            CacheFullError: there is no memory.
        """
        row = len(self._rows)
        self.tails.reserve(row + 1 if row < self.tails.rows else max(1, 2 * row), 1)
        self._rows.append(Place(leaf, row))
        return self._rows[-1]

    def reserve(self, place: Place, tokens: int) -> None:
        """Have memory for so many more tokens.

        Raises:
            CacheFullError: there is none.
        """
        if place.row is None:
            self.tree.reserve(place.leaf, tokens)
        else:
            self.tails.reserve(0, len(place.tail) + tokens)

    def close(self, place: Place, *, spoilt: bool = False) -> None:
        """End a text. What it holds stays findable while there is room, unless it is spoilt."""
        if place.row is not None:
            self._drop_row(place, place.row, spoilt)
        if spoilt:
            self.tree.forget(place.leaf)
        else:
            self.tree.close(place.leaf)

    def _drop_row(self, place: Place, row: int, spoilt: bool) -> None:
        if spoilt:
            self.tails.clear(row)
        elif place.tail:
            kept = self.tree.keep(place.leaf, place.tail)
            if kept is not None:
                self.tails.copy_to(kept.extent, row, len(place.tail))
        last = self._rows.pop()
        if last is not place:
            self.tails.move(len(self._rows), row, len(last.tail))
            self._rows[row] = last
            last.row = row
        place.row = None
        if not self._rows:
            self.tails.release()

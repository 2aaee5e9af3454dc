"""A node of the prefix tree (`prefix_tree.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codecria.generation.extent import Extent

_COMPARED = 512


class Node:
    """A run of tokens behind those of its parent.

    Attributes:
        ids: the tokens.
        first: position of the first one in the sequence.
        extent: where its keys and values lie.
        slot: the first one's slot.
        locks: sequences that run behind it; whoever locks a leaf that `grows` extends it.
    """

    __slots__ = ("children", "extent", "first", "grows", "ids", "locks", "parent", "slot", "used")

    def __init__(self, parent: Node | None, first: int, extent: Extent, slot: int) -> None:
        self.parent = parent
        self.children: list[Node] = []
        self.ids: list[int] = []
        self.first = first
        self.extent = extent
        self.slot = slot
        self.locks = 0
        self.grows = False
        self.used = 0

    @property
    def end(self) -> int:
        """Tokens from the root to this node's last."""
        return self.first + len(self.ids)

    @property
    def stop(self) -> int:
        """The slot behind its last token."""
        return self.slot + len(self.ids)

    @property
    def idle(self) -> bool:
        """Whether it is a leaf that nobody runs behind."""
        return not self.locks and not self.children

    def path(self) -> list[Node]:
        """The nodes from below the root to this one."""
        nodes: list[Node] = []
        node = self
        while node.parent is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]


def common_length(ids: list[int], prompt: list[int], at: int, limit: int | None = None) -> int:
    """How many leading `ids` the prompt has from `at` on, up to its token `limit`."""
    most = min(len(ids), (len(prompt) if limit is None else limit) - at)
    if most <= 0 or ids[0] != prompt[at]:
        return 0
    for start in range(0, most, _COMPARED):
        stop = min(start + _COMPARED, most)
        if ids[start:stop] != prompt[at + start : at + stop]:
            return next(place for place in range(start, stop) if ids[place] != prompt[at + place])
    return most

"""Which tokens' keys and values are held: a tree over ids, whose nodes own runs of slots.

A running sequence holds a lock on the last node of its path; what lies above it has a child and so stays too. A node
that nobody runs behind may be extended in place, cut back in place, or given up when memory is short.

Splitting a node gives two views of one extent. An extent's nodes follow each other in it and in the tree, so the last
of them always ends first. Siblings may begin with the same few tokens (less than `SHARE_LEAST`): those are copied, for
a node of a few tokens costs every step of all who run behind it more than it saves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError
from codecria.generation.extent import Extent
from codecria.generation.memory import out_of_memory
from codecria.generation.prefix_node import Node, common_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from codecria.generation.extent import Layout

SHARE_LEAST = 256
"""Tokens that are worth a node of their own; as many are given up at most when a leaf is cut back."""


class CacheFullError(CodecriaError):
    """There is no memory for more keys and values, though all was given up that nobody runs behind."""


class PrefixTree:
    """Keys and values by the tokens they are of, within a number of bytes.

    Args:
        layout: what a slot holds.
        budget: bytes that all extents may take together, and what `taken` counts.

    Attributes:
        taken: bytes in use beside the tree's own, which count against the same budget.
        evictions: leaves given up for memory.
    """

    def __init__(self, layout: Layout, budget: int) -> None:
        self.layout = layout
        self.budget = budget
        self.root = Node(None, 0, Extent(layout), 0)
        self.nbytes = 0
        self.taken = 0
        self.evictions = 0
        self._clock = 0

    def open(self, prompt: list[int], limit: int) -> Node:
        """A leaf behind the longest held beginning of the prompt, locked and for the caller alone to extend.

        Args:
            prompt: token ids.
            limit: at most so many of them are taken as held.

        Returns:
            The leaf; `end` of it tokens of the prompt are held.
        """
        node, best, common = self._find(prompt, limit)
        if best is not None and best.idle and len(best.ids) - common < SHARE_LEAST:
            del best.ids[common:]
            node = best
        elif best is not None and common >= SHARE_LEAST:
            node = self._split(best, common)
        elif best is not None:
            best.locks += 1  # so that it is not given up for the copy
            try:
                return self._copy(best, common)
            finally:
                best.locks -= 1
        elif node.grows:
            node = self._split(node, len(node.ids))
        leaf = node if node.idle and node is not self.root else self._new_leaf(node)
        return self._lock(leaf, grows=True)

    def share(self, leaf: Node, count: int) -> None:
        """From now on `count` sequences run behind a leaf, and none extends it."""
        leaf.grows, leaf.locks = False, count

    def reserve(self, leaf: Node, tokens: int) -> None:
        """Have memory for so many more tokens behind a leaf.

        Raises:
            CacheFullError: there is none.
        """
        extent, needed = leaf.extent, leaf.stop + tokens
        if needed <= extent.capacity:
            return
        # An eighth more, so that what is copied while a text grows stays in proportion to its length. On a GPU memory
        # that moves costs a new graph besides; a prompt that is read takes what it needs and no more.
        more = max(extent.capacity // 8, self.layout.growth_slots if extent.capacity else 0)
        capacity = self.layout.whole(needed + more)
        if self.free < (capacity - extent.capacity) * self.layout.slot_bytes:
            capacity = self.layout.whole(needed)
        more = (capacity - extent.capacity) * self.layout.slot_bytes
        self.make_room(more)
        self.allocate(lambda: extent.resize(capacity, leaf.stop))
        self.nbytes += more

    @property
    def free(self) -> int:
        """Bytes left of the budget."""
        return self.budget - self.nbytes - self.taken

    def make_room(self, more: int) -> None:
        """Give up idle leaves, the one that was used longest ago first, until `more` bytes are free.

        Raises:
            CacheFullError: they would not be; then nothing is given up.
        """
        if self.free >= more:
            return
        if self.budget - self.locked_bytes() - self.taken < more:
            raise CacheFullError(
                f"the cache of {self.budget / 2**20:.0f} MiB has no room for {more / 2**20:.1f} MiB of keys and values"
                " beside those of the running texts",
                mend="give the engine more `cache_bytes`, or ask for shorter or fewer texts at once",
            )
        while self.free < more:
            self._evict()

    def allocate(self, take: Callable[[], None]) -> None:
        """Take memory that `make_room` has granted. Where the machine has it not, idle leaves are given up for it.

        Raises:
            CacheFullError: the machine has none even so.
        """
        while True:
            try:
                return take()
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if not any(node.idle for node in self.nodes()):
                    raise CacheFullError(
                        f"the machine has no memory for more keys and values, of which it holds"
                        f" {(self.nbytes + self.taken) / 2**20:.0f} MiB of the {self.budget / 2**20:.0f} allowed",
                        mend="give the engine fewer `cache_bytes` and `max_rows`, or `cache_type` int8",
                    ) from error
            self._evict()

    def locked_bytes(self) -> int:
        """Bytes that would be left if all were given up that nobody runs behind."""
        kept = {above for node in self.nodes() if node.locks for above in node.path()}
        slots: dict[Extent, int] = {}
        for node in self.nodes():
            capacity = node.extent.capacity
            own = capacity if node in kept else self.layout.whole(node.slot)
            slots[node.extent] = min(slots.get(node.extent, capacity), own)
        return sum(slots.values()) * self.layout.slot_bytes

    def close(self, leaf: Node) -> None:
        """Unlock a leaf. What it holds is kept for who begins alike, unless a sibling holds it too."""
        leaf.locks -= 1
        if leaf.locks:
            return
        leaf.grows = False
        parent = leaf.parent
        assert parent is not None
        twins = [each for each in parent.children if each is not leaf and common_length(each.ids, leaf.ids, 0) > 0]
        if not leaf.children and any(twin.ids[: len(leaf.ids)] == leaf.ids for twin in twins):
            self.remove(leaf)
            return
        if not leaf.ids and not leaf.children:
            self.remove(leaf)
            return
        for twin in twins:
            if twin.idle and leaf.ids[: len(twin.ids)] == twin.ids:
                self.remove(twin)

    def forget(self, leaf: Node) -> None:
        """Unlock a leaf and drop all of its path that nobody else uses."""
        leaf.locks -= 1
        node = leaf
        while node.idle and node.parent is not None:
            above = node.parent
            self.remove(node)
            node = above

    def remove(self, leaf: Node) -> None:
        """Drop an idle leaf and the blocks that no other node has slots in."""
        parent = leaf.parent
        assert parent is not None and leaf.idle
        parent.children.remove(leaf)
        extent = leaf.extent
        kept = self.layout.whole(leaf.slot)
        if kept < extent.capacity:
            freed = extent.capacity - kept
            extent.resize(kept, leaf.slot)
            self.nbytes -= freed * self.layout.slot_bytes
        self._join(parent)

    def nodes(self) -> Iterator[Node]:
        """All nodes but the root."""
        waiting = list(self.root.children)
        while waiting:
            node = waiting.pop()
            waiting.extend(node.children)
            yield node

    def _evict(self) -> None:
        self.remove(min((node for node in self.nodes() if node.idle), key=lambda node: node.used))
        self.evictions += 1

    def keep(self, parent: Node, ids: list[int]) -> Node | None:
        """A new idle leaf for `ids` behind a node, whose keys and values the caller writes.

        None where another child begins so, or where something would have to be given up for it.
        """
        held = any(child.ids[: len(ids)] == ids for child in parent.children)
        if held or self.free < self.layout.whole(len(ids)) * self.layout.slot_bytes:
            return None
        leaf = self._lock(self._new_leaf(parent), grows=False)
        self.reserve(leaf, len(ids))
        leaf.ids, leaf.locks = list(ids), 0
        return leaf

    def _find(self, prompt: list[int], limit: int) -> tuple[Node, Node | None, int]:
        """The last node that the prompt goes through, the child it ends in, and how many of that one's ids it has."""
        node, at = self.root, 0
        while True:
            node.used = self._tick()
            best, common = None, 0
            for child in node.children:
                shared = common_length(child.ids, prompt, at, limit)
                if shared > common:
                    best, common = child, shared
            if best is None or common < len(best.ids):
                return node, best, common
            node, at = best, at + common

    def _split(self, node: Node, count: int) -> Node:
        """Put a node's first `count` tokens into a new one above it, which is returned. No key is moved."""
        above = Node(node.parent, node.first, node.extent, node.slot)
        assert node.parent is not None
        node.parent.children[node.parent.children.index(node)] = above
        above.children.append(node)
        above.ids, node.ids = node.ids[:count], node.ids[count:]
        above.used = node.used
        node.parent, node.first, node.slot = above, node.first + count, node.slot + count
        return above

    def _join(self, node: Node) -> None:
        """Undo a split of which one side is gone."""
        if node.parent is None or node.locks or len(node.children) != 1:
            return
        child = node.children[0]
        if child.extent is not node.extent or child.slot != node.stop:
            return
        child.ids = node.ids + child.ids
        child.first, child.slot, child.parent = node.first, node.slot, node.parent
        node.parent.children[node.parent.children.index(node)] = child

    def _new_leaf(self, parent: Node) -> Node:
        leaf = Node(parent, parent.end, Extent(self.layout), 0)
        parent.children.append(leaf)
        return leaf

    def _copy(self, node: Node, count: int) -> Node:
        """A locked sibling of a node with a copy of its first `count` tokens."""
        assert node.parent is not None
        leaf = self._lock(self._new_leaf(node.parent), grows=True)
        try:
            self.reserve(leaf, count)
        except BaseException:
            self.close(leaf)
            raise
        leaf.extent.copy_from(node.extent, node.slot, count, 0)
        leaf.ids = node.ids[:count]
        return leaf

    def _lock(self, leaf: Node, grows: bool) -> Node:
        leaf.locks += 1
        leaf.grows = grows
        leaf.used = self._tick()
        return leaf

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

import itertools

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from codecria.common.errors import CodecriaError
from codecria.generation import prefix_tree
from codecria.generation.extent import Layout
from codecria.generation.prefix_tree import CacheFullError, PrefixTree

BLOCK = 4


def new_tree(budget_blocks=10_000):
    layout = Layout(1, 1, 2, torch.float32, torch.device("cpu"), block_slots=BLOCK)
    return PrefixTree(layout, budget_blocks * layout.block_bytes)


def extend(tree, leaf, ids):
    """Append tokens, the "key" of each being its id and its position."""
    tree.reserve(leaf, len(ids))
    keys = torch.tensor([[[float(id), float(leaf.end + place)] for place, id in enumerate(ids)]])
    if ids:
        leaf.extent.write(0, leaf.stop, keys, -keys)
    leaf.ids.extend(ids)


def held(leaf):
    """Ids of a path, checked against the keys that lie in its slots."""
    ids = []
    for node in leaf.path():
        keys, values = node.extent.read(0, node.slot, node.stop)
        assert node.first == len(ids)
        assert torch.equal(keys, -values)
        expected = [[float(id), float(node.first + place)] for place, id in enumerate(node.ids)]
        assert keys[0, 0].tolist() == expected
        ids += node.ids
    return ids


def insert(tree, ids, limit=None):
    leaf = tree.open(ids, len(ids) if limit is None else limit)
    found = leaf.end
    assert held(leaf) == ids[:found]
    extend(tree, leaf, ids[found:])
    tree.close(leaf)
    return found


def count(tree):
    return len(list(tree.nodes()))


def test_a_leaf_that_nobody_uses_goes_on_in_place():
    tree = new_tree()
    assert insert(tree, list(range(1000))) == 0
    before = next(iter(tree.nodes())).extent
    for step in range(100):
        assert insert(tree, [*range(1000 + step), 5, 6, 7]) == 1000 + max(0, step - 1)
    assert count(tree) == 1 and next(iter(tree.nodes())).extent is before


def test_keystrokes_before_a_long_end_do_not_grow_a_chain():
    tree = new_tree()
    text, end = list(range(2000)), list(range(5000, 6000))
    for typed in range(0, 400, 4):
        insert(tree, [*text[: 1000 + typed], *end])
    leaf = tree.open([*text[:1396], 1], 1397)
    assert len(leaf.path()) <= 4
    assert leaf.end == 1396


def test_a_running_leaf_is_shared_by_a_split_without_a_copy_and_goes_on():
    tree = new_tree()
    first = tree.open(list(range(600)), 599)
    extend(tree, first, list(range(600)))
    place = first.extent.read(0, 0, 1)[0].data_ptr()
    second = tree.open([*range(500), 9, 9], 501)
    assert second.end == 500 and second.path()[0].extent is first.extent
    assert first.extent.read(0, 0, 1)[0].data_ptr() == place
    extend(tree, second, [9, 9])
    extend(tree, first, [1, 2, 3])
    assert held(first) == [*range(600), 1, 2, 3]
    assert held(second) == [*range(500), 9, 9]
    third = tree.open([*range(600), 1, 2, 3, 4], 603)
    assert third.end == 603
    extend(tree, third, [4])
    extend(tree, first, [8])
    assert held(first) == [*range(600), 1, 2, 3, 8] and held(third) == [*range(600), 1, 2, 3, 4]


def test_a_short_common_beginning_is_copied():
    tree = new_tree()
    insert(tree, [1, 2, 3, *range(1000, 2000)])
    assert insert(tree, [1, 2, 3, *range(3000, 4000)]) == 3
    assert insert(tree, [1, 2, 3, *range(1000, 2000), 5]) == 1003
    assert [len(node.path()) for node in tree.nodes()] == [1, 1]


def test_the_leaf_used_longest_ago_is_given_up_first_and_running_ones_never():
    tree = new_tree(budget_blocks=36)
    for start in (0, 1000, 2000):
        insert(tree, list(range(start, start + 40)))
    insert(tree, [*range(40), 7])
    running = tree.open([*range(1000, 1040), 7], 41)
    assert running.end == 40
    insert(tree, list(range(3000, 3040)))
    assert tree.evictions == 1
    assert insert(tree, list(range(2000, 2040))) == 0
    assert held(running) == list(range(1000, 1040))
    with pytest.raises(CacheFullError, match="has no room"):
        tree.reserve(running, 200)
    assert issubclass(CacheFullError, CodecriaError)
    assert tree.evictions == 2, "what cannot succeed gives nothing up"


def test_the_end_of_a_split_leaf_gives_its_blocks_back_and_the_rest_is_one_node_again():
    tree = new_tree()
    insert(tree, list(range(1000)))
    insert(tree, [*range(500), *range(5000, 6000)])
    assert count(tree) == 3
    tree.make_room(tree.budget - 1500 * tree.layout.slot_bytes)
    # The end of the first text was used longest ago.
    assert count(tree) == 2 and tree.nbytes == 1500 * tree.layout.slot_bytes
    insert(tree, [*range(500), *range(700, 1700)])
    assert insert(tree, [*range(500), *range(5000, 6000), 4]) == 1500


def test_memory_that_the_machine_lacks_costs_idle_leaves_and_then_fails():
    tree = new_tree(budget_blocks=2**60)
    insert(tree, list(range(1000, 1040)))
    running = tree.open([1, 2, 3], 2)
    extend(tree, running, [1, 2, 3])
    with pytest.raises(CacheFullError, match="the machine has no memory"):
        tree.reserve(running, 2**46)
    assert tree.evictions == 1 and count(tree) == 1 and held(running) == [1, 2, 3]
    assert tree.nbytes == tree.layout.block_bytes
    extend(tree, running, [4, 5, 6])
    assert held(running) == [1, 2, 3, 4, 5, 6]


def test_a_spoilt_text_is_forgotten_but_not_what_others_run_behind():
    tree = new_tree()
    insert(tree, list(range(600)))
    bad, good = tree.open([*range(600), 1], 600), tree.open([*range(600), 2], 600)
    extend(tree, bad, [1])
    extend(tree, good, [2])
    tree.forget(bad)
    assert held(good) == [*range(600), 2]
    tree.forget(good)
    assert count(tree) == 0 and tree.nbytes == 0


prompts = st.lists(st.integers(0, 2), min_size=1, max_size=24)


class Machine(RuleBasedStateMachine):
    """The tree against plain lists: what each running text holds, and how many bytes the extents take."""

    def __init__(self):
        super().__init__()
        self.tree = new_tree(budget_blocks=24)
        self.running = []

    @rule(prompt=prompts)
    def open(self, prompt):
        try:
            leaf = self.tree.open(prompt, len(prompt) - 1)
        except CacheFullError:
            return
        assert leaf.end < len(prompt) and held(leaf) == prompt[: leaf.end]
        try:
            extend(self.tree, leaf, prompt[leaf.end :])
            self.running.append((leaf, list(prompt)))
        except CacheFullError:
            self.tree.close(leaf)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), ids=prompts)
    def grow(self, data, ids):
        leaf, text = data.draw(st.sampled_from(self.running))
        if not leaf.grows:
            return
        try:
            extend(self.tree, leaf, ids)
            text += ids
        except CacheFullError:
            pass

    @precondition(lambda self: self.running)
    @rule(data=st.data(), spoilt=st.booleans())
    def end(self, data, spoilt):
        number = data.draw(st.integers(0, len(self.running) - 1))
        leaf, _ = self.running.pop(number)
        if not leaf.grows and data.draw(st.booleans()):
            kept = self.tree.keep(leaf, [0, 1])
            if kept is not None:
                keys = torch.tensor([[[0.0, float(leaf.end)], [1.0, float(leaf.end + 1)]]])
                kept.extent.write(0, 0, keys, -keys)
        (self.tree.forget if spoilt else self.tree.close)(leaf)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def fork(self, data):
        leaf, text = data.draw(st.sampled_from(self.running))
        if leaf.grows:
            self.tree.share(leaf, 2)
            self.running.append((leaf, list(text)))

    @rule(blocks=st.integers(1, 24))
    def make_room(self, blocks):
        more = blocks * self.tree.layout.block_bytes
        before = self.tree.evictions
        try:
            self.tree.make_room(more)
            assert self.tree.free >= more
        except CacheFullError:
            assert self.tree.evictions == before

    @invariant()
    def texts_are_right(self):
        for leaf, text in self.running:
            assert held(leaf) == text

    @invariant()
    def bytes_are_right(self):
        nodes = list(self.tree.nodes())
        extents = {node.extent for node in nodes}
        assert self.tree.nbytes == sum(extent.nbytes for extent in extents) <= self.tree.budget
        assert self.tree.locked_bytes() <= self.tree.nbytes
        for extent in extents:
            views = sorted((node for node in nodes if node.extent is extent), key=lambda node: (node.slot, node.stop))
            assert views[0].slot == 0 and views[-1].stop <= extent.capacity
            for one, other in itertools.pairwise(views):
                assert one.stop == other.slot and other.parent is one

    @invariant()
    def the_tree_hangs_together(self):
        for node in self.tree.nodes():
            assert node in node.parent.children and node.first == node.parent.end
            assert node.ids or node.locks
            assert not (node.grows and node.children)


class TestWithSmallShares(Machine.TestCase):
    settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(prefix_tree, "SHARE_LEAST", 3)


def test_who_grows_takes_more_where_moving_is_dear():
    layout = Layout(1, 1, 2, torch.float32, torch.device("cpu"), block_slots=BLOCK, growth_slots=20)
    tree = PrefixTree(layout, 20 * layout.block_bytes)
    one, other = tree.open([1], 0), tree.open([2], 0)
    for leaf in (one, other):
        extend(tree, leaf, [1] * 8)
    assert one.extent.capacity == other.extent.capacity == 8  # a prompt that is read takes what it needs
    extend(tree, one, [3])
    assert one.extent.capacity == layout.whole(9 + 20)
    moves = one.extent.moves
    for _ in range(20):
        extend(tree, one, [3])
    assert one.extent.moves == moves
    extend(tree, one, [3] * 8)
    assert one.extent.capacity == layout.whole(37 + 20)
    extend(tree, other, [4])  # no room for more than it needs
    assert other.extent.capacity == 12
    assert tree.evictions == 0

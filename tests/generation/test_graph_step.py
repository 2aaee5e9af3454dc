"""The static step that a CUDA graph is captured of, run without a graph, against the eager pass."""

import logging

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from codecria.generation import engine as engine_room
from codecria.generation.cache import Cache
from codecria.generation.engine import Engine
from codecria.generation.extent import Extent
from codecria.generation.fused import fuse
from codecria.generation.graph_step import PATIENCE, GraphStep, new_graph_step
from codecria.generation.pass_attention import Pass
from codecria.generation.prefix_tree import SHARE_LEAST
from codecria.generation.sampling import SamplingOptions
from codecria.model.transformer import Transformer
from tests.generation.conftest import drain, prompts_of, random_ids, random_model, shape

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def dirty_memory(monkeypatch):
    """New memory holds NaN, as memory that comes as it is may."""
    take = Extent._empty

    def dirty(self, shape, dtype):
        return take(self, shape, dtype).fill_(torch.nan if dtype.is_floating_point else 1)

    monkeypatch.setattr(Extent, "_empty", dirty)


class Twins:
    """The same texts in two caches, one with the static step where that is ready, one eager; scores are compared."""

    def __init__(self, model, tolerance=1e-5, patience=0, device=CPU, **cache):
        self.model, self.tolerance, self.device = fuse(model.to(device)), tolerance, device
        self.step = GraphStep(self.model, capture=device.type == "cuda", patience=patience)
        dtype = model.model.norm.weight.dtype
        self.mine, self.theirs = (
            Cache(model.config, dtype=dtype, device=device, budget=2**28, **{"block_slots": 4, **cache})
            for _ in range(2)
        )

    def open(self, ids):
        places = [cache.open(ids) for cache in (self.mine, self.theirs)]
        self.write(places, ids[places[0].length :])
        return places

    def eager(self, cache, place, ids):
        new = Pass(cache, [place], [ids])
        hidden_BLD = self.model(torch.tensor([ids], device=self.device), positions_BL=new.positions_BL, cache=new)
        new.commit()
        return self.model.logits(hidden_BLD[:, -1])

    @torch.inference_mode()
    def write(self, places, ids):
        """Whether the static step did it."""
        for cache, place in zip((self.mine, self.theirs), places, strict=True):
            cache.reserve(place, len(ids))
        found = self.step.run(places[:1], [ids])
        static = found is not None
        if found is None:
            found = self.eager(self.mine, places[0], ids)
        expected = self.eager(self.theirs, places[1], ids)
        assert places[0].leaf.ids == places[1].leaf.ids
        error = (found - expected).norm() / expected.norm()
        assert error < self.tolerance, error
        return static

    def close(self, places):
        for cache, place in zip((self.mine, self.theirs), places, strict=True):
            cache.close(place)


def spoil(cache):
    """Leave NaN wherever nothing is held, as a text that failed may have."""
    held = {}
    for node in cache.tree.nodes():
        held[node.extent] = max(held.get(node.extent, 0), node.stop)
    for extent, stop in held.items():
        for layer in range(cache.layout.layers):
            for stored in extent.read(layer, stop, extent.capacity):
                stored.fill_(torch.nan)


@pytest.mark.parametrize("changes", [{}, {"num_kv_heads": 4}, {"num_kv_heads": 1}, {"tied_embeddings": True}], ids=str)
def test_every_step_equals_the_eager_pass_while_the_memory_grows(changes):
    twins = Twins(random_model(**changes))
    places = twins.open(random_ids(9))
    capacities = set()
    for id in random_ids(60, seed=1):
        assert twins.write(places, [id])
        capacities.add(places[0].leaf.extent.capacity)
    assert len(capacities) > 5
    assert twins.step.captures == len(capacities)
    assert twins.step.steps == 60


def test_bfloat16():
    twins = Twins(random_model(dtype=torch.bfloat16), tolerance=0.06)
    places = twins.open(random_ids(30))
    assert all(twins.write(places, [id]) for id in random_ids(20, seed=1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_steps_equal_the_eager_pass_over_several_memories():
    twins = Twins(random_model(), tolerance=1e-3, device=torch.device("cuda"))
    for number in range(2):
        places = twins.open(random_ids(9, seed=number))
        assert all(twins.write(places, [id]) for id in random_ids(200, seed=7))
        twins.close(places)
    assert twins.step.captures >= 2
    assert twins.step.steps == 400


def test_after_a_split_of_the_tree_the_text_is_still_one_run_and_who_split_it_is_not():
    twins = Twins(random_model(max_positions=1024), block_slots=64)
    long = random_ids(SHARE_LEAST + 90, seed=2)
    first = twins.open(long)
    assert twins.write(first, [3])
    second = twins.open([*long[: SHARE_LEAST + 20], 7, 8, 9])
    assert len(first[0].leaf.path()) == len(second[0].leaf.path()) == 2
    captures = twins.step.captures
    for id in (4, 5):
        assert twins.write(first, [id])
        assert not twins.write(second, [id])
    assert twins.step.captures == captures
    twins.close(second)
    assert twins.write(first, [6])


def test_after_a_cancel_another_text_goes_on_in_the_same_memory():
    twins = Twins(random_model(), block_slots=64)
    prompt = random_ids(12, seed=3)
    first = twins.open(prompt)
    assert all(twins.write(first, [id]) for id in (1, 2, 3, 4))
    twins.close(first)
    spoil(twins.mine)
    again = twins.open([*prompt, 1, 9])  # cut back in place
    assert again[0].leaf.extent is first[0].leaf.extent
    assert all(twins.write(again, [id]) for id in (5, 6, 7))
    assert twins.step.captures == 1


def test_a_draft_between_two_steps_leaves_nothing_behind():
    twins = Twins(random_model(), block_slots=64)
    places = twins.open(random_ids(12, seed=3))
    assert twins.write(places, [1])
    assert not twins.write(places, [2, 3, 4])
    for place in places:
        del place.leaf.ids[-2:]
    spoil(twins.mine)
    assert twins.write(places, [5])


def test_it_waits_for_some_tokens_in_one_memory():
    twins = Twins(random_model(), patience=PATIENCE, block_slots=64)
    one, other = twins.open(random_ids(5, seed=1)), twins.open(random_ids(5, seed=2))
    turns = [twins.write(each, [id]) for id in range(12) for each in (one, other)]
    assert not any(turns) and twins.step.captures == 0  # texts that take turns are never captured
    assert [twins.write(one, [id]) for id in range(PATIENCE + 2)] == [False] * PATIENCE + [True] * 2


def test_what_is_not_for_a_graph():
    twins = Twins(random_model())
    one, other = twins.open(random_ids(5, seed=1)), twins.open(random_ids(5, seed=2))
    assert twins.step.run([one[0], other[0]], [[1], [2]]) is None
    assert twins.step.run([one[0]], [[1, 2]]) is None
    twins.mine.fork(other[0], 1)
    assert twins.step.run([twins.mine.new_row(other[0].leaf)], [[1]]) is None
    small = Twins(random_model(), tolerance=0.1, stored="int8")
    assert not small.write(small.open(random_ids(5)), [1])
    assert new_graph_step(twins.model) is None


def test_scores_that_are_kept_are_not_written_over():
    twins = Twins(random_model(), block_slots=64)
    places = twins.open(random_ids(5))
    twins.mine.reserve(places[0], 2)
    with torch.inference_mode():
        kept = twins.step.run(places[:1], [[1]])
        before = kept.clone()
        twins.step.run(places[:1], [[2]])
    assert torch.equal(kept, before)


class FailingStep(GraphStep):
    """Its capture fails as CUDA's do; all around it is as it is."""

    def _record(self, memory):  # noqa: ARG002
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")


@pytest.mark.usefixtures("in_pytorch")
def test_a_capture_that_fails_is_told_once_and_texts_go_on(caplog, monkeypatch):
    model = random_model()
    expected = Engine(model, draft_tokens=0).generate(prompts_of(), greedy())
    monkeypatch.setattr(engine_room, "new_graph_step", lambda model: FailingStep(model, patience=2))
    engine = Engine(model, draft_tokens=0)
    with caplog.at_level(logging.WARNING):
        for prompt, (result,) in zip(prompts_of(), expected, strict=True):
            assert engine.generate([prompt], greedy())[0][0].ids == result.ids
    (record,) = caplog.records
    assert "no CUDA graph" in record.message


def greedy(**changes):
    return SamplingOptions(**{"max_tokens": 24, **changes})


@pytest.mark.usefixtures("in_pytorch")
@pytest.mark.parametrize("draft_tokens", [0, 8])
def test_an_engine_with_it_writes_the_same_texts(monkeypatch, draft_tokens):
    model = random_model()
    made = []

    def static(model):
        made.append(GraphStep(model, capture=False, patience=2))
        return made[-1]

    plain = Engine(model, draft_tokens=draft_tokens)
    monkeypatch.setattr(engine_room, "new_graph_step", static)
    engine = Engine(model, draft_tokens=draft_tokens)
    for options in (greedy(), greedy(temperature=0.9, seed=4), greedy(n=2, temperature=0.9, seed=4)):
        for prompt in [*prompts_of((1, 40, 90)), [5] * 30]:
            found, expected = (
                [each.ids for each in each_engine.generate([prompt], options)[0]] for each_engine in (engine, plain)
            )
            assert found == expected
    assert made[0].steps > 40
    stopped = engine.submit(random_ids(20, seed=9), greedy())
    for _ in range(9):
        engine.step()
    engine.cancel(stopped)
    beside = [engine.submit(prompt, greedy()) for prompt in prompts_of()]
    drain(engine)
    for (sequence,), (expected,) in zip(beside, plain.generate(prompts_of(), greedy()), strict=True):
        assert sequence.result().ids == expected.ids


@torch.no_grad()
def test_the_step_is_one_graph_whatever_the_slot():
    twins = Twins(random_model(), block_slots=64)
    extent = twins.open(random_ids(40))[0].leaf.extent
    extent.clear(40)
    compiled = torch.compile(twins.step.compute, fullgraph=True, backend="eager")
    for number, (id, slot) in enumerate([(3, 40), (9, 41), (2, 50)]):
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            twins.step._numbers_3.copy_(torch.tensor([id, slot, slot]))
            torch.testing.assert_close(compiled(extent, 0), twins.step.compute(extent, 0))


class Calls(TorchDispatchMode):
    """What is called, and on which devices."""

    def __init__(self):
        super().__init__()
        self.names, self.devices = set(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.names.add(func._opname)
        self.devices |= {
            each.device.type for each in tree_leaves((args, kwargs, out)) if isinstance(each, torch.Tensor)
        }
        return out


def test_off_the_cpu_it_takes_nothing_from_the_host_and_hands_nothing_back(monkeypatch):
    """On the meta device, where the code takes the turns it takes on CUDA and no number can be read."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _device: False)  # autocast does not know this device
    meta = torch.device("meta")
    with meta:
        model = fuse(Transformer(shape()).to(torch.bfloat16).eval())
    with torch.inference_mode():
        cache = Cache(model.config, dtype=torch.bfloat16, device=meta, budget=2**28)
        place = cache.open(random_ids(40))
        step = GraphStep(model, capture=False, patience=0)
        with Calls() as calls:
            step.compute(place.leaf.extent, 0)
    assert calls.devices == {"meta"}
    assert "index_copy_" in calls.names
    assert not calls.names & {"_local_scalar_dense", "lift_fresh", "nonzero"}

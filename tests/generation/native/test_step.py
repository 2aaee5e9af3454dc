"""Whole passes in C against the same passes in PyTorch; skipped where the library cannot be had."""

import pytest
import torch
from torch import nn

from codecria.generation.cache import Cache
from codecria.generation.engine import Engine
from codecria.generation.fused import FusedBlock, fuse, fused_blocks
from codecria.generation.matrices import Int4, Int8, Plain, beside
from codecria.generation.native import library as room
from codecria.generation.native import step as steps
from codecria.generation.native.step import NativeStep, UnfitError
from codecria.generation.pass_attention import Pass
from codecria.generation.quantise import eight_bits, group
from codecria.generation.quantised import QuantisedBlock, QuantisedTable, QuantisedTransformer
from codecria.generation.sampling import SamplingOptions
from tests.generation.conftest import prompts_of, random_ids, random_model

SHAPES = {"inward": (128, 64), "outward": (64, 64), "gate_up": (256, 64), "down": (64, 128)}


@pytest.fixture(scope="module")
def built():
    found = room.build()
    if found is None:
        pytest.skip("no C compiler here, or no AVX2")
    return found


class Twins:
    """The same texts in two caches: one taken further in C, one in PyTorch; each pass's scores are compared."""

    def __init__(self, library, model, stored="model", tolerance=2e-4):
        self.model, self.tolerance = fuse(model), tolerance
        self.step = NativeStep(self.model, fused_blocks(self.model), library)
        dtype = model.model.norm.weight.dtype
        self.caches = [
            Cache(model.config, dtype=dtype, device=torch.device("cpu"), budget=2**28, stored=stored, block_slots=4)
            for _ in range(2)
        ]

    @torch.inference_mode()
    def read(self, ids, chunk=30):
        places = [cache.open(ids) for cache in self.caches]
        while places[0].length < len(ids):
            self.run([places], [ids[places[0].length : places[0].length + chunk]], scored=1)
        return places

    def samples(self, places, count):
        for cache, place in zip(self.caches, places, strict=True):
            cache.fork(place, count)
        return [
            [cache.new_row(place.leaf) for cache, place in zip(self.caches, places, strict=True)] for _ in range(count)
        ]

    @torch.inference_mode()
    def run(self, rows, ids, scored=None):
        scored = len(ids[0]) if scored is None else scored
        mine, theirs = ([row[side] for row in rows] for side in (0, 1))
        for cache, places in zip(self.caches, (mine, theirs), strict=True):
            for place, some in zip(places, ids, strict=True):
                cache.reserve(place, len(some))
        found = self.step.run(self.caches[0], mine, ids, scored)
        new = Pass(self.caches[1], theirs, ids)
        hidden = self.model(torch.tensor(ids), positions_BL=new.positions_BL, cache=new)
        new.commit()
        expected = self.model.logits(hidden[:, len(ids[0]) - scored :].flatten(0, 1))
        assert found.shape == expected.shape
        assert [place.length for place in mine] == [place.length for place in theirs]
        error = (found - expected).norm() / expected.norm()
        assert error < self.tolerance, error


def play(twins):
    """Every kind of place there is."""
    lone = twins.read(random_ids(400, seed=1))
    twins.run([lone], [[3]])
    twins.run([lone], [[4, 5, 6, 7, 8, 9, 10]])
    split = twins.read([*random_ids(400, seed=1)[:300], 7, 8])  # behind 300 tokens of the first, in a memory of its own
    assert len(split[0].leaf.path()) == 2
    twins.run([split], [[1, 2]])
    other = twins.read(random_ids(700, seed=2))  # long enough to be cut into pieces
    samples = twins.samples(twins.read(random_ids(9, seed=3)), 3)
    twins.run([lone, *samples, split, other], [[number] for number in range(6)])
    twins.run([samples[1]], [[9]])
    twins.run([other, samples[0], samples[1]], [[8], [7], [6]])
    for cache, place in zip(twins.caches, samples[0], strict=True):
        cache.close(place)
    twins.run([samples[2], samples[1]], [[5], [4]])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "changes", [{}, {"num_kv_heads": 4}, {"num_kv_heads": 1}, {"head_dim": 64}, {"tied_embeddings": True}], ids=str
)
def test_floats(built, changes, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    play(Twins(built, random_model(**changes)))


def test_bfloat16(built):
    play(Twins(built, random_model(dtype=torch.bfloat16), tolerance=0.06))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [250, 511, 700, 1100])
def test_tokens_have_the_same_bits_one_at_a_time_and_together(built, dtype, length):
    """What drafts rest on: a guess that holds changes no later draw."""
    twins = Twins(built, random_model(dtype=dtype))
    ids, more = random_ids(length, seed=1), random_ids(12, seed=2)
    alone, together = (cache.open(ids) for cache in twins.caches)
    with torch.inference_mode():
        for cache, place in zip(twins.caches, (alone, together), strict=True):
            while place.length < length:
                some = ids[place.length : place.length + 30]
                cache.reserve(place, len(some))
                twins.step.run(cache, [place], [some], 0)
            cache.reserve(place, len(more))
        one_by_one = torch.cat([twins.step.run(twins.caches[0], [alone], [[id]], 1) for id in more])
        assert torch.equal(one_by_one, twins.step.run(twins.caches[1], [together], [more], len(more)))


def test_keys_and_values_of_eight_bits(built):
    play(Twins(built, random_model(), stored="int8", tolerance=0.06))


@pytest.mark.parametrize("form", ["int8", "int4", "int4 and adapter"])
def test_weights_of_few_bits(built, form):
    def narrow(weight, number):
        if form == "int8":
            return Int8(*eight_bits(weight))
        product = Int4(group(weight), torch.device("cpu"))
        if form == "int4":
            return product
        source = torch.Generator().manual_seed(number)
        rows, inputs = weight.shape
        down, up = torch.randn(16, inputs, generator=source), torch.randn(rows, 16, generator=source)
        return beside(product, [(rows, down, up)], 0.01)

    model = random_model(dtype=torch.bfloat16, intermediate_size=128)
    floats = fused_blocks(model)
    assert [each.tensors[0].shape for each in floats[0].products] == list(SHAPES.values())
    model.model.layers = nn.ModuleList(
        QuantisedBlock(block, [narrow(each.tensors[0].float(), number) for each in floats[number].products])
        for number, block in enumerate(list(model.model.layers))
    )
    table, head = (Int8(*eight_bits(each.float())) for each in (model.model.embed_tokens.weight, model.head_weight))
    model.__class__, model.lm_head, model.head = QuantisedTransformer, None, head
    model.model.embed_tokens = QuantisedTable(table)
    # PyTorch rounds the stream to bfloat16, the step each group of a token to eight bits, and these weights are wild.
    play(Twins(built, model, tolerance=0.15))


def test_what_is_changed_in_place_is_seen(built):
    twins = Twins(built, random_model())
    place = twins.read([1, 2, 3])
    with torch.no_grad():
        for weight in twins.model.parameters():
            weight.mul_(1.1)
    twins.run([place], [[4]])


def test_a_score_that_is_no_number_shows(built):
    twins = Twins(built, random_model())
    place = twins.read([1, 2, 3])
    with torch.no_grad():
        twins.model.model.layers[1].self_attn.v_proj.weight[3, 3] = torch.nan
    twins.caches[0].reserve(place[0], 1)
    assert twins.step.run(twins.caches[0], [place[0]], [[5]], 1).isnan().any()


@pytest.mark.parametrize("changes", [{"head_dim": 24}, {"vocab_size": 161}, {"hidden_size": 68}], ids=str)
def test_a_model_that_does_not_fit_is_refused(built, changes):
    model = fuse(random_model(**changes))
    with pytest.raises(UnfitError):
        NativeStep(model, fused_blocks(model), built)


def test_a_block_with_a_layer_of_another_kind_is_none_of_ours():
    model = random_model()
    model.model.layers[1].mlp.up_proj = nn.Sequential(model.model.layers[1].mlp.up_proj)
    assert fused_blocks(model) is None
    assert all(isinstance(block, FusedBlock) for block in fused_blocks(random_model()))
    assert all(type(each) is Plain for block in fused_blocks(random_model()) for each in block.products)


def test_the_engine_writes_what_it_writes_without(built, monkeypatch):
    """Samples of several prompts at once and drafts: the same texts, in C and in PyTorch."""
    made = []
    for library in (None, built):
        monkeypatch.setattr(steps, "loaded", lambda library=library: library)
        engine = Engine(random_model(), max_rows=5)
        greedy, sampled = SamplingOptions(max_tokens=20), SamplingOptions(max_tokens=9, n=3, temperature=1.0, seed=4)
        prompts = [*prompts_of(), [1, 2, 3, 4, 5, 6, 1, 2, 3]]
        texts = [engine.generate(prompts, options) for options in (greedy, sampled)]
        texts.append([engine.generate([prompt], greedy)[0] for prompt in prompts])
        made.append([[[one.ids for one in samples] for samples in text] for text in texts])
    assert made[0] == made[1]

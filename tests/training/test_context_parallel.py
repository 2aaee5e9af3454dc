from dataclasses import replace

import numpy as np
import pytest
import torch

from codecria.batches.loader import Sequence
from codecria.model.transformer import Transformer
from codecria.training.context_parallel import ContextShards
from codecria.training.parallel import World, open_world
from codecria.training.recipe import ParallelRecipe, TrainRecipe
from codecria.training.step import take_gradient
from tests.model import variants
from tests.training import forks

CASES = {
    "documents across chunk borders": ([[70, 1, 33, 96, 41], [5, 230]], {}),
    "one document": ([[241]], {}),
    "sequences at once": ([[70, 1, 33, 96, 41], [5, 230]], {"document_attention": False}),
    "sequences one by one": (
        [[70, 1, 33, 96, 41], [5, 230]],
        {"document_attention": False, "sequences_per_micro_batch": 1},
    ),
    "micro-batches": ([[70, 30], [100], [1, 99], [3, 96]], {"sequences_per_micro_batch": 2}),
    "bfloat16": ([[70, 1, 33, 96, 41]], {"precision": "bf16"}),
    "targets on one rank": ([[300]], {}),
}


def rows(name):
    source = np.random.default_rng(0)
    for lengths in CASES[name][0]:
        length = sum(lengths)
        weights = source.random(length).astype(np.float32) * (source.random(length) < 0.7)
        weights[np.cumsum([0, *lengths[:-1]])] = 0.0
        if name == "targets on one rank":
            weights[20:] = 0.0
        kinds = source.integers(0, 4, length).astype(np.uint8)
        ids = source.integers(0, 160, length)
        yield Sequence(ids, weights, kinds, lengths, source.choice(["code", "text"]), 0, {"psm": 3, "plain": 1})


def gradient(name, world, kv_heads=2):
    """The step's figures and the gradient, the ranks' added up."""
    model = Transformer(variants.tiny(num_kv_heads=kv_heads, max_positions=512))
    model.initialise(0, std=0.2)
    batch = list(rows(name))
    values = {"sequences_per_step": len(batch), "sequences_per_micro_batch": len(batch), "precision": "fp32"}
    recipe = TrainRecipe.model_validate(
        {"model": "", "corpus": "", "steps": 1, **values, **CASES[name][1], "optimiser": {"clip_norm": 1e9}}
    )
    figures = take_gradient(model, list(model.parameters()), batch, recipe, world, ["code", "text"])
    whole = torch.cat([each.grad.flatten() for each in model.parameters()])
    return replace(figures, gradient_norm=0.0), world.add_up(whole)


def run_cases(ranks, folder):
    """All cases on one of the ranks that share each sequence."""
    with open_world(ParallelRecipe(context=ranks), "cpu") as world:
        results = {(name, kv_heads): gradient(name, world, kv_heads) for name in CASES for kv_heads in (4, 2)}
        torch.save(results, folder / f"{world.rank}.pt")
        world.barrier()


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def by_rank(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    forks.run(run_cases, request.param, folder, ranks=request.param)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(request.param)]


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("name", CASES)
def test_ranks_that_share_sequences_give_one_process_gradient(by_rank, name, kv_heads):
    figures, expected = gradient(name, World(torch.device("cpu")), kv_heads)
    tolerance = 2e-2 if name == "bfloat16" else 1e-5
    for rank in by_rank:
        got, summed = rank[name, kv_heads]
        assert (summed - expected).norm() < tolerance * expected.norm()
        assert got.loss == pytest.approx(figures.loss, rel=tolerance)
        for key, loss in (figures.loss_by_kind | figures.loss_by_source).items():
            assert (got.loss_by_kind | got.loss_by_source)[key] == pytest.approx(loss, rel=tolerance)
        assert got.target_weight == pytest.approx(figures.target_weight, rel=1e-6)
        assert (got.tokens, got.forms) == (figures.tokens, figures.forms)


def test_sequences_stay_apart_where_their_documents_do_not():
    """However many of them go through the model at once."""
    alone, expected = gradient("sequences one by one", World(torch.device("cpu")))
    together, got = gradient("sequences at once", World(torch.device("cpu")))
    assert alone.loss == pytest.approx(together.loss, rel=1e-5)
    assert (got - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_shards_cover_the_row_once_with_equal_causal_work(ranks):
    shards = [ContextShards(40, rank, ranks) for rank in range(ranks)]
    row = torch.arange(80).view(1, 40, 2)
    parts = [each.take(row) for each in shards]
    assert torch.equal(shards[0].join(parts), row)
    assert len({part[0, :, 0].sum().item() for part in parts}) == 1
    documents = [[13, 1, 26]]
    whole = torch.cat([torch.arange(length) for length in documents[0]])[None]
    positions = [each.positions(documents, torch.device("cpu")) for each in shards]
    assert torch.equal(shards[0].join(positions), whole)

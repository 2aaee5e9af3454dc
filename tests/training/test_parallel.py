import json
import shutil
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from codecria.checkpoint.adapter import save_adapter
from codecria.common.errors import CodecriaError
from codecria.training.parallel import World, make_model, open_world
from codecria.training.recipe import LoraRecipe, ParallelRecipe, TrainRecipe
from codecria.training.start import begin
from tests.tiny import write_tiny_checkpoint
from tests.training.ranks import alone, on_ranks

CPU = torch.device("cpu")
END_ROW = {"rank": 3, "alpha": 6, "go_on": True, "trains": "end_row"}
TWO_RANKS = {
    "fsdp": {"parallel": {"shard": 2}},
    "fsdp accumulated, recomputed": {
        "parallel": {"activation_checkpointing": "full"},
        "sequences_per_step": 8,
        "sequences_per_micro_batch": 2,
    },
    "fsdp, gradients summed at every micro-batch": {
        "parallel": {"shard": 2, "reduce_each_micro_batch": True},
        "sequences_per_step": 8,
        "sequences_per_micro_batch": 2,
    },
    "adapters under fsdp": {"parallel": {"shard": 2}, "lora": {"rank": 3}},  # 3 rows do not divide
    "end row under fsdp": {"parallel": {"shard": 2}, "model": "adapter", "lora": END_ROW},
    "tensor": {"parallel": {"tensor": 2}},
    "tensor, head of its own, recomputed": {
        "parallel": {"tensor": 2, "activation_checkpointing": "selective"},
        "model": "untied",
    },
}
FOUR_RANKS = {
    "hsdp accumulated": {"parallel": {"replicate": 2}, "sequences_per_step": 8},
    "fsdp and tensor": {"parallel": {"shard": 2, "tensor": 2}, "sequences_per_micro_batch": 2},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_tiny_checkpoint(folder / "tied")
    shutil.copytree(folder / "tied", folder / "untied")
    weights = load_file(folder / "tied" / "model.safetensors")
    table = weights["model.embed_tokens.weight"]
    save_file(weights | {"lm_head.weight": table.roll(1, 0) * 0.9}, folder / "untied" / "model.safetensors")
    config = json.loads((folder / "tied" / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "untied" / "config.json").write_text(json.dumps(config))
    write_adapter(folder / "tied", folder / "adapter")
    return folder


def write_adapter(base, folder):
    """An adapter of a model for every layer that a recipe names, of random values."""
    draw = torch.Generator().manual_seed(0)
    weights = load_file(base / "model.safetensors")

    def noise(*shape):
        return torch.randn(*shape, generator=draw) * 0.05

    layers = [
        (name.removesuffix(".weight"), noise(3, each.shape[1]), noise(each.shape[0], 3))
        for name, each in weights.items()
        if name.split(".")[-2] in LoraRecipe().targets
    ]
    rows = {"model.embed_tokens.weight": noise(16, weights["model.embed_tokens.weight"].shape[1])}
    save_adapter(folder, layers, rows, base=str(base), alpha=6.0)


def values(models, changes):
    """Keys of a recipe; gradients are clipped, new rows learn faster."""
    return {
        "corpus": "none",
        "steps": 12,
        "sequences_per_step": 4,
        "batches": {"sequence_tokens": 256, "infill": {"rate": 0.9}},
        "optimiser": {"peak_rate": 1e-3, "clip_norm": 0.1, "new_rows_factor": 4.0},
        "precision": "fp32",
        **changes,
        "model": str(models / changes.get("model", "tied")),
    }


def check_ranks(size, runs, models, folder):
    runs = {name: values(models, changes) for name, changes in runs.items()}
    results = on_ranks(size, runs, folder / "ranks")
    for name, one in runs.items():
        lines, weights, parameters = alone(one | {"parallel": {}})
        ranks, sharded_weights = results[name]
        shown = lines if one["parallel"].get("tensor", 1) == 1 else lines[1:]
        for rank_lines, held in ranks:
            assert len(rank_lines) == len(shown), name
            for got, expected in zip(rank_lines, shown, strict=True):
                assert got == pytest.approx(expected, rel=1e-5), name
            assert held < (0.9 if "tensor" in name else 0.52) * parameters, name
        assert sharded_weights.keys() == weights.keys()
        for weight, expected in weights.items():
            torch.testing.assert_close(sharded_weights[weight], expected, atol=1e-5, rtol=0, msg=f"{name}: {weight}")


def test_two_ranks_train_as_one(models, tmp_path):
    """Losses, gradient norms (of a sum, not a mean, over ranks) and weights after some steps, new rows among them."""
    check_ranks(2, TWO_RANKS, models, tmp_path)


@pytest.mark.slow
def test_four_ranks_train_as_one(models, tmp_path):
    check_ranks(4, FOUR_RANKS, models, tmp_path)


class Calls(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.counts = getattr(self, "counts", Counter())
        self.counts[operation.name()] += 1
        return operation(*args, **(kwargs or {}))


def test_recomputing_activations_changes_no_bit(models):
    def run(mode):
        with Calls() as calls:
            lines, weights, _ = alone(values(models, {"parallel": {"activation_checkpointing": mode}}))
        products = calls.counts["aten::mm"] + calls.counts["mkldnn::_linear_pointwise"]
        return lines, weights, products, calls.counts["aten::silu"]

    lines, weights, products, activations = run("none")
    for mode in ("selective", "full"):
        recomputed, recomputed_weights, more_products, more_activations = run(mode)
        assert recomputed == lines
        assert all(torch.equal(recomputed_weights[name], weights[name]) for name in weights)
        assert more_activations > activations
        assert (more_products == products) == (mode == "selective")


def test_without_a_compiler_blocks_stay_eager_with_a_note(models, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    lines, _, _ = alone(values(models, {"parallel": {"compile": True}}))
    assert capsys.readouterr().err.count("no no-such-compiler") == 1
    assert lines == alone(values(models, {}))[0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_blocks_give_the_same_figures(models):
    from torch._dynamo.utils import counters

    lines, _, _ = alone(values(models, {}))
    counters.clear()
    compiled, _, _ = alone(values(models, {"parallel": {"compile": True, "activation_checkpointing": "full"}}))
    assert counters["stats"]["unique_graphs"] > 0
    for got, expected in zip(compiled, lines, strict=True):
        assert got == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("degrees", "ranks", "message"),
    [
        ({"shard": 2, "tensor": 4}, "2", "make 8 ranks, but 2 run; start the stage with torchrun --nproc-per-node 8"),
        ({"replicate": 4}, "6", "replicate 4 · shard 1 · context 1 · tensor 1 make 4 ranks, but 6 run"),
        ({"context": 2}, None, "make 2 ranks, but 1 runs; start the stage with torchrun --nproc-per-node 2"),
    ],
)
def test_degrees_that_do_not_make_the_ranks_are_one_clear_line(degrees, ranks, message, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if ranks is not None:
        monkeypatch.setenv("WORLD_SIZE", ranks)
    with pytest.raises(CodecriaError, match=message), open_world(ParallelRecipe(**degrees), "cpu"):
        pass


def test_tensor_ranks_that_do_not_divide_the_heads_are_one_clear_line(models):
    recipe = TrainRecipe.model_validate(values(models, {"parallel": {"tensor": 4}}))
    world = World(CPU, size=4, weight_mesh=object())
    with pytest.raises(CodecriaError, match="tensor = 4 does not divide the model's key-value heads, 2; lower it"):
        make_model(begin(recipe), recipe, world)

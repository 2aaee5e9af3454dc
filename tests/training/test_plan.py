from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from codecria.common.errors import CodecriaError
from codecria.model.config import PRESETS
from codecria.model.transformer import Transformer
from codecria.training.optimiser import make_optimiser
from codecria.training.parallel import World, make_model
from codecria.training.plan import Shape, plan, shape_after, shape_of
from codecria.training.recipe import TrainRecipe
from codecria.training.start import begin

_SMALL = replace(
    PRESETS["smollm2-135m"], vocab_size=512, hidden_size=192, intermediate_size=512, num_heads=3, num_kv_heads=3
)


def a_recipe(**values):
    batches = {"sequence_tokens": 4096, "infill": {"rate": 0.0}, **values.pop("batches", {})}
    base = {"model": "llama-2-7b", "corpus": "", "steps": 10, "sequences_per_step": 64, "batches": batches}
    return TrainRecipe.model_validate({**base, **values})


def planned(recipe, gpus=1):
    return plan(recipe, shape_after(recipe, shape_of(recipe.model)), gpus)


def sizes(plan):
    return {part.name: part.size_bytes for part in plan.memory}


def test_the_check_numbers_of_llama_2_7b():
    short = planned(a_recipe(steps=119_209, sequences_per_step=1024))
    assert short.flops_per_token == pytest.approx(46.1e9, rel=1e-3)
    assert short.gpu_hours(0.45, 989) == pytest.approx(14_400, rel=3e-3)
    long = planned(a_recipe(max_positions=16_384, batches={"sequence_tokens": 16_384}))
    assert long.flops_per_token == pytest.approx(65.4e9, rel=1e-3)
    attention = 12 * 32 * 4096 * 16_384
    assert long.causal_flops_per_token == long.flops_per_token - attention / 2
    assert short.parameters == short.trained == 6_738_415_616  # as transformers counts Llama 2 7B


@pytest.mark.parametrize("lora", [None, {"rank": 4}])
def test_the_shape_and_its_weights_gradients_and_moments_are_those_of_a_real_step(tiny, lora):
    recipe = a_recipe(
        model=str(tiny / "model"),
        precision="fp32",
        lora=lora,
        batches={"sequence_tokens": 256, "infill": {"rate": 0.5}},
    )
    start = begin(recipe)
    shape = shape_after(recipe, shape_of(recipe.model))
    assert (shape.config, shape.new_rows) == (start.config, start.new_rows)
    model = start.model(torch.device("cpu"))
    optimiser = make_optimiser(model, recipe.optimiser)
    ids = torch.randint(0, 600, (1, 64))
    model.loss(ids, ids, torch.ones(1, 64))[0].backward()
    optimiser.step()
    trained = [each for each in model.parameters() if each.requires_grad]
    counted = plan(recipe, shape, 1)
    found = sizes(counted)
    assert found["parameters"] == sum(each.nbytes for each in model.parameters())
    assert found["gradients"] == sum(each.grad.nbytes for each in trained)
    moments = [state[name] for state in optimiser.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert found["moments"] == sum(each.nbytes for each in moments)
    assert counted.trained == sum(each.numel() for each in trained)


class Allocations(TorchDispatchMode):
    """Storages that operations made and that still live."""

    def __init__(self):
        super().__init__()
        self.made = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for each in tree_leaves(output):
            if isinstance(each, torch.Tensor):
                storage = each.untyped_storage()
                self.made[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        return output

    def live_bytes(self, model):
        own = {each.untyped_storage()._cdata for each in model.parameters()}
        return sum(size for key, (ref, size) in self.made.items() if key not in own and not ref.expired())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("mode", ["none", "selective", "full"])
def test_activations_are_near_what_a_forward_pass_keeps(mode, precision):
    # On a CPU float32 keeps less: norms, gates and attention compute again in their own backward passes. bfloat16 keeps
    # more: norms a second vector, keys repeated for their queries. Fused kernels on a GPU do neither.
    tokens = 1100
    recipe = a_recipe(
        precision=precision,
        batches={"sequence_tokens": tokens},
        parallel={"activation_checkpointing": mode},
    )
    kept, counted = [], []
    for layers in (1, 2):
        config = replace(_SMALL, num_layers=layers)
        model = Transformer(config)
        model.initialise(0)
        start = SimpleNamespace(config=config, model=lambda _, model=model: model)
        make_model(start, recipe, World(torch.device("cpu")))
        ids = torch.zeros(1, tokens, dtype=torch.int64)
        with Allocations() as allocations, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            hidden = model(ids, documents=[[tokens]])
        kept.append(allocations.live_bytes(model))
        counted.append(sizes(plan(recipe, Shape(config, 512, False), 1))["activations"])
        if precision == "bf16" and mode == "none":  # autocast's copies of the matrices are counted apart
            kept[-1] -= 2 * sum(each.numel() for each in model.model.layers.parameters() if each.ndim == 2)
        del hidden
    assert kept[1] - kept[0] == pytest.approx(counted[1] - counted[0], rel=0.3)


def test_what_degrees_divide():
    alone = sizes(planned(a_recipe()))
    over = sizes(planned(a_recipe(parallel={"replicate": 2, "context": 2}), 16))
    for name in ("parameters", "gradients", "moments"):
        assert over[name] == alone[name] / 8  # shards of one of two copies: 4 · 2 ranks of a sequence
    split = sizes(planned(a_recipe(parallel={"tensor": 8}), 8))
    tables_and_norms = 4 * (2 * 32_000 * 4096 + 65 * 4096)
    assert split["parameters"] == pytest.approx(tables_and_norms + (alone["parameters"] - tables_and_norms) / 8)
    assert "whole gradient" not in alone
    assert sizes(planned(a_recipe(), 8))["whole gradient"] == alone["gradients"]


@pytest.mark.parametrize(
    ("parallel", "gpus", "error"),
    [
        ({"tensor": 8}, 12, "12 GPUs do not fit degrees whose product is 8"),
        ({"shard": 4}, 8, "8 GPUs do not fit degrees whose product is 4"),
        ({}, 48, "sequences_per_step = 64 is no multiple of 48 data ranks"),
    ],
)
def test_degrees_that_do_not_fit_are_refused(parallel, gpus, error):
    with pytest.raises(CodecriaError, match=error):
        planned(a_recipe(parallel=parallel), gpus)


def test_a_shape_that_is_not_known_says_which_are(tmp_path):
    with pytest.raises(CodecriaError, match="its shape is not known; fetch it first, or name one of llama-2-7b"):
        shape_of(str(tmp_path / "nothing"))
    # What a shipped recipe will give: Llama 2 7B with 16 rows more.
    assert shape_of("runs/code-7b/checkpoint").config.vocab_size == 32_016

import pytest
import torch

from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.common.errors import CodecriaError
from codecria.training.loop import train
from codecria.training.lora import plain_weights
from codecria.training.metrics import read_metrics
from codecria.training.recipe import TrainRecipe
from codecria.training.start import begin
from codecria.training.state import trainable


def test_adapters_begin_at_zero_and_merge_exactly(recipe_values):
    plain_start = begin(TrainRecipe.model_validate(recipe_values))
    start = begin(TrainRecipe.model_validate(recipe_values | {"lora": {"rank": 4}}))
    device = torch.device("cpu")
    plain, model = plain_start.model(device), start.model(device)
    ids = torch.randint(0, 600, (1, 40))
    assert torch.equal(model(ids), plain(ids))
    assert {name.rsplit(".", 1)[1] for name in trainable(model)} == {"lora_down", "lora_up", "rows"}
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter += 0.05
    weights = dict(plain_weights(model))
    assert set(weights) == set(plain.state_dict())
    adapted = model(ids)
    plain.load_state_dict(weights)
    torch.testing.assert_close(plain(ids), adapted, atol=1e-4, rtol=1e-4)


def test_a_run_trains_adapters_and_new_rows_only_and_resumes(recipe_values, tmp_path):
    values = recipe_values | {"lora": {"rank": 4, "alpha": 8}, "steps": 30}
    values["optimiser"] = {"peak_rate": 2e-2, "warm_up_steps": 3}
    recipe = TrainRecipe.model_validate(values)
    checkpoint = open_checkpoint(train(recipe, tmp_path / "run"))
    trained, parent = load_model(checkpoint).state_dict(), load_model(open_checkpoint(recipe.model)).state_dict()
    table, old = trained["model.embed_tokens.weight"], parent["model.embed_tokens.weight"]
    assert torch.equal(table[: len(old)], old)
    assert len(table) == len(old) + 16
    assert torch.equal(trained["model.norm.weight"], parent["model.norm.weight"])
    assert not torch.equal(trained["model.layers.1.mlp.up_proj.weight"], parent["model.layers.1.mlp.up_proj.weight"])
    # The adapter is the whole result: with its parent it gives the checkpoint, up to the rounding of bfloat16.
    adapted = load_model(open_checkpoint(tmp_path / "run" / "adapter")).state_dict()
    for name, value in trained.items():
        torch.testing.assert_close(adapted[name], value, atol=2e-3, rtol=1e-2)
    losses = [line["loss"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_a_run_goes_on_with_its_parents_adapter(recipe_values, tmp_path):
    values = recipe_values | {"lora": {"rank": 4, "alpha": 8}, "steps": 6}
    train(TrainRecipe.model_validate(values), tmp_path / "first")
    adapter = tmp_path / "first" / "adapter"
    on = values | {"model": str(adapter), "lora": {"rank": 4, "alpha": 8, "go_on": True}}
    start = begin(TrainRecipe.model_validate(on))
    merged = load_model(open_checkpoint(adapter))
    ids = torch.randint(0, merged.config.vocab_size, (1, 40))
    torch.testing.assert_close(start.model(torch.device("cpu"))(ids), merged(ids), atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, merged.state_dict()[name]) for name, value in start.plain_weights())
    # What comes out is an adapter of the first base, of the same size: not one on top of another.
    trained = load_model(open_checkpoint(train(TrainRecipe.model_validate(on), tmp_path / "second"))).state_dict()
    second = open_checkpoint(tmp_path / "second" / "adapter")
    assert second.source.base_name == recipe_values["model"]
    for name, value in load_model(second).state_dict().items():
        torch.testing.assert_close(value, trained[name], atol=2e-3, rtol=1e-2)


@pytest.mark.parametrize(
    ("lora", "model", "what"),
    [
        ({"rank": 8, "alpha": 8, "go_on": True}, "adapter", "rank 4, alpha 8"),
        ({"rank": 4, "alpha": 8, "go_on": True, "targets": ["q_proj"]}, "adapter", "targets down_proj"),
        ({"rank": 4, "alpha": 8, "go_on": True}, None, "is no adapter"),
    ],
)
def test_going_on_needs_an_adapter_of_the_same_shape(recipe_values, tmp_path, lora, model, what):
    values = recipe_values | {"lora": {"rank": 4, "alpha": 8}, "steps": 1}
    if model:
        train(TrainRecipe.model_validate(values), tmp_path)
        values["model"] = str(tmp_path / model)
    with pytest.raises(CodecriaError, match=what):
        begin(TrainRecipe.model_validate(values | {"lora": lora}))

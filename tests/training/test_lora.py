import torch

from codecria.checkpoint.open import load_model, open_checkpoint
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

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.common.errors import CodecriaError
from codecria.tokenizer.templates import FORMATS
from codecria.training.loop import train
from codecria.training.lora import plain_weights
from codecria.training.metrics import read_metrics
from codecria.training.plan import shape_after, shape_of
from codecria.training.recipe import TrainRecipe
from codecria.training.start import begin
from codecria.training.state import trainable
from tests.training.conftest import tiny_recipe


def test_adapters_begin_at_zero_and_merge_exactly(recipe_values):
    plain_start = begin(TrainRecipe.model_validate(recipe_values))
    start = begin(TrainRecipe.model_validate(recipe_values | {"lora": {"rank": 4}}))
    device = torch.device("cpu")
    plain, model = plain_start.model(device), start.model(device)
    ids = torch.randint(0, 600, (1, 40), generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(ids), plain(ids))
    assert {name.rsplit(".", 1)[1] for name in trainable(model)} == {"lora_down", "lora_up", "rows"}
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter += 0.02  # at 0.05 the tiny model magnifies rounding up to the tolerance
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


def test_an_adapter_that_goes_on_keeps_its_parents_positions(recipe_values, tmp_path):
    lora = {"rank": 4, "alpha": 8}
    first = recipe_values | {"lora": lora, "steps": 2, "rope_theta": 1e6, "max_positions": 4096}
    train(TrainRecipe.model_validate(first), tmp_path / "first")
    on = {"model": str(tmp_path / "first" / "adapter"), "lora": lora | {"go_on": True}, "steps": 2}
    trained = open_checkpoint(train(TrainRecipe.model_validate(recipe_values | on), tmp_path / "second"))
    adapted = open_checkpoint(tmp_path / "second" / "adapter")
    assert (trained.config.rope_theta, trained.config.max_positions) == (1e6, 4096)
    assert adapted.config == trained.config
    ids = torch.randint(0, 600, (1, 200), generator=torch.Generator().manual_seed(0))
    # The adapter is rounded to bfloat16; another rotary base moves logits by 0.1 and more.
    torch.testing.assert_close(load_model(adapted)(ids), load_model(trained)(ids), atol=1e-2, rtol=1e-2)


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


def test_markers_are_not_added_to_an_adapter_that_goes_on(recipe_values, tmp_path):
    lora = {"rank": 4, "alpha": 8}
    plain = recipe_values["batches"] | {"infill": {"rate": 0.0, "level": "context"}}
    train(TrainRecipe.model_validate(recipe_values | {"lora": lora, "steps": 1, "batches": plain}), tmp_path)
    on = recipe_values | {"lora": lora | {"go_on": True}, "model": str(tmp_path / "adapter")}
    recipe = TrainRecipe.model_validate(on)
    for planned in (lambda: begin(recipe), lambda: shape_after(recipe, shape_of(recipe.model))):
        with pytest.raises(CodecriaError, match=r"has no rows for the infill markers.*infill\.rate: 0, or leave lora"):
            planned()
    assert begin(TrainRecipe.model_validate(on | {"batches": plain})).new_rows == 0


def test_an_adapter_has_the_chat_template_that_its_stage_was_given(recipe_values, tmp_path):
    lora = {"rank": 4, "alpha": 8}
    first = recipe_values | {"lora": lora, "steps": 1, "chat_format": "chatml"}
    on = recipe_values | {"lora": lora | {"go_on": True}, "steps": 1, "model": str(tmp_path / "first" / "adapter")}
    for name, values in (("first", first), ("second", on)):
        checkpoint = train(TrainRecipe.model_validate(values), tmp_path / name)
        for folder in (checkpoint, tmp_path / name / "adapter"):
            assert open_checkpoint(folder).tokenizer.chat_template == FORMATS["chatml"][0]


END = 3
"""The end marker's place among the rows that an adapter adds: after the markers of prefix, suffix and middle."""
ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def parent(tiny, tmp_path_factory):
    """A recipe that goes on with the end row of an adapter that was trained for some steps."""
    folder = tmp_path_factory.mktemp("parent")
    values = tiny_recipe(tiny) | {
        "optimiser": {"peak_rate": 1e-2, "warm_up_steps": 3, "weight_decay": 0.1},
        "lora": {"rank": 4, "alpha": 8},
    }
    train(TrainRecipe.model_validate(values), folder / "run")
    on = {"model": str(folder / "run" / "adapter"), "lora": {"rank": 4, "alpha": 8, "go_on": True, "trains": "end_row"}}
    loss = {"context_share": 0.0, "end_weight": 20.0}
    return values | on | {"batches": values["batches"] | {"loss": loss}}


def changed_rows(before, after):
    """Numbers of the rows in which two tables differ, after seeing that all else is the same to the bit."""
    assert before.keys() == after.keys()
    (table,) = (name for name in before if name.endswith("embed_tokens.weight"))
    for name, value in before.items():
        assert name == table or torch.equal(value, after[name]), name
    return (before[table] != after[table]).any(dim=1).nonzero().flatten().tolist()


def test_the_end_row_alone_is_trained_and_all_else_is_left_to_the_bit(parent, tmp_path):
    recipe = TrainRecipe.model_validate(parent)
    checkpoint = train(recipe, tmp_path / "run")
    before = load_file(f"{parent['model']}/{ADAPTER}")
    after = load_file(tmp_path / "run" / "adapter" / ADAPTER)
    assert changed_rows(before, after) == [END]
    merged = load_model(open_checkpoint(parent["model"]))
    end = begin(recipe).sentinels.end[0]
    assert changed_rows(merged.state_dict(), load_model(open_checkpoint(checkpoint)).state_dict()) == [end]
    assert end == merged.config.vocab_size - 16 + END
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert sum(line["loss"] for line in lines[-4:]) < sum(line["loss"] for line in lines[:4])
    told = json.loads((tmp_path / "run" / "adapter" / "lineage.json").read_text())
    assert told["parent"]["path"] == parent["model"]
    assert told["recipe"]["lora"]["trains"] == "end_row"


def test_the_end_row_s_gradient_is_that_of_the_whole_backward_pass(parent):
    """The short way leaves nothing out: no gradient reaches the row as an input, since nothing follows the end."""
    whole = TrainRecipe.model_validate(parent | {"lora": parent["lora"] | {"trains": "all"}})
    alone = TrainRecipe.model_validate(parent)
    end = begin(alone).sentinels.end[0]
    torch.manual_seed(0)
    ids, weights = torch.randint(0, end - END, (1, 60)), torch.rand(1, 59) + 0.1
    ids[0, [19, 39, 59]] = end
    weights[0, [19, 39]] = 0.0  # a document's first token is no target, as in a packed row
    gradients = {}
    for recipe in (whole, alone):
        model = begin(recipe).model(torch.device("cpu"))
        frozen = recipe.lora.states_frozen
        total, _ = model.loss(ids[:, :-1], ids[:, 1:], weights, documents=[[20, 20, 19]], states_frozen=frozen)
        total.backward()
        gradients[recipe.lora.trains] = {name: each.grad for name, each in trainable(model).items()}
    assert all(grad is not None for grad in gradients["all"].values())
    ((name, grad),) = gradients["end_row"].items()
    assert name.endswith("rows")
    assert not grad[[row for row in range(16) if row != END]].any()
    torch.testing.assert_close(grad[END], gradients["all"][name][END])


def test_a_stopped_run_of_the_end_row_goes_on_to_the_same_bytes(parent, tmp_path):
    values = parent | {"steps": 8}
    train(TrainRecipe.model_validate(values), tmp_path / "whole")

    class Stopped(Exception):  # noqa: N818
        pass

    class Probe:
        every_steps = 5

        def __call__(self, _model, at):
            if at:
                raise Stopped
            return {}

    with pytest.raises(Stopped):
        train(TrainRecipe.model_validate(values), tmp_path / "stopped", probes=[Probe()])
    assert [path.name for path in (tmp_path / "stopped" / "state").iterdir()] == ["step-00000004"]
    train(TrainRecipe.model_validate(values), tmp_path / "stopped")
    for name in (f"adapter/{ADAPTER}", "checkpoint/model.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_with_a_head_of_its_own_the_head_s_row_is_trained_and_the_embedding_is_left(parent, tiny, tmp_path):
    weights = load_file(tiny / "model" / "model.safetensors")
    base = shutil.copytree(tiny / "model", tmp_path / "base")
    table = weights["model.embed_tokens.weight"]
    save_file(weights | {"lm_head.weight": table.roll(1, 0) * 0.9}, base / "model.safetensors")
    config = json.loads((base / "config.json").read_text()) | {"tie_word_embeddings": False}
    (base / "config.json").write_text(json.dumps(config))
    first = parent | {"model": str(base), "steps": 3, "lora": {"rank": 4, "alpha": 8}}
    train(TrainRecipe.model_validate(first), tmp_path / "first")
    on = parent | {"model": str(tmp_path / "first" / "adapter"), "steps": 3}
    train(TrainRecipe.model_validate(on), tmp_path / "second")
    before, after = (load_file(tmp_path / run / "adapter" / ADAPTER) for run in ("first", "second"))
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["new_rows.lm_head.weight"]
    changed = (before["new_rows.lm_head.weight"] != after["new_rows.lm_head.weight"]).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [END]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"lora": {"rank": 4, "alpha": 8, "trains": "end_row"}}, "needs go_on"),
        ({"batches": {"infill": {"rate": 0.0}}}, "nothing to learn"),
    ],
)
def test_the_end_row_is_trained_only_where_there_is_one_to_learn(parent, changes, what):
    with pytest.raises(ValueError, match=what):
        TrainRecipe.model_validate(parent | changes)


def test_an_adapter_of_a_base_with_markers_has_no_end_row_of_its_own(parent, recipe_values, tmp_path):
    merged = train(TrainRecipe.model_validate(recipe_values | {"steps": 1}), tmp_path / "marked")
    values = recipe_values | {"model": str(merged), "lora": {"rank": 4, "alpha": 8}, "steps": 1}
    train(TrainRecipe.model_validate(values), tmp_path / "second")
    on = values | {"model": str(tmp_path / "second" / "adapter"), "lora": parent["lora"]}
    with pytest.raises(CodecriaError, match="no rows of its own"):
        begin(TrainRecipe.model_validate(on))

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from codecria.batches.loader import Sequences
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.common.errors import CodecriaError
from codecria.training.loop import train
from codecria.training.metrics import read_metrics
from codecria.training.parallel import World
from codecria.training.recipe import TrainRecipe
from codecria.training.start import begin
from codecria.training.state import saved_states
from codecria.training.step import take_gradient

EXACT = ("step", "loss", "loss_by_kind", "loss_by_source", "gradient_norm", "tokens", "learning_rate", "forms")


def figures(folder):
    return [{key: line[key] for key in EXACT} for line in read_metrics(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """One uninterrupted run."""
    values = {
        "model": str(tiny / "model"),
        "corpus": str(tiny / "corpus"),
        "steps": 12,
        "sequences_per_step": 2,
        "batches": {
            "sequence_tokens": 256,
            "piece_tokens": 120,
            "infill": {"rate": 0.9, "level": "context", "unit": "line"},
            "loss": {"context_share": 0.3},
        },
        "optimiser": {"peak_rate": 1e-3, "warm_up_steps": 3, "new_rows_factor": 4.0},
        "precision": "fp32",
        "checkpoint_every_steps": 4,
        "export_precision": "fp32",
    }
    folder = tmp_path_factory.mktemp("finished") / "run"
    recipe = TrainRecipe.model_validate(values)
    train(recipe, folder)
    return recipe, folder


def test_a_run_gives_a_checkpoint_with_its_lineage(finished, tiny):
    recipe, folder = finished
    lineage = json.loads((folder / "checkpoint" / "lineage.json").read_text())
    assert lineage["parent"] == {"path": recipe.model, "licence": None}
    assert lineage["steps"] == 12
    assert lineage["recipe"] == json.loads(recipe.model_dump_json())
    assert lineage["tokens"] == figures(folder)[-1]["tokens"]
    checkpoint = open_checkpoint(folder / "checkpoint")
    parent = open_checkpoint(tiny / "model")
    assert checkpoint.config.vocab_size == parent.config.vocab_size + 16
    assert not (folder / "state").exists()
    trained = load_model(checkpoint).state_dict()
    untrained = load_model(parent).state_dict()
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(trained[name], untrained[name])


def test_the_loss_falls(finished):
    losses = [line["loss"] for line in figures(finished[1])]
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.05


def test_a_finished_run_is_not_run_again(finished):
    recipe, folder = finished
    before = (folder / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    assert train(recipe, folder) == folder / "checkpoint"
    assert (folder / "checkpoint" / "model.safetensors").stat().st_mtime_ns == before


def test_another_recipe_in_the_same_folder_is_refused(finished):
    recipe, folder = finished
    with pytest.raises(CodecriaError, match="holds a run of another recipe: seed differ"):
        train(recipe.model_copy(update={"seed": 9}), folder)


RUN = """
import sys, torch, yaml
torch.set_num_threads(1)
from codecria.training.loop import train
from codecria.training.recipe import TrainRecipe
train(TrainRecipe.model_validate(yaml.safe_load(open(sys.argv[1]))), __import__("pathlib").Path(sys.argv[2]))
"""


@pytest.mark.parametrize("kill_at_step", [2, 7, 11])
def test_killed_and_resumed_gives_the_same_losses_to_the_bit(finished, tmp_path, kill_at_step):
    recipe, whole = finished
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    command = [sys.executable, "-c", RUN, str(tmp_path / "recipe.yaml"), str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while len(read_metrics(tmp_path / "run" / "metrics.jsonl")) < kill_at_step:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "run" / "checkpoint").exists()
    train(recipe, tmp_path / "run")
    assert figures(tmp_path / "run") == figures(whole)
    one, other = (load_model(open_checkpoint(run / "checkpoint")).state_dict() for run in (whole, tmp_path / "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_only_the_last_states_are_kept(recipe_values, tmp_path):
    class Peek:
        every_steps = 1
        seen: tuple[str, ...] = ()

        def __call__(self, _model, step):
            if step == 11:
                Peek.seen = tuple(path.name for path in saved_states(tmp_path / "run" / "state"))
            return {"probe": float(step)}

    recipe_values |= {"keep_states": 1}
    train(TrainRecipe.model_validate(recipe_values), tmp_path / "run", probes=[Peek()])
    assert Peek.seen == ("step-00000008",)
    probed = [line["probe"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "probe" in line]
    assert probed == [float(step) for step in range(13)]


def test_accumulation_does_not_change_the_gradient(recipe_values, tiny):
    """Law 5: peers average the means of micro-batches, which is another number when their targets differ."""
    norms = []
    for micro in (1, 2, 4):
        recipe = TrainRecipe.model_validate(
            recipe_values | {"sequences_per_step": 4, "sequences_per_micro_batch": micro}
        )
        start = begin(recipe)
        folder = tiny / "prepared"
        from codecria.batches.prepare import prepare

        prepare(tiny / "corpus", start.tokenizer, recipe.batches, folder, 0)
        loader = Sequences(folder, start.tokenizer, start.sentinels, recipe.batches, 0)
        rows = [loader.sequence(n) for n in range(4)]
        assert len({float(row.weights.sum()) for row in rows}) > 1
        model = start.model(torch.device("cpu"))
        figures = take_gradient(
            model, list(model.parameters()), rows, recipe, World(torch.device("cpu")), loader.sources
        )
        norms.append((figures.loss, figures.gradient_norm))
    for loss, norm in norms[1:]:
        assert loss == pytest.approx(norms[0][0], rel=1e-5)
        assert norm == pytest.approx(norms[0][1], rel=1e-4)


def test_a_loss_that_is_no_number_stops_with_the_mend(recipe_values, tmp_path):
    values = recipe_values | {"optimiser": {"peak_rate": 1e30, "warm_up_steps": 0, "clip_norm": 1e30}}
    with pytest.raises(CodecriaError, match=r"lower optimiser\.peak_rate"):
        train(TrainRecipe.model_validate(values), tmp_path / "run")


def test_rotary_base_and_positions_reach_the_exported_model(recipe_values, tmp_path):
    values = recipe_values | {"steps": 1, "rope_theta": 1e6, "max_positions": 4096}
    checkpoint = open_checkpoint(train(TrainRecipe.model_validate(values), tmp_path / "run"))
    assert (checkpoint.config.rope_theta, checkpoint.config.max_positions) == (1e6, 4096)


def test_a_model_without_markers_can_be_trained_left_to_right(recipe_values, tmp_path):
    values = recipe_values | {"steps": 1, "batches": {"sequence_tokens": 256, "infill": {"rate": 0.0}}}
    folder = tmp_path / "run"
    checkpoint = open_checkpoint(train(TrainRecipe.model_validate(values), folder))
    assert checkpoint.config.vocab_size == open_checkpoint(recipe_values["model"]).config.vocab_size
    assert set(figures(folder)[0]["forms"]) == {"plain"}

import json
import shutil

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from codecria.batches.loader import Sequences
from codecria.cli.train_replay import train_replay
from codecria.common.errors import CodecriaError
from codecria.common.recipe import load_recipe
from codecria.training.loop import train
from codecria.training.recipe import TrainRecipe
from codecria.training.replay import replay
from codecria.training.start import begin
from codecria.training.state import read_facts, saved_states
from codecria.training.watch import bad_steps, read_bad_step
from tests.training import forks
from tests.training.small import exact, killed_after, small_stage

RUINED = {"peak_rate": 1e30, "warm_up_steps": 0, "clip_norm": 1e30}
TOUCHY = {"spike": 1.0001, "spike_window": 4, "most_skips": 1000}
"""Any loss just above the median is a spike: where nothing is learned, about half of the steps."""
SLOW = {"peak_rate": 1e-5, "warm_up_steps": 3}


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    return small_stage(tmp_path_factory)


def recipe_of(values, **keys):
    return TrainRecipe.model_validate(values | keys)


@pytest.fixture(scope="module")
def stopped(values, tmp_path_factory):
    """A run that stopped at a spike, and what it said."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(CodecriaError) as error:
        train(recipe_of(values, watch=TOUCHY, optimiser=SLOW), folder)
    return folder, str(error.value)


def test_a_loss_that_is_no_number_stops_with_folder_and_mend(values, tmp_path):
    recipe = recipe_of(values, optimiser=RUINED)
    with pytest.raises(CodecriaError, match=r"step 2 was not taken: .* nan; .*`codecria train-replay .*run`"):
        train(recipe, tmp_path / "run")
    (folder,) = bad_steps(tmp_path / "run")
    assert folder == tmp_path / "run" / "bad" / "step-00000002"
    assert len(exact(tmp_path / "run")) == 1
    skipping = recipe_of(values, optimiser=RUINED, watch={"on_bad_step": "skip", "most_skips": 2})
    with pytest.raises(CodecriaError, match=r"step 4 was not taken after 2 skipped steps.*most_skips=4"):
        train(skipping, tmp_path / "run")
    assert ["skipped" in line for line in exact(tmp_path / "run")] == [False, True, True]


def test_the_same_command_says_the_same_at_once_and_goes_on_when_told(stopped, values, tmp_path):
    folder, said = stopped
    before = (folder / "metrics.jsonl").stat().st_mtime_ns
    with pytest.raises(CodecriaError) as error:
        train(recipe_of(values, watch=TOUCHY, optimiser=SLOW), folder)
    assert str(error.value) == said
    assert (folder / "metrics.jsonl").stat().st_mtime_ns == before
    shutil.copytree(folder, tmp_path / "run")
    train(recipe_of(values, optimiser=SLOW), tmp_path / "run")
    assert len(exact(tmp_path / "run")) == 12


def test_the_bad_folder_holds_the_batch_and_the_state_before_it(stopped, values):
    folder, _ = stopped
    (bad,) = bad_steps(folder)
    recorded, batch = read_bad_step(bad)
    step = recorded["step"]
    assert [number for number, _ in batch] == [2 * (step - 1), 2 * step - 1]
    recipe, start = recipe_of(values), begin(recipe_of(values))
    loader = Sequences(folder / "prepared", start.tokenizer, start.sentinels, recipe.batches, recipe.seed)
    for number, row in batch:
        same = loader.sequence(number)
        assert (row.lengths, row.source, row.epoch, row.forms) == (same.lengths, same.source, same.epoch, same.forms)
        assert all(np.array_equal(getattr(row, name), getattr(same, name)) for name in ("ids", "weights", "kinds"))
    (state,) = saved_states(bad / "state")
    assert read_facts(state)[0].step == step - 1
    assert recorded["figures"]["loss"] > recorded["limit"]


def test_a_replay_gives_the_figures_of_the_run(stopped):
    folder, _ = stopped
    result = replay(folder)
    assert result.figures.loss == result.recorded["figures"]["loss"]
    assert result.figures.gradient_norm == result.recorded["figures"]["gradient_norm"]
    assert result.problem == result.recorded["problem"]
    assert result.broken_weights == []
    weights = [float(each.row.weights.sum()) for each in result.sequences]
    mean = sum(each.loss * weight for each, weight in zip(result.sequences, weights, strict=True)) / sum(weights)
    assert mean == pytest.approx(result.figures.loss, rel=1e-6)
    assert all(0 < each.largest < 100 for each in result.sequences)
    losses = [each.loss for each in result.documents]
    assert losses == sorted(losses, reverse=True)
    whole = replay(folder, worst=100).documents
    assert len(whole) == sum(len(each.row.lengths) for each in result.sequences)
    start = begin(load_recipe(TrainRecipe, folder / "recipe.yaml"))
    marker = start.tokenizer.token_text(start.sentinels.prefix)
    infilled = [each.row.forms.get(form, 0) for each in result.sequences for form in ("psm", "spm")]
    assert sum(each.text.count(marker) for each in whole) == sum(infilled)


def test_the_command_shows_the_table_and_names_the_bad_steps_there_are(stopped):
    folder, _ = stopped
    app = typer.Typer()
    app.command()(train_replay)
    shown = CliRunner().invoke(app, [str(folder)], env={"COLUMNS": "160"})
    figures = replay(folder)
    assert shown.exit_code == 0
    assert all(f"{each.loss:.4f}" in shown.output for each in figures.sequences)
    assert f"bad again: {figures.problem}" in shown.output
    with pytest.raises(CodecriaError, match=f"no bad step 999; there are {figures.recorded['step']}"):
        replay(folder, step=999)


def test_ruined_weights_are_named(values, tmp_path):
    with pytest.raises(CodecriaError):
        train(recipe_of(values, optimiser=RUINED | {"peak_rate": 1e39}), tmp_path / "run")
    result = replay(tmp_path / "run")
    assert "model.embed_tokens.weight" in result.broken_weights
    assert not any(np.isfinite(each.largest) for each in result.sequences)


def skipping(values):
    return values | {"watch": {**TOUCHY, "on_bad_step": "skip"}, "sequences_per_step": 4, "optimiser": SLOW}


@pytest.fixture(scope="module")
def skipped(values, tmp_path_factory):
    """A run that passed over its spikes."""
    folder = tmp_path_factory.mktemp("skipped") / "run"
    train(recipe_of(skipping(values)), folder)
    return exact(folder)


def test_skipped_steps_are_counted_and_the_data_goes_on(skipped, values, tmp_path):
    passed = [line["step"] for line in skipped if "skipped" in line]
    assert 0 < len(passed) < 11
    assert [line["step"] for line in skipped] == list(range(1, 13))
    assert all("loss" not in line for line in skipped if "skipped" in line)

    keys = {"checkpoint_every_steps": 1}
    (process,) = forks.start(killed_after, skipping(values) | keys, tmp_path / "run", passed[0])
    process.join(120)
    assert process.exitcode == 9
    train(recipe_of(skipping(values) | keys), tmp_path / "run")
    assert [line for line in exact(tmp_path / "run") if "learning_rate" in line] == skipped


def test_all_ranks_skip_the_same_steps(skipped, values, tmp_path):
    steps = [line["step"] for line in skipped if "skipped" in line]
    forks.run(forks.train_values, skipping(values), tmp_path / "run", ranks=2)
    both = exact(tmp_path / "run")
    assert [line["step"] for line in both if "skipped" in line] == steps
    for line, same in zip(both, skipped, strict=True):
        assert line.get("loss") == (None if "skipped" in same else pytest.approx(same["loss"], rel=1e-4))
    result = replay(tmp_path / "run")
    assert sorted(path.name for path in result.folder.glob("*.npz")) == ["batch-00000.npz", "batch-00001.npz"]
    assert len(result.sequences) == 4
    assert result.figures.loss == pytest.approx(result.recorded["figures"]["loss"], rel=1e-5)
    assert json.loads((result.folder / "figures.json").read_text())["stopped"] is False

import json
import shutil

import pytest
import torch
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.cli.export import export
from codecria.common.errors import CodecriaError
from codecria.training.export import export_state, gathered_weights
from codecria.training.recipe import TrainRecipe
from codecria.training.start import begin
from codecria.training.state import trainable
from tests.training.forks import run, train_and_save_last
from tests.training.small import exact, small_stage

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module", params=[None, {"rank": 4}], ids=["whole", "adapters"])
def finished(tmp_path_factory, request):
    """A run with states of steps 2, 4 (milestones) and 6 (the last), and its checkpoint."""
    folder = tmp_path_factory.mktemp("export")
    often = {"checkpoint_every_steps": 2, "milestone_every_steps": 2}
    values = small_stage(tmp_path_factory) | often | {"steps": 6, "lora": request.param}
    values["optimiser"] |= {"new_rows_factor": 4.0}
    train_and_save_last(values, folder / "run")
    return values, folder / "run"


def test_the_last_state_exports_to_the_checkpoint_s_bytes(finished, tmp_path):
    folder = finished[1]
    assert export_state(folder, None, tmp_path / "out") == 6
    for path in sorted((folder / "checkpoint").iterdir()):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def test_an_earlier_step_by_the_command(finished, tmp_path):
    folder = finished[1]
    app = typer.Typer()
    app.command()(export)
    done = CliRunner().invoke(app, [str(folder), "--step", "4", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert json.loads((tmp_path / "out" / "lineage.json").read_text())["steps"] == 4
    assert (
        load_model(open_checkpoint(tmp_path / "out")).config
        == load_model(open_checkpoint(folder / "checkpoint")).config
    )
    one, last = load_file(tmp_path / "out" / WEIGHTS), load_file(folder / "checkpoint" / WEIGHTS)
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(one[name], last[name])
    with pytest.raises(CodecriaError, match=r"no saved state of step 5; there are 2, 4, 6; the finished model is"):
        export_state(folder, 5, tmp_path / "none")
    with pytest.raises(CodecriaError, match=r"no run: it holds no recipe\.yaml"):
        export_state(tmp_path, None, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_two_ranks_export_what_one_does(finished, tmp_path):
    values, folder = finished
    shutil.copytree(folder / "prepared", tmp_path / "prepared")
    run(train_and_save_last, values, tmp_path, ranks=2)
    for one, other in zip(exact(folder), exact(tmp_path), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
    export_state(tmp_path, 6, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "checkpoint" / WEIGHTS).read_bytes()
    ours, single = load_file(tmp_path / "out" / WEIGHTS), load_file(folder / "checkpoint" / WEIGHTS)
    for name, weight in single.items():
        torch.testing.assert_close(ours[name], weight, atol=2e-5, rtol=1e-4)


def test_merged_weights_compute_what_the_adapters_do(finished):
    start = begin(TrainRecipe.model_validate(finished[0]))
    model = start.model(torch.device("cpu"))
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter += 0.05
    plain = begin(TrainRecipe.model_validate(finished[0] | {"lora": None})).model(torch.device("cpu"))
    plain.load_state_dict(dict(gathered_weights(model, start)))
    ids = torch.randint(0, 600, (1, 40))
    torch.testing.assert_close(plain(ids), model(ids), atol=1e-4, rtol=1e-4)

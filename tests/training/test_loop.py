import contextlib
import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from codecria.batches.loader import Sequences
from codecria.batches.prepare import prepare
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.common.errors import CodecriaError, explain_os_error
from codecria.common.lock import alone
from codecria.corpus.store import read_manifest
from codecria.training.loop import train
from codecria.training.metrics import read_metrics
from codecria.training.parallel import World
from codecria.training.recipe import TrainRecipe
from codecria.training.start import begin
from codecria.training.state import saved_states
from codecria.training.step import take_gradient
from tests.tiny import write_tiny_checkpoint
from tests.training import forks
from tests.training.small import exact, killed_after, small_stage, write_corpus


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return small_stage(tmp_path_factory)


@pytest.fixture
def recipe_values(stage):
    batches = stage["batches"] | {"loss": {"context_share": 0.3}}
    return stage | {"batches": batches, "optimiser": {"peak_rate": 1e-3, "warm_up_steps": 3, "new_rows_factor": 4.0}}


@pytest.fixture(scope="module")
def finished(stage, tmp_path_factory):
    """One uninterrupted run, with exports and a probe."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    recipe = TrainRecipe.model_validate(stage | {"export_every_steps": 5})
    train(recipe, folder, probes=[Peek()])
    return recipe, folder


class Peek:
    every_steps = 5

    def __call__(self, _model, step):
        return {"probe": float(step)}


def test_a_run_gives_a_checkpoint_with_its_lineage(finished):
    recipe, folder = finished
    lineage = json.loads((folder / "checkpoint" / "lineage.json").read_text())
    assert lineage["parent"] == {"path": recipe.model, "licence": None}
    assert lineage["steps"] == 12
    assert lineage["recipe"] == json.loads(recipe.model_dump_json())
    assert lineage["tokens"] == exact(folder)[-1]["tokens"]
    checkpoint = open_checkpoint(folder / "checkpoint")
    parent = open_checkpoint(recipe.model)
    assert checkpoint.config.vocab_size == parent.config.vocab_size + 16
    assert not (folder / "state").exists()
    trained = load_model(checkpoint).state_dict()
    untrained = load_model(parent).state_dict()
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(trained[name], untrained[name])


def test_the_loss_falls(finished):
    losses = [line["loss"] for line in exact(finished[1]) if "loss" in line]
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


def test_exports_and_probes_on_schedule(finished):
    _, folder = finished
    assert sorted(path.name for path in (folder / "exports").iterdir()) == ["step-00000005", "step-00000010"]
    for step in (5, 10):
        exported = folder / "exports" / f"step-{step:08d}"
        assert json.loads((exported / "lineage.json").read_text())["steps"] == step
        assert load_model(open_checkpoint(exported)).config.vocab_size > 600
    probed = [(line["step"], line["probe"]) for line in exact(folder) if "probe" in line]
    assert probed == [(0, 0.0), (5, 5.0), (10, 10.0), (12, 12.0)]


def test_what_a_kill_prevented_at_its_step_is_made_up_for_once(finished, tmp_path):
    """Killed in the probe that follows the state and the export of step 5; the export is lost too."""
    recipe, whole = finished
    keys = recipe.model_dump(mode="json") | {"checkpoint_every_steps": 5}
    (process,) = forks.start(killed_after, keys, tmp_path / "run", 4)
    process.join(120)
    assert process.exitcode == 9
    assert [path.name for path in saved_states(tmp_path / "run" / "state")] == ["step-00000005"]
    for exported in (tmp_path / "run" / "exports").iterdir():
        exported.rename(tmp_path / "lost")
    train(TrainRecipe.model_validate(keys), tmp_path / "run", probes=[Peek()])
    lines = exact(tmp_path / "run")
    assert [line for line in lines if line["step"]] == [line for line in exact(whole) if line["step"]]
    again = tmp_path / "run" / "exports" / "step-00000005" / "model.safetensors"
    assert again.read_bytes() == (tmp_path / "lost" / "model.safetensors").read_bytes()


def test_a_kill_changes_nothing_with_workers_and_every_kind_of_source(stage, tmp_path):
    """Peers repeat or skip what their workers had read ahead, of conversations above all."""
    talk = [{"instruction": f"say {number}", "output": "well " * 9 + str(number)} for number in range(40)]
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in talk))
    mixture = {"code": 0.4, "conversations": 0.3, "repository": 0.3}
    more = {"mixture": mixture, "conversations": str(tmp_path / "talk.jsonl"), "sequence_tokens": 2048}
    batches = stage["batches"] | more
    model = write_tiny_checkpoint(tmp_path / "model", markers=("<repo_name>", "<file_sep>"))
    values = stage | {"steps": 8, "chat_format": "chatml", "batches": batches}
    values |= {"model": str(model)}
    train(TrainRecipe.model_validate(values), tmp_path / "whole")
    workers = values | {"loader_workers": 2}
    (process,) = forks.start(killed_after, workers, tmp_path / "run", 3)
    process.join(240)
    assert process.exitcode == 9
    train(TrainRecipe.model_validate(workers), tmp_path / "run")
    lines = [line for line in exact(tmp_path / "run") if line["step"]]
    assert lines == exact(tmp_path / "whole")
    assert {source for line in lines for source in line.get("loss_by_source", ())} == set(mixture)


@pytest.fixture(scope="module")
def killed(stage, tmp_path_factory):
    """A folder with a run of 8 steps, killed after its state of step 4, and what it reads; the recipe's values."""
    folder = tmp_path_factory.mktemp("killed")
    for name in ("model", "corpus"):
        shutil.copytree(stage[name], folder / name)
    talk = [{"instruction": f"say {number}", "output": "well " * 9 + str(number)} for number in range(40)]
    (folder / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in talk))
    mixture = {"mixture": {"code": 0.7, "conversations": 0.3}, "conversations": str(folder / "talk.jsonl")}
    places = {"model": str(folder / "model"), "corpus": str(folder / "corpus"), "chat_format": "chatml"}
    values = stage | places | {"steps": 8, "batches": stage["batches"] | mixture}
    (process,) = forks.start(killed_after, values, folder / "run", 3)
    process.join(240)
    assert [path.name for path in saved_states(folder / "run" / "state")] == ["step-00000004"]
    return folder, values


def again(values, folder):
    return train(TrainRecipe.model_validate(values), folder / "run")


@contextlib.contextmanager
def other(folder, name):
    """While the block runs, what a run reads under this name is another; then it is gone, then as it was."""
    place = folder / ("talk.jsonl" if name == "conversations" else name)
    kept = place.rename(folder / "kept")
    if name == "corpus":
        write_corpus(folder, "".join(f"Another text altogether, its line {number}.\n" for number in range(40)))
    elif name == "conversations":
        place.write_text(kept.read_text() + '{"instruction": "more", "output": "much more"}\n')
    else:
        shutil.copytree(kept, place)
        weights = load_file(kept / "model.safetensors")
        save_file({each: value + 0.01 for each, value in weights.items()}, place / "model.safetensors")
    try:
        yield place
    finally:
        if place.exists():
            place.rename(folder / "other")
            shutil.rmtree(folder / "other") if name != "conversations" else (folder / "other").unlink()
        kept.replace(place)


@pytest.mark.parametrize("name", ["corpus", "conversations", "model"])
def test_a_run_does_not_go_on_with_other_inputs(killed, tmp_path, name):
    folder, values = killed
    shutil.copytree(folder / "run", tmp_path / "run")
    changed = rf"run: {name} changed since step 4, .*; bring back what was"
    with other(folder, name), pytest.raises(CodecriaError, match=changed):
        again(values, tmp_path)


@pytest.fixture(scope="module")
def ended(killed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ended")
    shutil.copytree(killed[0] / "run", folder / "run")
    again(killed[1], folder)
    return folder


@pytest.mark.parametrize("name", ["corpus", "conversations", "model"])
def test_a_finished_run_is_not_given_for_other_inputs(killed, ended, tmp_path, name):
    folder, values = killed
    shutil.copytree(ended / "run", tmp_path / "run")
    changed = rf"run: {name} changed since the finished run read it; bring back what was"
    with other(folder, name) as place:
        with pytest.raises(CodecriaError, match=changed):
            again(values, tmp_path)
        place.rename(tmp_path / "gone")  # what is not there any more cannot be another
        assert again(values, tmp_path) == tmp_path / "run" / "checkpoint"
        (tmp_path / "gone").rename(place)
        (tmp_path / "run" / "inputs.json").unlink()  # as in a run of an earlier version
        assert again(values, tmp_path) == tmp_path / "run" / "checkpoint"


def test_a_run_goes_on_with_equal_inputs_made_anew_and_clears_what_a_kill_left(killed, tmp_path, monkeypatch):
    folder, values = killed
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run" / "exports").mkdir()
    for name in (".prepared.abcd.part", "exports/.step-00000002.abcd.part"):
        (tmp_path / "run" / name / "inside").mkdir(parents=True)
    (tmp_path / "run" / ".metrics.jsonl.abcd.part").write_text("{")
    monkeypatch.chdir(folder)
    shutil.rmtree(folder / "corpus")
    write_corpus(folder)
    # The same places, named from the working folder.
    named = {"model": "model", "corpus": "corpus", "batches": values["batches"] | {"conversations": "talk.jsonl"}}
    again(values | named, tmp_path)
    assert [line["step"] for line in exact(tmp_path / "run") if "loss" in line] == list(range(1, 9))
    assert not list((tmp_path / "run").rglob(".*.part"))


def test_exports_of_other_inputs_do_not_stay(killed, tmp_path):
    """Killed before its first state, a run may begin again on another corpus."""
    folder, values = killed
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "state")
    old = tmp_path / "run" / "exports" / "step-00000002"
    shutil.copytree(folder / "model", old)
    with other(folder, "corpus") as corpus:
        again(values | {"export_every_steps": 2}, tmp_path)
        told = json.loads((old / "lineage.json").read_text())["corpus"]
        assert told == read_manifest(corpus).fingerprint


def test_exports_stay_where_a_run_begins_again_on_the_same_inputs(killed, tmp_path):
    folder, values = killed
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "state")
    (tmp_path / "run" / "exports" / "step-00000002").mkdir(parents=True)
    again(values | {"export_every_steps": 2}, tmp_path)
    assert not list((tmp_path / "run" / "exports" / "step-00000002").iterdir())


def full_disk(*_, **__):
    raise explain_os_error(OSError(errno.ENOSPC, "full"), "model.safetensors")


@pytest.mark.parametrize("lora", [None, {"rank": 2}], ids=["whole", "adapters"])
def test_a_last_export_that_fails_costs_no_step(recipe_values, tmp_path, monkeypatch, lora):
    recipe, folder = TrainRecipe.model_validate(recipe_values | {"steps": 3, "lora": lora}), tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(CodecriaError, match="no space left on the disk"):
        patched.setattr("codecria.training.loop.write_adapter", full_disk)
        patched.setattr("codecria.training.export.save_huggingface", full_disk)
        train(recipe, folder)
    assert [path.name for path in saved_states(folder / "state")] == ["step-00000003"]
    lines = (folder / "metrics.jsonl").read_bytes()
    assert json.loads((train(recipe, folder) / "lineage.json").read_text())["steps"] == 3
    assert (folder / "metrics.jsonl").read_bytes() == lines
    assert not (folder / "state").exists()


def test_a_last_state_that_cannot_be_written_is_told_and_costs_no_export(recipe_values, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("codecria.training.state._Writer.write_data", full)
    recipe = TrainRecipe.model_validate(recipe_values | {"steps": 3})
    assert json.loads((train(recipe, tmp_path / "run") / "lineage.json").read_text())["steps"] == 3
    assert "step-00000003: no space left on the disk; " in capsys.readouterr().err


def test_a_corpus_that_is_moved_while_a_run_is_under_way_costs_no_checkpoint(recipe_values, tmp_path):
    class Move:
        every_steps = 3

        def __call__(self, _model, step):
            if step:
                (tmp_path / "corpus").rename(tmp_path / "moved")
            return {}

    shutil.copytree(recipe_values["corpus"], tmp_path / "corpus")
    recipe = TrainRecipe.model_validate(recipe_values | {"steps": 3, "corpus": str(tmp_path / "corpus")})
    checkpoint = train(recipe, tmp_path / "run", probes=[Move()])
    told = json.loads((checkpoint / "lineage.json").read_text())["corpus"]
    assert told == read_manifest(tmp_path / "moved").fingerprint


def hold(folder, ready, end):
    with alone(folder / "run", "another process is training here"):
        ready.set()
        end.wait(120)


def test_a_second_process_in_a_run_s_folder_is_refused_and_touches_nothing(recipe_values, tmp_path):
    recipe = TrainRecipe.model_validate(recipe_values | {"steps": 1})
    part = tmp_path / "run" / ".prepared.abcd.part"
    part.mkdir(parents=True)
    ready, end = forks.event(), forks.event()
    (process,) = forks.start(hold, tmp_path, ready, end)
    assert ready.wait(120)
    with pytest.raises(CodecriaError, match="run: another process is training here; wait until it has ended"):
        train(recipe, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [part.name]
    end.set()
    process.join(60)
    train(recipe, tmp_path / "run")
    assert not part.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_is_held_to_its_end_and_one_that_is_done_wants_no_lock(recipe_values, tmp_path):
    class Second:
        every_steps = 1

        def __call__(self, _model, _step):
            with pytest.raises(CodecriaError, match="another process is training here"):
                train(recipe, tmp_path / "run")
            return {}

    recipe = TrainRecipe.model_validate(recipe_values | {"steps": 1})
    train(recipe, tmp_path / "run", probes=[Second()])
    with alone(tmp_path / "run"):
        assert train(recipe, tmp_path / "run") == tmp_path / "run" / "checkpoint"


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


def test_accumulation_does_not_change_the_gradient(recipe_values, tmp_path):
    """Law 5: peers average the means of micro-batches, which is another number when their targets differ."""
    norms = []
    for micro in (1, 2, 4):
        recipe = TrainRecipe.model_validate(
            recipe_values | {"sequences_per_step": 4, "sequences_per_micro_batch": micro}
        )
        start = begin(recipe)
        prepare(Path(recipe.corpus), start.tokenizer, recipe.batches, tmp_path / "prepared", 0)
        loader = Sequences(tmp_path / "prepared", start.tokenizer, start.sentinels, recipe.batches, 0)
        rows = [loader.sequence(n) for n in range(4)]
        assert len({float(row.weights.sum()) for row in rows}) > 1
        model = start.model(torch.device("cpu"))
        world = World(torch.device("cpu"))
        figures = take_gradient(model, list(model.parameters()), rows, recipe, world, loader.sources)
        norms.append((figures.loss, figures.gradient_norm))
    for loss, norm in norms[1:]:
        assert loss == pytest.approx(norms[0][0], rel=1e-5)
        assert norm == pytest.approx(norms[0][1], rel=1e-4)


def test_a_corpus_smaller_than_a_step_is_refused(recipe_values, tmp_path):
    with pytest.raises(CodecriaError, match=r"the corpus fills \d+ sequences .* and one step takes 4000"):
        train(TrainRecipe.model_validate(recipe_values | {"sequences_per_step": 4000}), tmp_path / "run")


def test_rotary_base_and_positions_reach_the_exported_model(recipe_values, tmp_path):
    values = recipe_values | {"steps": 1, "rope_theta": 1e6, "max_positions": 4096}
    checkpoint = open_checkpoint(train(TrainRecipe.model_validate(values), tmp_path / "run"))
    assert (checkpoint.config.rope_theta, checkpoint.config.max_positions) == (1e6, 4096)


def test_a_model_without_markers_can_be_trained_left_to_right(recipe_values, tmp_path):
    values = recipe_values | {"steps": 1, "batches": {"sequence_tokens": 256, "infill": {"rate": 0.0}}}
    folder = tmp_path / "run"
    checkpoint = open_checkpoint(train(TrainRecipe.model_validate(values), folder))
    assert checkpoint.config.vocab_size == open_checkpoint(recipe_values["model"]).config.vocab_size
    assert set(exact(folder)[0]["forms"]) == {"plain"}

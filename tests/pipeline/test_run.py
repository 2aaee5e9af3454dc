import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from codecria.checkpoint.open import open_checkpoint
from codecria.cli.pipeline import pipeline
from codecria.common.errors import CodecriaError
from codecria.common.recipe import load_recipe, shipped_recipes
from codecria.corpus.build import build_corpus
from codecria.evaluation.run import read_run
from codecria.pipeline import report
from codecria.pipeline.recipe import PipelineRecipe
from codecria.pipeline.run import measure_stage, run_pipeline, run_stage, stages_done
from codecria.training.loop import train
from codecria.training.metrics import read_metrics
from codecria.training.recipe import TrainRecipe
from tests.tiny import SOURCE, write_tiny_checkpoint

STAGE = {
    "steps": 2,
    "sequences_per_step": 1,
    "precision": "fp32",
    "batches": {"sequence_tokens": 256, "piece_tokens": 120, "infill": {"level": "context", "units": "line"}},
    "optimiser": {"warm_up_steps": 1},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("pipeline")
    write_tiny_checkpoint(folder / "model")
    recipe = PipelineRecipe.model_validate(
        {
            "title": "A test",
            "foundation": str(folder / "model"),
            "corpus": {
                "sources": [{"type": "folder", "path": str(SOURCE), "licence": "Apache-2.0"}],
                "decontamination": {"human_eval": False},
            },
            "stages": [{"name": "code", **STAGE}, {"name": "python", **STAGE, "seed": 1}],
            "evaluate": {
                "perplexity": {"max_tokens": 500, "window_tokens": 128, "stride_tokens": 64},
                "single_line_corpus": {"methods": ["psm", "left_to_right"], "items": 6, "max_tokens": 8},
            },
        }
    )
    return recipe, run_pipeline(recipe, folder / "run")


def test_a_stage_begins_where_the_one_before_ended(finished):
    _, done = finished
    lineage = json.loads((done.folder / "python" / "checkpoint" / "lineage.json").read_text())
    assert lineage["parent"]["path"] == str(done.folder / "code" / "checkpoint")
    assert done.checkpoint == done.folder / "python" / "checkpoint"


def test_running_again_does_nothing(finished):
    recipe, done = finished
    times = {path: path.stat().st_mtime_ns for path in done.folder.rglob("*") if path.is_file()}
    again = run_pipeline(recipe, done.folder)
    assert again == done
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed <= {"samples.jsonl", "results.json"}  # summed up again from the groups, to the same bytes


def test_its_folder_and_what_it_reads_may_be_named_from_the_working_folder(finished, monkeypatch):
    recipe, done = finished
    times = {path: path.stat().st_mtime_ns for path in done.folder.rglob("*.jsonl") if path.parent.name == "groups"}
    monkeypatch.chdir(done.folder.parent)
    again = run_pipeline(recipe.model_copy(update={"foundation": "model"}), Path(done.folder.name))
    assert again.checkpoint.resolve() == done.checkpoint
    run_pipeline(recipe, done.folder)  # what it says of itself has the whole paths again
    assert {path: path.stat().st_mtime_ns for path in times} == times and times


def test_another_recipe_is_refused(finished):
    recipe, done = finished
    with pytest.raises(CodecriaError, match="seed differ"):
        run_pipeline(recipe.model_copy(update={"seed": 7}), done.folder)


def test_page_tables_and_examples(finished):
    _, done = finished
    page = report.write_page(done, ["codecria demo"]).read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    for table in report.tables(done):
        assert table.columns[0].label == "before"
        assert report.terminal_table(table).row_count == len(table.rows)
    shown = report.examples(done)
    assert 1 <= len(shown) <= 3
    for example in shown:
        assert example.truth.strip() in report.terminal_example(example).replace("\\[", "[")


@pytest.fixture
def tree(finished, tmp_path):
    """A pipeline whose last two stages have one parent, on a small corpus; not yet run."""
    recipe, _ = finished
    longer = {**STAGE, "steps": 60, "checkpoint_every_steps": 10}
    stages = [
        {"name": "code", **STAGE},
        {"name": "python", **longer},
        {"name": "long-context", "parent": "code", **STAGE, "rope_theta": 1e6, "seed": 1},
    ]
    corpus = {
        "sources": [{"type": "folder", "path": str(SOURCE / "common"), "licence": "Apache-2.0"}],
        "decontamination": {"human_eval": False},
        "held_out": {"packages": 0},
    }
    values = {**recipe.model_dump(mode="json"), "evaluate": None, "corpus": corpus, "stages": stages}
    pipeline = PipelineRecipe.model_validate(values)
    build_corpus(pipeline.corpus, tmp_path / "tree" / "corpus")
    return pipeline, tmp_path / "tree"


def losses(folder, stage):
    return [(line["step"], line["loss"]) for line in read_metrics(folder / stage / "metrics.jsonl") if "loss" in line]


def test_killed_inside_a_stage_it_goes_on_and_leaves_finished_stages_alone(tree, tmp_path):
    recipe, folder = tree
    (tmp_path / "tree.yaml").write_text(recipe.to_yaml())
    script = "import typer; from codecria.cli.pipeline import pipeline; typer.run(pipeline)"
    command = [sys.executable, "-c", script, str(tmp_path / "tree.yaml"), "--out", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while len(losses(folder, "python")) < 12:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert [row.finished for row in stages_done(recipe, folder)] == [True, False, False]
    assert stages_done(recipe, folder)[1].done >= 12
    before = (folder / "code" / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    again = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert (folder / "code" / "checkpoint" / "model.safetensors").stat().st_mtime_ns == before
    train(recipe.stages[1].placed(folder / "code" / "checkpoint", folder / "corpus"), tmp_path / "whole")
    assert losses(folder, "python") == losses(tmp_path, "whole")
    rows = [line.split() for line in again.splitlines()[-3:]]
    assert [(*row[:5], row[-1]) for row in rows][2] == ("long-context", "code", "2", "of", "2", "done")
    assert [row[-1] for row in rows] == ["done"] * 3
    lineage = json.loads((folder / "long-context" / "checkpoint" / "lineage.json").read_text())
    assert lineage["parent"]["path"] == str(folder / "code" / "checkpoint")


def test_one_stage_alone_wants_its_parent(tree):
    recipe, folder = tree
    with pytest.raises(CodecriaError, match="the stage 'code' is not finished; run it first"):
        run_stage(recipe, folder, "long-context")
    run_stage(recipe, folder, "code")
    run_stage(recipe, folder, "long-context")
    assert [row.finished for row in stages_done(recipe, folder)] == [True, False, True]
    with pytest.raises(CodecriaError, match="no stage is named 'instruct'; stages: code, python, long-context"):
        run_stage(recipe, folder, "instruct")
    moved = recipe.stages[1].model_copy(update={"keep_states": 5})
    other = recipe.model_copy(update={"stages": (recipe.stages[0], moved, recipe.stages[2])})
    assert run_stage(other, folder, "code").is_dir()  # what shapes no number may change


def test_a_finished_stage_is_not_given_for_another_parent(tree):
    recipe, folder = tree
    run_stage(recipe, folder, "code")
    done = run_stage(recipe, folder, "long-context")
    assert run_stage(recipe, folder, "long-context") == done
    path = folder / "code" / "checkpoint" / "model.safetensors"
    save_file({name: value + 0.01 for name, value in load_file(path).items()}, path)
    with pytest.raises(CodecriaError, match="long-context: model changed since the finished run read it; bring back"):
        run_stage(recipe, folder, "long-context")
    shutil.rmtree(folder / "code")
    assert run_stage(recipe, folder, "long-context") == done


def test_one_stage_alone_builds_a_corpus_that_is_not_there(tree, tmp_path, monkeypatch):
    recipe, folder = tree
    (tmp_path / "tree.yaml").write_text(recipe.to_yaml())
    shutil.rmtree(folder)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    pipeline(str(tmp_path / "tree.yaml"), folder, None, "code")
    assert [row.finished for row in stages_done(recipe, folder)] == [True, False, False]


def test_conversations_that_are_absent_are_told_of_before_anything_is_made(tree, tmp_path):
    recipe, _ = tree
    batches = {**STAGE["batches"], "mixture": {"conversations": 1.0}, "conversations": str(tmp_path / "none.parquet")}
    last = {"name": "instruct", **STAGE, "batches": batches}
    whole = PipelineRecipe.model_validate(
        {**recipe.model_dump(mode="json"), "stages": [*recipe.model_dump(mode="json")["stages"], last]}
    )
    with pytest.raises(CodecriaError, match=r"none\.parquet: no conversations"):
        run_pipeline(whole, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.fixture
def given(finished, tmp_path):
    """A pipeline whose first stage is an adapter that was trained elsewhere; measures of some stages and of all."""
    recipe, done = finished
    lora = {"rank": 2, "alpha": 4.0}
    code = TrainRecipe.model_validate({**STAGE, "model": recipe.foundation, "corpus": str(done.corpus), "lora": lora})
    train(code, tmp_path / "elsewhere")
    shutil.copytree(done.corpus, tmp_path / "run" / "corpus")
    perplexity = {"sources": ["code/Python", "code/Java"], "max_tokens": 300, "document_tokens": 100}
    values = {
        **recipe.model_dump(mode="json"),
        "evaluate": None,
        "stages": [
            {"name": "code", **STAGE, "checkpoint": str(tmp_path / "elsewhere" / "adapter")},
            {"name": "python", **STAGE, "lora": lora},
            {"name": "long-context", "parent": "code", **STAGE, "rope_theta": 1e6},
        ],
        "measures": [
            {"name": "scores", "tasks": {"perplexity": perplexity}},
            {"name": "written", "precision": "int8", "of": ["foundation", "code"], "tasks": {"key_retrieval": KEYS}},
        ],
    }
    return PipelineRecipe.model_validate(values), tmp_path / "run"


KEYS = {"lengths": [128], "depths": [1], "items": 1, "max_tokens": 2}


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_theta": 1e6, "max_positions": 16384, "batches": {"sequence_tokens": 4096}},
        {"model": "a checkpoint of its own", "chat_format": "llama-2"},
        {"batches": {"infill": {"rate": 0.0}}},
    ],
)
def test_what_is_measured_as_the_foundation_has_nothing_of_the_first_stage(tmp_path, monkeypatch, keys):
    foundation = open_checkpoint(write_tiny_checkpoint(tmp_path / "model"))
    stages = [{"name": "first", **STAGE, **keys}, {"name": "second", **STAGE}]
    measures = [{"name": "scores", "tasks": {"key_retrieval": KEYS}}]
    values = {"title": "t", "foundation": str(foundation.path), "corpus": {}, "stages": stages, "measures": measures}
    monkeypatch.setattr("codecria.pipeline.run.evaluate", lambda *_: None)
    measure_stage(PipelineRecipe.model_validate(values), tmp_path, "foundation")
    start = open_checkpoint(tmp_path / "start" / "checkpoint")
    assert start.config == replace(foundation.config, vocab_size=foundation.config.vocab_size + 16)
    assert start.tokenizer.chat_template == foundation.tokenizer.chat_template
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(start.source.read(name, None), foundation.source.read(name, torch.bfloat16))


def test_a_given_stage_is_not_trained_and_each_stage_is_measured(given):
    recipe, folder = given
    run_pipeline(recipe, folder)
    adapter = recipe.stages[0].checkpoint
    assert not (folder / "code").exists()
    for stage in ("python", "long-context"):
        assert json.loads((folder / stage / "checkpoint" / "lineage.json").read_text())["parent"]["path"] == adapter
    assert json.loads((folder / "python" / "adapter" / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == str(adapter)
    assert [(row.done, row.finished) for row in stages_done(recipe, folder)] == [(0, True), (2, True), (2, True)]
    assert {path.name for path in (folder / "measures" / "scores").iterdir()} == {
        "foundation", "code", "python", "long-context"
    }  # fmt: skip
    assert {path.name for path in (folder / "measures" / "written").iterdir()} == {"foundation", "code"}
    read = {name: read_run(folder / "measures" / "scores" / name) for name in ("foundation", "code", "python")}
    assert {sample.task for _, samples in read.values() for sample in samples} == {"perplexity/code/Python"}
    ids = [[sample.id for sample in samples] for _, samples in read.values()]
    assert ids[0] == ids[1] == ids[2] and len(ids[0]) >= 3
    figures = {name: [sample.measures["perplexity"] for sample in samples] for name, (_, samples) in read.items()}
    assert figures["foundation"] != figures["code"] != figures["python"]
    assert read["foundation"][0]["checkpoint"]["path"] == str(folder / "start" / "checkpoint")
    page = (folder / "measures" / "scores.html").read_text()
    assert all(f"checkpoint · {name}" in page for name in ("foundation", "python", "long-context"))


def test_one_stage_alone_is_measured_and_measures_may_change(given, tmp_path, monkeypatch, capsys):
    recipe, folder = given
    (tmp_path / "given.yaml").write_text(recipe.to_yaml())
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for only in ("foundation", "code"):
        pipeline(str(tmp_path / "given.yaml"), folder, None, only)
        assert (folder / "measures" / "written" / only / "results.json").exists()
    assert not (folder / "python").exists()
    assert "given" in capsys.readouterr().out
    fewer = recipe.model_copy(update={"measures": recipe.measures[:1]})
    run_stage(fewer, folder, "python")
    with pytest.raises(ValueError, match="measures are taken of 'rust', which is none of foundation, code, python"):
        PipelineRecipe.model_validate(
            {**recipe.model_dump(), "measures": [{"name": "a", "of": ["rust"], "tasks": {"human_eval": {}}}]}
        )


def loaded(folder, **keys):
    values = {"title": "t", "foundation": "f", "corpus": {}, "stages": [{"name": "code", **STAGE}], **keys}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return load_recipe(PipelineRecipe, str(folder / "recipe.yaml"))


@pytest.mark.parametrize("left_empty", [{}, {"corpus": None}, {"corpus": ""}])
def test_measures_are_taken_on_a_folder_or_on_the_pipeline_s_corpus(tmp_path, left_empty):
    scores = {"name": "scores", "tasks": {"perplexity": {}}, **left_empty}
    recipe = loaded(tmp_path, measures=[scores, {**scores, "name": "own", "folder": "code"}])
    assert load_recipe(PipelineRecipe, str(tmp_path / "recipe.yaml")) == recipe
    pipeline_s, own = (each.placed("model", Path("corpus")) for each in recipe.measures)
    assert (pipeline_s.corpus, pipeline_s.folder, own.corpus, own.folder) == ("corpus", None, None, "code")
    assert PipelineRecipe.model_validate(yaml.safe_load(recipe.to_yaml())) == recipe


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"beside": ["m"], "evaluate": {"perplexity": {}}}, "'evaluate' names no task that infills"),
        (
            {"beside": ["m"], "evaluate": {"single_line_corpus": {"methods": ["left_to_right"]}}},
            "'evaluate' names no task that infills",
        ),
        ({"beside": ["m"]}, "'evaluate' names no task that infills"),
        ({"measures": [{"name": "a", "tasks": {"human_eval": {}}}] * 2}, "two measures are named 'a'"),
        ({"measures": [{"name": "a", "corpus": "c", "folder": "f", "tasks": {"perplexity": {}}}]}, "set one"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(tmp_path, keys, told):
    with pytest.raises(CodecriaError, match=told) as error:
        loaded(tmp_path, **keys)
    assert "\n" not in str(error.value)
    loaded(tmp_path, beside=["m"], evaluate={"perplexity": {}, "single_line_corpus": {}})


def test_a_parent_comes_before_its_stage():
    stages = [{"name": "code", **STAGE, "parent": "python"}, {"name": "python", **STAGE}]
    with pytest.raises(ValueError, match="the parent 'python' of 'code' is none of those before it: foundation"):
        PipelineRecipe.model_validate({"title": "t", "foundation": "f", "corpus": {}, "stages": stages})


@pytest.mark.parametrize("name", ["pipeline-135m", "pipeline-135m-cpu"])
def test_the_tree_of_the_paper(name):
    recipe = load_recipe(PipelineRecipe, name, ["stages.python.steps=7"])
    parents = {stage.name: recipe.parent_of(stage.name) for stage in recipe.stages}
    assert parents == {
        "code": "foundation",
        "long-context": "code",
        "python": "code",
        "long-context-python": "python",
        "instruct": "long-context",
    }
    steps = {stage.name: stage.steps for stage in recipe.stages}
    assert (steps["code"], steps["python"]) == (1000 if name == "pipeline-135m" else 1150, 7)
    # A stage that extends a recipe has the pipeline's parent and corpus, not that recipe's.
    python = next(stage for stage in recipe.stages if stage.name == "python")
    placed = python.placed("parent", Path("corpus"))
    assert (placed.model, placed.corpus, placed.batches.mixture["code/Python"]) == ("parent", "corpus", 0.75)


@pytest.mark.parametrize("names", [["code", "code"], ["corpus"], ["Not a name"]])
def test_stage_names_are_folders_of_their_own(names):
    with pytest.raises(ValueError, match="name"):
        PipelineRecipe.model_validate(
            {"title": "t", "foundation": "f", "corpus": {}, "stages": [{"name": name, **STAGE} for name in names]}
        )


@pytest.mark.parametrize("name", [name for name, path in shipped_recipes().items() if "stages:" in path.read_text()])
def test_shipped_pipelines_load(name):
    recipe = load_recipe(PipelineRecipe, name)
    assert recipe.stages[0].placed("parent", Path("corpus")).model == "parent"

import json
from pathlib import Path

import pytest
import torch

from codecria.common.errors import CodecriaError
from codecria.common.recipe import load_recipe, shipped_recipes
from codecria.pipeline import report
from codecria.pipeline.recipe import PipelineRecipe
from codecria.pipeline.run import run_pipeline
from tests.tiny import SOURCE, write_tiny_checkpoint

STAGE = {
    "steps": 2,
    "sequences_per_step": 1,
    "precision": "fp32",
    "batches": {"sequence_tokens": 256, "piece_tokens": 120, "infill": {"level": "context", "unit": "line"}},
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

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from pydantic import ValidationError

import codecria
from codecria.checkpoint.config_json import new_config
from codecria.checkpoint.huggingface import save_huggingface
from codecria.checkpoint.source import Description
from codecria.common.errors import CodecriaError
from codecria.common.recipe import load_recipe
from codecria.corpus.build import build_corpus
from codecria.corpus.recipe import CorpusRecipe
from codecria.corpus.selection import HeldOutRecipe
from codecria.corpus.sources.folder import FolderRecipe
from codecria.evaluation.recipe import EvaluateRecipe
from codecria.evaluation.run import environment, evaluate, read_run
from codecria.evaluation.samples import Sample, to_jsonl
from codecria.evaluation.tasks.human_eval import HumanEvalRecipe
from codecria.evaluation.tasks.registry import Tasks

if TYPE_CHECKING:
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def checkpoint(
    tmp_path_factory: pytest.TempPathFactory, marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer
) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    tokenizer, config = marked[0], tiny_model.config
    hf_config = new_config(config, tokenizer.bos_id, tokenizer.eos_ids[0], "float32")
    save_huggingface(folder, tiny_model, Description(config, tokenizer, hf_config, {}))
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of this package, half of them held out."""
    base = tmp_path_factory.mktemp("corpus")
    package = Path(codecria.__file__).parent
    for name in ("common/random.py", "common/errors.py", "infill/trim.py", "infill/split.py"):
        place = base / "source" / Path(name).stem / Path(name).name
        place.parent.mkdir(parents=True)
        place.write_text((package / name).read_text())
    recipe = CorpusRecipe(
        sources=(FolderRecipe(path=str(base / "source"), licence="Apache-2.0"),),
        held_out=HeldOutRecipe(names=("random", "trim"), max_package_share=1.0),
    )
    build_corpus(recipe, base / "built")
    return base / "built"


@pytest.fixture(scope="module")
def recipe(checkpoint: Path, corpus: Path) -> EvaluateRecipe:
    tasks = {
        "human_eval": {"items": 3, "max_tokens": 3, "group_items": 1},
        "single_line_human_eval": {"items": 2, "max_tokens": 3, "methods": ["psm", "left_to_right"]},
        "single_line_corpus": {
            "items": 4,
            "max_tokens": 3,
            "group_items": 2,
            "prefix_characters": 300,
            "suffix_characters": 100,
        },
        "perplexity": {"max_tokens": 400, "window_tokens": 128, "stride_tokens": 64, "group_tokens": 100},
    }
    return EvaluateRecipe(
        checkpoint=str(checkpoint),
        corpus=str(corpus),
        device="cpu",
        execute=False,
        tasks=Tasks.model_validate(tasks),
    )


@pytest.fixture(scope="module")
def finished(recipe: EvaluateRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    evaluate(recipe, folder)
    return folder


def test_every_task_is_run_and_summed_up(finished: Path, recipe: EvaluateRecipe) -> None:
    results, samples = read_run(finished)
    assert results["recipe"] == recipe.model_dump(mode="json")
    assert set(results["checkpoint"]["sha256"]) >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert results["versions"]["torch"] == torch.__version__
    found = {(each["task"], each["method"]): each for each in results["results"]}
    assert found["human_eval", "greedy"]["not_run"] == {"pass@1": {"execution is switched off": 3}}
    for method in ("psm", "spm", "left_to_right"):
        summary = found["single_line_corpus", method]
        assert summary["items"] == 4
        for name in ("exact_match", "edit_similarity", "ended", "bits_per_character_with_end"):
            figure = summary["measures"][name]
            assert figure["low"] <= figure["value"] <= figure["high"]
            assert figure["items"] == 4
    assert found["perplexity/code", "windows"]["measures"]["bits_per_byte"]["value"] > 1
    rows = environment(results)
    assert rows["checkpoint"] == recipe.checkpoint and rows["seed"] == "0" and rows["number format"] == "fp32"
    assert rows["sha256"] == "model.safetensors " + results["checkpoint"]["sha256"]["model.safetensors"]
    assert len(samples) == sum(each["items"] for each in results["results"])
    assert [json.loads(line)["id"] for line in (finished / "samples.jsonl").read_text().splitlines()]


def test_a_finished_run_is_read_not_run_again(
    finished: Path, recipe: EvaluateRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model is loaded again")

    monkeypatch.setattr("codecria.evaluation.run.load_model", refuse)
    before = (finished / "results.json").read_bytes()
    evaluate(recipe, finished)
    assert (finished / "results.json").read_bytes() == before


def test_a_finished_group_is_kept_and_an_unfinished_one_runs_whole(
    finished: Path, recipe: EvaluateRecipe, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    (folder / "groups").mkdir(parents=True)
    kept = Sample("single_line_corpus", "psm", "a kept row", measures={"exact_match": 1.0})
    (folder / "groups" / "single_line_corpus-psm-00001.jsonl").write_text(to_jsonl([kept]))
    (folder / "groups" / ".single_line_corpus-psm-00000.jsonl.x.part").write_text("{half a ro")
    evaluate(recipe, folder)
    theirs = read_run(finished)[1]
    first = next(place for place, row in enumerate(theirs) if (row.task, row.method) == (kept.task, kept.method))
    assert read_run(folder)[1] == [*theirs[: first + 2], kept, *theirs[first + 4 :]]


def test_a_command_killed_twice_ends_with_the_same_bytes(recipe: EvaluateRecipe, tmp_path: Path) -> None:
    """SIGKILL, programs in the sandbox among what it meets; the second time after it has resumed once."""
    recipe = recipe.model_copy(update={"execute": True})
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    evaluate(recipe, whole)
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    main = "from codecria.cli.main import main; main()"
    command = [sys.executable, "-c", main, "evaluate", "--recipe", str(tmp_path / "recipe.json"), "--out", str(folder)]
    total = len(list((whole / "groups").glob("*.jsonl")))
    for groups in (1, total // 2):
        child = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
        while child.poll() is None and len(list((folder / "groups").glob("*.jsonl"))) < groups:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert groups <= len(list((folder / "groups").glob("*.jsonl"))) < total
        with pytest.raises(CodecriaError, match="no finished evaluation"):
            read_run(folder)
    evaluate(recipe, folder)
    for name in ("config.json", "samples.jsonl", "results.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_folder_of_another_run_is_refused(finished: Path, recipe: EvaluateRecipe) -> None:
    with pytest.raises(CodecriaError, match="holds an evaluation with another recipe; name another folder"):
        evaluate(recipe.model_copy(update={"seed": 1}), finished)


def test_other_code_under_the_same_path_is_another_run(recipe: EvaluateRecipe, corpus: Path, tmp_path: Path) -> None:
    tasks = Tasks.model_validate({"perplexity": {"max_tokens": 100, "window_tokens": 64, "stride_tokens": 32}})
    code, built = tmp_path / "code", tmp_path / "built"
    code.mkdir()
    (code / "a.py").write_text("".join(f"first_{n} = compute({n})\n" for n in range(40)))
    shutil.copytree(corpus, built)
    recipes = [
        recipe.model_copy(update={"tasks": tasks, "corpus": None, "folder": str(code)}),
        recipe.model_copy(update={"tasks": tasks, "corpus": str(built)}),
    ]
    results = [evaluate(each, tmp_path / f"run{number}") for number, each in enumerate(recipes)]
    assert [evaluate(each, tmp_path / f"run{number}") for number, each in enumerate(recipes)] == results
    (code / "a.py").write_text("".join(f"second_{n} = compute({n})\n" for n in range(40)))
    manifest = json.loads((built / "manifest.json").read_text())
    manifest["shards"][0]["sha256"] = "0" * 64
    (built / "manifest.json").write_text(json.dumps(manifest))
    for number, each in enumerate(recipes):
        with pytest.raises(CodecriaError, match="holds an evaluation with another corpus; name another folder"):
            evaluate(each, tmp_path / f"run{number}")


def test_recipes_are_read_from_yaml_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "evaluate.yaml"
    path.write_text(
        "checkpoint: some/model\n"
        "tasks:\n"
        "  human_eval: {samples: 20, k: [1, 10], temperature: 0.8, top_p: 0.95}\n"
        "  single_line_human_eval: {methods: [psm], items: 100}\n"
    )
    recipe = load_recipe(EvaluateRecipe, path, ["seed=3"])
    (lines, _), (human_eval, drawn) = recipe.tasks.chosen()
    assert (lines.name, human_eval.name) == ("single_line_human_eval", "human_eval")
    assert isinstance(drawn, HumanEvalRecipe) and drawn.k == (1, 10)
    assert recipe.seed == 3
    path.write_text("tasks: {human_evil: {}}\n")
    with pytest.raises(CodecriaError, match="did you mean 'human_eval'"):
        load_recipe(EvaluateRecipe, path)
    path.write_text("tasks: {perplexity: {}}\n")
    with pytest.raises(CodecriaError, match="the task 'perplexity' needs held-out files: set 'corpus'"):
        load_recipe(EvaluateRecipe, path)
    with pytest.raises(ValidationError, match="no task is named"):
        EvaluateRecipe(tasks=Tasks())

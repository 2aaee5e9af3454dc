import json
from pathlib import Path

import pytest
import torch

from codecria.common.errors import CodecriaError
from codecria.pipeline.rounds import RoundsRecipe, round_table, run_rounds
from tests.instruct.packages import scripted, write_package
from tests.training.small import small_stage


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return write_package(tmp_path_factory.mktemp("packages"))


def recipe(tmp_path_factory, packages, server):
    stage = small_stage(tmp_path_factory)
    stage["batches"] |= {"mixture": {"conversations": 0.9, "code": 0.1}, "conversations": "set-by-the-round"}
    stage["batches"] |= {"infill": {"rate": 0.0, "level": "context"}}
    return RoundsRecipe.model_validate(
        {
            "rounds": 2,
            "self_instruct": {
                "generators": {"known": {"model": "known", "endpoint": server.url, "dialect": "openai"}},
                "questions": [{"type": "mined", "packages": ["small-lists"], "folder": str(packages), "suites": False}],
                "solutions": {"generator": "known", "samples": 2, "max_tokens": 8},
                "decontamination": {"human_eval": False},
            },
            "train": stage | {"steps": 3},
        }
    )


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*.json*")) if path.is_file()}


def test_the_model_that_was_trained_solves_the_next_round(tmp_path_factory, packages, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    right = "[PYTHON]\ndef clamp(value, low=0):\n    return max(low, min(value, 3))\n[/PYTHON]"
    with scripted(lambda prompt, _seed: right if "def clamp" in prompt else "no idea") as server:
        values = recipe(tmp_path_factory, packages, server)
        first, second = run_rounds(values, tmp_path / "run")
        asked, made = len(server.bodies), files(tmp_path / "run")
        assert run_rounds(values, tmp_path / "run") == [first, second]
        assert files(tmp_path / "run") == made
        monkeypatch.chdir(tmp_path)
        assert run_rounds(values, Path("run"))[0] == first
        assert len(server.bodies) == asked
    assert (first.round, first.solved, first.new, first.passed, first.samples) == (1, 1, 1, 1, 2 * first.questions - 1)
    # Three steps on one answer teach a model of 60,000 weights nothing; but it is the one that was asked.
    assert second.model == str(tmp_path / "run" / "round-1" / "training" / "checkpoint")
    assert second.questions == first.questions and second.samples == 2 * second.questions
    assert [each["round"] for each in json.loads((tmp_path / "run" / "rounds.json").read_text())] == [1, 2]
    assert round_table([first, second]).row_count == 2


def test_rounds_end_where_nothing_passes(tmp_path_factory, packages, tmp_path):
    with scripted(lambda _prompt, _seed: "no idea") as server:
        values = recipe(tmp_path_factory, packages, server)
        with pytest.raises(CodecriaError, match="no solution passed, so there is nothing to train on"):
            run_rounds(values, tmp_path / "run")
        changed = values.model_copy(update={"rounds": 3})
        with pytest.raises(CodecriaError, match="another recipe: rounds differ"):
            run_rounds(changed, tmp_path / "run")

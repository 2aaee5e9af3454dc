import json
import os
import socket
import subprocess
import sys

import pytest

from codecria.corpus.build import CorpusRecipe, build_corpus
from tests.tiny import SOURCE


@pytest.fixture(autouse=True)
def at_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_a_plan_is_a_table_of_80_columns_and_needs_no_weights(run):
    status, out, _ = run("train", "code-7b", "--dry-run", "--gpus", 128)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    rows = {line[:17].strip(): line[17:].split()[0] for line in out.splitlines()[1:] if line.strip()}
    assert rows["tokens in all"] == "499.999"
    assert rows["FLOPs a token"] == "46.1"
    assert rows["GPU-hours"] == "14,382.5"
    assert "warning" not in out


def test_a_stage_that_does_not_fit_is_warned_of(run):
    assert "138 GB do not fit the 80 GB of a GPU" in run("train", "code-7b", "--dry-run")[1]


def test_a_run_shorter_than_its_warm_up_is_warned_of(run):
    out = run("train", "code-7b", "--dry-run", "--gpus", 128, "--set", "steps=200")[1]
    assert "warning: a warm-up of 1,000 steps in a run of 200" in " ".join(out.split())


def test_a_plan_as_json(run):
    out = run("train", "long-context-7b", "--dry-run", "--json", "--gpus", 64, "--mfu", 0.5)[1]
    plan = json.loads(out)
    assert plan["tokens"] == 3_000 * 2**21
    assert plan["gpu_hours"] == pytest.approx(plan["flops"] / (0.5 * 989e12) / 3600)
    assert plan["memory_gb"] == pytest.approx(sum(part["size_bytes"] for part in plan["memory"]) / 1e9)


def test_ranks_start_as_a_module_and_only_the_first_speaks(plain_model, tmp_path):
    source = {"type": "folder", "path": str(SOURCE / "common"), "licence": "Apache-2.0"}
    corpus = CorpusRecipe.model_validate({"sources": [source], "decontamination": {"human_eval": False}})
    build_corpus(corpus, tmp_path / "corpus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    values = {
        "model": str(plain_model),
        "corpus": str(tmp_path / "corpus"),
        "steps": 2,
        "sequences_per_step": 2,
        "precision": "fp32",
        "batches": {"sequence_tokens": 256, "piece_tokens": 120, "infill": {"level": "context"}},
    }
    (tmp_path / "mine.yaml").write_text(json.dumps(values))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    command += ["-m", "codecria.cli.main", "train", "mine.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["runs/mine/checkpoint"]
    assert done.stderr.count("train: 2 of 2 steps") == 1
    assert (tmp_path / "runs" / "mine" / "checkpoint" / "lineage.json").exists()

"""SIGKILL at any moment, also while a state is written: the run goes on to the same losses."""

import os
import random
import shutil
import subprocess
import sys
import time

import pytest

from codecria.training.metrics import read_metrics
from codecria.training.state import read_facts, saved_states
from tests.training.forks import run, start, train_values
from tests.training.small import exact, small_stage

STEPS = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without a stop, a state every third step."""
    folder = tmp_path_factory.mktemp("whole")
    often = {"checkpoint_every_steps": 3, "keep_states": 2}
    values = small_stage(tmp_path_factory) | often | {"steps": STEPS, "sequences_per_step": 4}
    run(train_values, values, folder / "run")
    return values, folder / "run"


def kill_often(values, folder, kills, seed, ranks=1):
    """Start the run again and again; kill it some steps later, or as soon as a state is being written.

    Returns how many kills met a state half written.
    """
    draw = random.Random(seed)
    met = 0
    for kill in range(kills):
        metrics, state = folder / "metrics.jsonl", folder / "state"
        steps = len(read_metrics(metrics)) + draw.randint(1, 4)
        processes = start(train_values, values, folder, ranks=ranks)
        deadline = time.monotonic() + 120
        while len(read_metrics(metrics)) < min(steps, STEPS - 1):
            assert all(process.is_alive() for process in processes), f"kill {kill} of seed {seed}"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        if draw.random() < 0.5:
            while not list(state.glob(".step-*.part")) and time.monotonic() < deadline and processes[0].is_alive():
                time.sleep(0.0002)
        time.sleep(draw.choice([0, 0.002, 0.01]))
        # One rank dies first; what it leaves behind is what torchrun then ends.
        for process in draw.sample(processes, ranks):
            process.kill()
            time.sleep(draw.choice([0, 0.05]))
        for process in processes:
            process.join()
        met += bool(list(state.glob(".step-*.part")))
        assert not (folder / "checkpoint").exists(), f"the run was over before kill {kill} of seed {seed}"
    return met


def check(whole, folder, kills, seed, ranks=1):
    values, reference = whole
    shutil.copytree(reference / "prepared", folder / "prepared")
    met = kill_often(values, folder, kills, seed, ranks)
    assert saved_states(folder / "state"), f"no state after the kills of seed {seed}"
    run(train_values, values, folder, ranks=ranks)
    return met


def test_three_kills(whole, tmp_path):
    check(whole, tmp_path, 3, seed=5)
    assert exact(tmp_path) == exact(whole[1])
    weights = "checkpoint/model.safetensors"
    assert (tmp_path / weights).read_bytes() == (whole[1] / weights).read_bytes()
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_twenty_kills(whole, tmp_path):
    assert check(whole, tmp_path, 20, seed=6) >= 3
    assert exact(tmp_path) == exact(whole[1])


@pytest.mark.slow
def test_kills_of_one_rank_of_two_or_both(whole, tmp_path):
    for name in ("reference", "killed"):
        shutil.copytree(whole[1] / "prepared", tmp_path / name / "prepared")
    run(train_values, whole[0], tmp_path / "reference", ranks=2)
    kill_often(whole[0], tmp_path / "killed", 5, seed=7, ranks=2)
    run(train_values, whole[0], tmp_path / "killed", ranks=2)
    assert exact(tmp_path / "killed") == exact(tmp_path / "reference")


@pytest.mark.slow
def test_other_ranks_go_on_after_kills(whole, tmp_path):
    """Alone, then two copies of two shards, then tensor parallelism under torchrun."""
    values, reference = whole
    shutil.copytree(reference / "prepared", tmp_path / "prepared")
    kill_often(values, tmp_path, 2, seed=8)
    kill_often(values | {"parallel": {"replicate": 2}}, tmp_path, 3, seed=9, ranks=4)
    assert read_facts(saved_states(tmp_path / "state")[-1])[1]["ranks"]["replicate"] == 2
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*torchrun, "-m", "codecria.cli.main", "train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path)]
    command += ["--set", "parallel.tensor=2"]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    for one, other in zip(exact(reference), exact(tmp_path), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4), one["step"]
        assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3), one["step"]

"""Every experiment from its command to its plot, on a tiny model: figures mean nothing, but the commands run."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from experiments.__main__ import HERE, NAMES
from experiments.rope_theta.copies import PASSAGES, SHARE, with_passages_again
from experiments.shared.statistics import over_items, over_seeds

ROOT = HERE.parent


@pytest.fixture(scope="module")
def small_runs(tmp_path_factory):
    runs = tmp_path_factory.mktemp("experiments")
    command = [sys.executable, "-m", "experiments", *NAMES, "--small", "--seeds", "0", "--runs", str(runs)]
    found = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert not found.returncode, found.stderr[-2000:]
    return runs


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_writes_results_and_a_plot(small_runs, name):
    out = small_runs / "results" / name
    results = json.loads((out / "results.json").read_text())
    assert results["small"] and results["seeds"] == [0]
    assert (out / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_its_results_or_says_that_there_are_none(name):
    folder = HERE / name
    page = (folder / "README.md").read_text()
    assert f"python -m experiments {name}" in page
    if not (folder / "results.json").exists():
        assert "**Not run.**" in page
        return
    assert not json.loads((folder / "results.json").read_text())["small"]
    assert (folder / "plot.png").stat().st_size > 10_000 and "plot.png" in page


def test_seeds_give_an_interval_and_what_they_could_have_shown():
    found = over_seeds([0.1, 0.2, 0.3])
    assert math.isclose(found["mean"], 0.2)
    # Student's t for 2 degrees of freedom: 4.303 for 95 %, 1.061 for 80 % power; the standard error is 0.1 / √3.
    assert math.isclose(found["high"] - found["mean"], 4.303 * 0.1 / 3**0.5, rel_tol=1e-3)
    assert math.isclose(found["detectable"], (4.303 + 1.061) * 0.1 / 3**0.5, rel_tol=1e-3)
    assert over_seeds([0.5]) == {"mean": 0.5, "by_seed": [0.5]}


def test_items_are_paired_over_the_mean_of_the_seeds():
    before = np.random.default_rng(0).normal(size=(3, 200))
    found = over_items(before + 0.5, before, None, "key")
    assert math.isclose(found["mean"], 0.5) and found["high"] - found["low"] < 1e-9


def test_passages_come_again_behind_themselves_and_nothing_is_lost():
    for seed in range(20):
        lines = [f"name_{seed}_{number} = {number}\n" for number in range(60)]
        again = with_passages_again("".join(lines)).splitlines(keepends=True)
        assert list(dict.fromkeys(again)) == lines  # first readings stand where they stood
        added = sum(map(len, again)) - sum(map(len, lines))
        assert added > 0 and added < 2 * PASSAGES * SHARE * sum(map(len, lines))

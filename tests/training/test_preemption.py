import signal
import subprocess
import sys
import time

import pytest

from codecria.training.loop import train
from codecria.training.recipe import TrainRecipe
from codecria.training.state import read_facts, saved_states
from tests.training import forks
from tests.training.small import exact, small_stage, start_cli


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    keys = {"steps": 300, "checkpoint_every_steps": 1000, "validation": {"every_steps": 15, "sequences": 2}}
    return small_stage(tmp_path_factory) | keys


def wait_for_lines(run, count):
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() or len(exact(run)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_under_way_and_the_run_goes_on(values, tmp_path, number):
    process = start_cli(tmp_path, values)
    wait_for_lines(tmp_path / "run", 9)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    (state,) = saved_states(tmp_path / "run" / "state")
    step = read_facts(state)[0].step
    assert f"{number.name}: the state of step {step} is saved" in said
    before = exact(tmp_path / "run")
    assert 8 <= step < 300
    assert max(line["step"] for line in before) == step

    class Enough:
        """Ends the second run 18 steps later: past a validation, to be compared with one that nothing stopped."""

        every_steps = step + 18

        def __call__(self, _model, at):
            if at:
                raise KeyboardInterrupt
            return {}

    recipe = TrainRecipe.model_validate(values)
    for folder in (tmp_path / "run", tmp_path / "whole"):
        with pytest.raises(KeyboardInterrupt):
            train(recipe, folder, probes=[Enough()])
    assert exact(tmp_path / "run") == exact(tmp_path / "whole")
    assert exact(tmp_path / "run")[: len(before)] == before


def test_one_rank_is_told_and_all_stop_at_the_same_step(values, tmp_path):
    ranks = forks.start(forks.train_values, values, tmp_path / "run", ranks=2)
    wait_for_lines(tmp_path / "run", 5)
    ranks[1].terminate()
    for each in ranks:
        each.join(60)
    assert [each.exitcode for each in ranks] == [143, 143]
    (state,) = saved_states(tmp_path / "run" / "state")
    assert read_facts(state)[0].step == exact(tmp_path / "run")[-1]["step"]


SLEEPER = """
import sys, time, torch
from codecria.training.parallel import World
from codecria.training.preemption import Preemption
with Preemption(float(sys.argv[1]), World(torch.device("cpu"))):
    print("ready", flush=True)
    time.sleep(60)
"""


def sleeper(grace_s):
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(grace_s)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_step_longer_than_the_grace_ends_all_the_same():
    process = sleeper(0.5)
    process.send_signal(signal.SIGTERM)
    assert "no state could be saved within 0.5 s" in process.communicate(timeout=20)[1]
    assert process.returncode == 143


def test_a_second_signal_ends_at_once_but_not_the_same_one_passed_on():
    process = sleeper(60)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    time.sleep(1.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM

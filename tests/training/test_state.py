import os
import threading

import pytest
import torch
from torch import nn

from codecria.common.errors import CodecriaError
from codecria.training.optimiser import make_optimiser
from codecria.training.parallel import World
from codecria.training.recipe import OptimiserRecipe, TrainRecipe
from codecria.training.state import Counter, States, load_state, read_facts, saved_states
from tests.training.forks import run, small_steps


def names(folder):
    return [path.name for path in saved_states(folder)]


def weights(folder, step):
    return torch.load(folder / f"weights-{step}.pt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Nine steps without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    small_steps(folder, 9)
    return weights(folder, 9)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_is_equal_to_the_bit_and_milestones_stay(whole, tmp_path):
    (tmp_path / ".step-00000010.part").mkdir()
    small_steps(tmp_path, 5, milestone_every_steps=4)
    assert names(tmp_path) == ["step-00000004"]
    small_steps(tmp_path, 9, milestone_every_steps=4, keep_states=2)
    assert equal(weights(tmp_path, 9), whole)
    assert names(tmp_path) == ["step-00000004", "step-00000006", "step-00000008"]
    assert not list(tmp_path.glob(".*"))
    counter, facts = read_facts(saved_states(tmp_path)[-1])
    assert counter.step == 8
    assert (facts["torch"], facts["threads"], facts["ranks"]["size"]) == (torch.__version__, 1, 1)


def test_other_ranks_go_on_to_the_same_weights(whole, tmp_path):
    small_steps(tmp_path, 3)
    run(small_steps, tmp_path, 6, ranks=4)
    assert read_facts(saved_states(tmp_path)[-1])[1]["ranks"]["size"] == 4
    run(small_steps, tmp_path, 9, ranks=2)
    assert equal(weights(tmp_path, 9), whole)
    small_steps(tmp_path, 9)
    assert equal(weights(tmp_path, 9), whole)


def model_and_optimiser(width=4):
    model = nn.Linear(width, 3)
    optimiser = make_optimiser(model, OptimiserRecipe())
    model(torch.ones(2, width)).sum().backward()
    optimiser.step()
    return model, optimiser


def states_in(folder, **values):
    values = {"milestone_every_steps": 2} | values
    recipe = TrainRecipe(model="", corpus="", steps=9, sequences_per_step=1, **values)
    return States(folder, recipe, World(torch.device("cpu")))


def test_training_goes_on_while_the_state_of_now_is_written(tmp_path, monkeypatch):
    may_sync, sync = threading.Event(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (may_sync.wait(20), sync(file)))
    model, optimiser = model_and_optimiser()
    states, saved = states_in(tmp_path), model.weight.detach().clone()
    moment = optimiser.state[model.weight]["exp_avg"].clone()
    states.save(model, optimiser, Counter(step=1, sequence=7, tokens=70))
    assert names(tmp_path) == []
    with torch.no_grad():
        model.weight += 1
        optimiser.state[model.weight]["exp_avg"] += 1
    may_sync.set()
    states.finish()
    other, its_optimiser = model_and_optimiser()
    assert load_state(tmp_path / "step-00000001", other, its_optimiser) == Counter(1, 7, 70)
    assert torch.equal(other.weight, saved)
    assert torch.equal(its_optimiser.state[other.weight]["exp_avg"], moment)


@pytest.mark.parametrize("keep", [1, 2, 3, 4, 5])
def test_as_many_states_stay_as_the_recipe_says(tmp_path, keep):
    states, steps = states_in(tmp_path, keep_states=keep, milestone_every_steps=None), range(1, 8)
    for step in steps:
        states.save(*model_and_optimiser(), Counter(step=step))
        states.finish()
        assert names(tmp_path) == [f"step-{each:08d}" for each in steps[:step][-keep:]]


def test_a_finished_run_keeps_its_milestones_only(tmp_path):
    states = states_in(tmp_path)
    for step in (1, 2, 3):
        states.save(*model_and_optimiser(), Counter(step=step))
    states.finish()
    assert names(tmp_path) == ["step-00000002", "step-00000003"]
    states.clear()
    assert names(tmp_path) == ["step-00000002"]


def test_a_state_of_another_model_is_refused(tmp_path):
    states = states_in(tmp_path)
    states.save(*model_and_optimiser(), Counter(step=1))
    states.finish()
    with pytest.raises(CodecriaError, match=r"step-00000001: the saved state is of another model; name another"):
        states_in(tmp_path).resume(*model_and_optimiser(width=5))
    (tmp_path / "step-00000001" / "__0_0.distcp").unlink()
    with pytest.raises(CodecriaError, match="no such file") as error:
        states_in(tmp_path).resume(*model_and_optimiser())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("ranks", "limited"), [(1, 0), (2, 1)])
def test_a_state_that_cannot_be_written_is_one_line_on_every_rank(whole, tmp_path, ranks, limited):
    run(small_steps, tmp_path, 3, ranks=ranks)
    run(small_steps, tmp_path, 5, limited, ranks=ranks)
    for rank in range(ranks):
        line = (tmp_path / f"error-{rank}.txt").read_text()
        assert line == f"{tmp_path}/step-00000004: file too large; the last whole state is step-00000002"
    assert [path.name for path in tmp_path.glob("*step*")] == ["step-00000002"]
    run(small_steps, tmp_path, 9, ranks=ranks)
    assert equal(weights(tmp_path, 9), whole)

import math

import pytest
import torch
from torch import nn

from codecria.training.optimiser import FasterRows, learning_rate, make_optimiser, warm_up_note
from codecria.training.recipe import OptimiserRecipe, TrainRecipe

PAPER = OptimiserRecipe(peak_rate=3e-4, warm_up_steps=1000)


def test_schedule_is_the_paper_s():
    steps = 125_000
    assert learning_rate(0, steps, PAPER) == pytest.approx(3e-7)
    assert learning_rate(999, steps, PAPER) == pytest.approx(3e-4)
    assert learning_rate(1000, steps, PAPER) == pytest.approx(3e-4)
    assert learning_rate(steps - 1, steps, PAPER) == pytest.approx(3e-4 / 30)
    half = 1000 + (steps - 1 - 1000) // 2
    assert learning_rate(half, steps, PAPER) == pytest.approx((3e-4 + 1e-5) / 2, rel=1e-3)
    rates = [learning_rate(step, 200, OptimiserRecipe(warm_up_steps=20)) for step in range(200)]
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_faster_rows_equal_a_parameter_group_of_their_own():
    torch.manual_seed(0)
    table = torch.randn(6, 3)
    together = nn.Embedding(6, 3)
    together.weight.data.copy_(table)
    slow, fast = nn.Parameter(table[:4].clone()), nn.Parameter(table[4:].clone())
    recipe = OptimiserRecipe(peak_rate=1e-2, weight_decay=0.1)
    one = make_optimiser(together, recipe)
    reference = torch.optim.AdamW(
        [{"params": [slow], "lr": 1e-2}, {"params": [fast], "lr": 5e-2}], betas=recipe.betas, weight_decay=0.1
    )
    rows = FasterRows([together.weight], 2, 5.0)
    for _ in range(5):
        gradient = torch.randn(6, 3)
        together.weight.grad, slow.grad, fast.grad = gradient, gradient[:4].clone(), gradient[4:].clone()
        rows.before_step()
        one.step()
        rows.after_step()
        reference.step()
    torch.testing.assert_close(together.weight.data, torch.cat([slow, fast]).data, atol=1e-6, rtol=1e-5)


def test_norms_are_not_decayed():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.LayerNorm(3))
    groups = make_optimiser(model, OptimiserRecipe()).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.1), (2, 0.0)]


def test_a_run_shorter_than_its_warm_up_is_no_error():
    assert math.isfinite(learning_rate(4, 5, PAPER))
    run = TrainRecipe(model="m", corpus="c", steps=200, sequences_per_step=1)
    assert warm_up_note(run) == "a warm-up of 1,000 steps in a run of 200: the rate ends at 20% of its peak"
    assert warm_up_note(run.model_copy(update={"steps": 1000})) is None

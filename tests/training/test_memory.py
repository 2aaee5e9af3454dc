"""The most memory a step holds at once, measured in a process of its own."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codecria.batches.loader import Sequence
from codecria.model.config import PRESETS
from codecria.model.transformer import Transformer
from codecria.training.lora import add_lora
from codecria.training.optimiser import FasterRows, make_optimiser
from codecria.training.parallel import World, recompute
from codecria.training.recipe import LoraRecipe, TrainRecipe
from codecria.training.step import take_gradient, take_step

ROOT = Path(__file__).parents[2]
SMOLLM2 = PRESETS["smollm2-135m"]


def peak_gb():
    """VmHWM: what this process has held at most. getrusage would count its parent's memory before the exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


def build(changes, lora):
    """Random weights, adapters too."""
    with torch.device("meta"):
        model = Transformer(replace(SMOLLM2, **changes))
        if lora is not None:
            add_lora(model, lora, 0)
    model = model.to_empty(device="cpu")
    model.initialise(0)
    recompute(model)
    return model.train()


def step(tokens, precision, lora, changes):
    """One step on one document of random tokens: prints the peak before and after it, in GB, and its figures."""
    torch.set_num_threads(1)
    adapters = LoraRecipe() if lora else None
    model = build(changes, adapters)
    recipe = TrainRecipe(
        model="", corpus="", steps=1, sequences_per_step=1, precision=precision, lora=adapters, max_positions=tokens
    )
    optimiser = make_optimiser(model, recipe.optimiser)
    parameters = [each for group in optimiser.param_groups for each in group["params"]]
    weights = np.ones(tokens, dtype=np.float32)
    weights[0] = 0.0
    ids = np.random.default_rng(0).integers(0, SMOLLM2.vocab_size, tokens)
    row = Sequence(ids, weights, np.zeros(tokens, dtype=np.uint8), [tokens], "code", 0, {})
    before_gb = peak_gb()
    figures = take_gradient(model, parameters, [row], recipe, World(torch.device("cpu")), ["code"])
    take_step(optimiser, FasterRows([], 0, 1.0), 1e-4)
    print(json.dumps([before_gb, peak_gb(), figures.loss, figures.gradient_norm, figures.tokens]))


def in_its_own_process(*arguments):
    code = f"from tests.training.test_memory import step; step(*{arguments!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_logits_of_a_sequence_never_exist():
    """4,096 tokens by 49,152 rows are 0.81 GB in float32, and plain cross-entropy holds three times that."""
    before_gb, peak, loss, norm, _ = in_its_own_process(
        4096, "fp32", False, {"hidden_size": 64, "intermediate_size": 128, "num_layers": 1, "num_heads": 1,
                              "num_kv_heads": 1}
    )  # fmt: skip
    assert peak - before_gb < 0.8
    assert loss == pytest.approx(np.log(SMOLLM2.vocab_size), rel=0.05)
    assert norm > 0


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "lora"), [("fp32", False), ("bf16", True)])
def test_16384_tokens_train_within_8_gb(precision, lora):
    """SmolLM2-135M, one document of 16,384 tokens, each block's activations recomputed."""
    _, peak, loss, norm, tokens = in_its_own_process(16_384, precision, lora, {})
    assert peak < 8
    assert tokens == 16_384
    assert loss == pytest.approx(np.log(SMOLLM2.vocab_size), rel=0.1)
    assert norm > 0

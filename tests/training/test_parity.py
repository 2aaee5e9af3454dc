"""Twenty steps as transformers' own Llama and a plain PyTorch loop take them: the same losses."""

import pytest
import torch
import transformers
from torch.nn import functional as F

from codecria.batches.loader import Sequences
from codecria.training.loop import train
from codecria.training.metrics import read_metrics
from codecria.training.optimiser import learning_rate
from codecria.training.recipe import TrainRecipe
from codecria.training.start import begin, save_start
from tests.training.small import small_stage

STEPS = 20


def one_document_a_row(batch):
    """Ids, targets and weights [documents, longest], padded at the right, where causal attention does not look."""
    ids, weights = [], []
    for row in batch:
        ids += torch.from_numpy(row.ids).split(row.lengths)
        weights += torch.from_numpy(row.weights).split(row.lengths)
    ids = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    weights = torch.nn.utils.rnn.pad_sequence(weights, batch_first=True)
    return ids[:, :-1], ids[:, 1:], weights[:, 1:]


def test_the_losses_are_those_of_transformers_and_a_plain_loop(tmp_path_factory, tmp_path):
    values = small_stage(tmp_path_factory)
    values["batches"] = values["batches"] | {"loss": {"context_share": 0.5, "end_weight": 3.0}}
    values |= {"steps": STEPS, "sequences_per_step": 4, "sequences_per_micro_batch": 2}
    values["optimiser"] = {"peak_rate": 5e-3, "warm_up_steps": 5, "clip_norm": 0.5}
    recipe = TrainRecipe.model_validate(values)
    train(recipe, tmp_path / "run")
    ours = [(line["loss"], line["gradient_norm"]) for line in read_metrics(tmp_path / "run" / "metrics.jsonl")]

    start = begin(recipe)
    loader = Sequences(tmp_path / "run" / "prepared", start.tokenizer, start.sentinels, recipe.batches, recipe.seed)
    save_start(recipe, tmp_path / "start")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "start", dtype=torch.float32)
    assert type(model).__name__ == "LlamaForCausalLM"
    matrices = [each for each in model.parameters() if each.ndim >= 2]
    norms = [each for each in model.parameters() if each.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    theirs = []
    for step in range(STEPS):
        ids, targets, weights = one_document_a_row([loader.sequence(n) for n in range(4 * step, 4 * step + 4)])
        losses = F.cross_entropy(model(ids).logits.flatten(0, 1), targets.flatten(), reduction="none")
        loss = (losses * weights.flatten()).sum() / weights.sum()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, STEPS, recipe.optimiser)
        optimiser.step()
        optimiser.zero_grad()
        theirs.append((loss.item(), norm.item()))
    assert sum(norm > 0.5 for _, norm in theirs) > 3
    assert theirs[-1][0] < theirs[0][0] - 0.3
    for (our_loss, our_norm), (loss, norm) in zip(ours, theirs, strict=True):
        assert our_loss == pytest.approx(loss, rel=1e-4)
        assert our_norm == pytest.approx(norm, rel=1e-3)

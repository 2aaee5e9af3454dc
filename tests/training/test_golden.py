"""The losses of 100 steps, as committed: whatever changes a number of training changes this list.

Text, vocabulary, weights and order are made here, from nothing that changes with the project. After a change that is
meant to change the numbers (another draw, another schedule), renew the list and say why in the commit:

    python -m tests.training.test_golden
"""

import hashlib
import json
import tempfile
from pathlib import Path

import pytest
import torch

import tests.tiny
from codecria.training.loop import train
from codecria.training.metrics import read_metrics
from codecria.training.recipe import TrainRecipe

GOLDEN = Path(__file__).with_name("golden_losses.json")
VERBS = ("read", "write", "count", "split", "merge", "check", "order", "pack", "draw", "trim")
NOUNS = ("token", "line", "path", "shard", "batch", "score", "prefix", "suffix", "middle", "vocabulary")


def source_text(number: int) -> str:
    """A Python file of some functions."""
    draw = iter(hashlib.shake_256(f"file {number}".encode()).digest(4000))
    lines = [f'"""File {number}: what one does with a {NOUNS[next(draw) % 10]}."""', ""]
    for _ in range(6 + next(draw) % 8):
        verb, one, other = VERBS[next(draw) % 10], NOUNS[next(draw) % 10], NOUNS[next(draw) % 10]
        lines += ["", f"def {verb}_{one}({other}, limit={next(draw)}):", f"    total = {next(draw)}"]
        for _ in range(2 + next(draw) % 5):
            verb, noun = VERBS[next(draw) % 10], NOUNS[next(draw) % 10]
            lines.append(f"    for {noun} in {verb}({other}, {next(draw)}):")
            lines.append(f"        total += {NOUNS[next(draw) % 10]}[{next(draw)}] * {noun} - limit")
        lines += [f"    return total // {1 + next(draw)}", ""]
    return "\n".join(lines)


def losses(folder: Path) -> list[float]:
    (folder / "texts" / "common").mkdir(parents=True)
    for number in range(60):
        (folder / "texts" / "common" / f"file_{number}.py").write_text(source_text(number))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tests.tiny, "SOURCE", folder / "texts")
        tests.tiny.write_tiny_checkpoint(folder / "model", vocab_size=400)
        tests.tiny.write_tiny_corpus(folder / "corpus")
    recipe = TrainRecipe.model_validate(
        {
            "model": str(folder / "model"),
            "corpus": str(folder / "corpus"),
            "steps": 100,
            "sequences_per_step": 4,
            "sequences_per_micro_batch": 2,
            "batches": {
                "sequence_tokens": 256,
                "piece_tokens": 200,
                "infill": {"rate": 0.7, "level": "context", "units": {"character": 1.0, "line": 1.0}},
                "loss": {"context_share": 0.5, "end_weight": 2.0},
            },
            "optimiser": {"peak_rate": 3e-3, "warm_up_steps": 10, "new_rows_factor": 3.0},
            "precision": "fp32",
            "checkpoint_every_steps": 1000,
            "seed": 7,
        }
    )
    train(recipe, folder / "run")
    return [line["loss"] for line in read_metrics(folder / "run" / "metrics.jsonl")]


def test_the_losses_are_the_committed_ones(tmp_path):
    golden = json.loads(GOLDEN.read_text())
    assert losses(tmp_path) == pytest.approx(golden, rel=1e-4)
    assert len(golden) == 100
    assert golden[-1] < golden[0] - 1.5


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(json.dumps([round(loss, 6) for loss in losses(Path(scratch))], indent=0) + "\n")

"""What keeping packed documents apart does to the loss: SmolLM2-135M, trained on the same sequences both ways.

    python benchmarks/packing_effect.py CORPUS [--steps 40] [--rate 3e-4]

Two LoRA runs on rows of 2,048 tokens, with `document_attention` and without: equal recipes, sequences and draws.
Both are then asked what they are used for: the loss of held-out documents, each alone, at most 512 tokens. Before
training, the base reads packed rows both ways: what another document in sight costs a model that never met one.
Positive differences say that keeping documents apart is better.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from codecria.batches.loader import Sequences
from codecria.batches.prepare import prepare
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.common.progress import track
from codecria.corpus.store import iterate_documents
from codecria.evaluation.intervals import difference_interval, mean_interval
from codecria.training.loop import train
from codecria.training.recipe import TrainRecipe
from codecria.training.step import forward, lay_out
from codecria.training.world import World

if TYPE_CHECKING:
    from codecria.model.transformer import Transformer

BASE = "smollm2-135m"
WORLD = World(torch.device("cpu"))
MOST_TOKENS, DOCUMENTS, ROWS = 512, 80, 12


def recipe(corpus: str, steps: int, rate: float, apart: bool) -> TrainRecipe:
    return TrainRecipe.model_validate(
        {
            "model": BASE,
            "corpus": corpus,
            "steps": steps,
            "sequences_per_step": 1,
            "document_attention": apart,
            "batches": {
                "mixture": {"code": 1.0},
                "sequence_tokens": 2048,
                "piece_tokens": 448,
                "infill": {"rate": 0.0, "level": "context"},
            },
            "optimiser": {"peak_rate": rate, "warm_up_steps": 5, "weight_decay": 0.0},
            "lora": {"rank": 16},
        }
    )


@torch.no_grad()
def alone(name: str, model: Transformer, texts: list[list[int]]) -> list[float]:
    """Mean loss of each document in nats a token."""
    losses: list[float] = []
    for ids in track(texts, f"documents, {name}"):
        row = torch.tensor([ids])
        targets, weights = row[:, 1:], torch.ones(1, len(ids) - 1)
        with torch.autocast("cpu", torch.bfloat16):
            total, _ = model.loss(row[:, :-1], targets, weights)
        losses.append(float(total) / (len(ids) - 1))
    return losses


@torch.no_grad()
def packed(model: Transformer, made: TrainRecipe, folder: Path) -> dict[str, float]:
    """The base's loss on packed rows with and without what stands before a document in sight."""
    start = open_checkpoint(BASE)
    prepare(Path(made.corpus), start.tokenizer, made.batches, folder, made.seed)
    sequences = Sequences(folder, start.tokenizer, None, made.batches, made.seed)
    rows = [lay_out([sequences.sequence(n)], ["code"], 1, torch.device("cpu")) for n in range(ROWS)]
    sums: dict[bool, list[float]] = {True: [], False: []}
    for row in rows:
        for apart, losses in sums.items():
            values = forward(model, row, made.model_copy(update={"document_attention": apart}), WORLD)[1]
            losses.append(float(values.mean()))
    difference = difference_interval((sums[False], None), (sums[True], None), "packed rows")
    return {
        "apart": mean_interval(sums[True], None, "a").value,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rate", type=float, default=3e-4)
    options = parser.parse_args()
    tokenizer = open_checkpoint(BASE).tokenizer
    held_out = (each for each in iterate_documents(Path(options.corpus), "held_out") if each.kind == "code")
    texts = [ids for each in held_out if len(ids := tokenizer.encode(each.text[: 4 * MOST_TOKENS])[:MOST_TOKENS]) > 64]
    texts = texts[:: max(1, len(texts) // DOCUMENTS)][:DOCUMENTS]
    losses: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        made = recipe(options.corpus, options.steps, options.rate, apart=True)
        base = load_model(open_checkpoint(BASE)).eval()
        sight = packed(base, made, Path(temporary) / "prepared")
        print("base on packed rows", sight, file=sys.stderr)
        losses["base"] = alone("base", base, texts)
        for name, apart in (("apart", True), ("together", False)):
            shutil.copytree(Path(temporary) / "prepared", Path(temporary) / name / "prepared")
            folder = train(recipe(options.corpus, options.steps, options.rate, apart), Path(temporary) / name)
            losses[name] = alone(name, load_model(open_checkpoint(folder)).eval(), texts)
    difference = difference_interval((losses["together"], None), (losses["apart"], None), "effect")
    print(
        json.dumps(
            {
                "unit": "nats a token of held-out documents",
                "documents": len(texts),
                "steps": options.steps,
                **{name: round(sum(each) / len(each), 4) for name, each in losses.items()},
                "together_less_apart": [round(each, 4) for each in (difference.value, difference.low, difference.high)],
                "base_on_packed_rows": {name: round(value, 4) for name, value in sight.items()},
                "versions": {"python": platform.python_version(), "torch": version("torch")},
            }
        )
    )


if __name__ == "__main__":
    main()

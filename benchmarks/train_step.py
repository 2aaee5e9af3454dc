"""A training step of SmolLM2-135M on packed code: ours against the same model in transformers, padded, full logits.

Both do forward, backward, clipping and AdamW in the dtype of this machine's products, on the same 4 documents of about
350 tokens with loss on every token. Ours also runs at the demo's `context_share` of 0.15, which is not the same work
and is printed beside, not compared.
"""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import sysconfig
from pathlib import Path

import numpy as np
import torch
import transformers
from paired import compare

from codecria.batches.loader import Sequence
from codecria.checkpoint.convert import convert
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.model.precision import compute_dtype
from codecria.training.optimiser import FasterRows, make_optimiser
from codecria.training.parallel import World
from codecria.training.recipe import TrainRecipe
from codecria.training.step import take_gradient, take_step


def main() -> None:
    checkpoint = open_checkpoint("smollm2-135m")
    library = Path(sysconfig.get_paths()["stdlib"])
    lengths = [380, 300, 410, 330]
    names = ["ast.py", "argparse.py", "csv.py", "pathlib.py"]
    documents = [
        checkpoint.tokenizer.encode((library / name).read_text())[:length]
        for name, length in zip(names, lengths, strict=True)
    ]
    recipe = TrainRecipe(model="", corpus="", steps=1, sequences_per_step=1)
    dtype = compute_dtype(recipe.precision, torch.device("cpu"))
    model = load_model(checkpoint).train()
    optimiser = make_optimiser(model, recipe.optimiser)

    def run_ours(share: float = 1.0) -> int:
        weights = (np.random.default_rng(0).random(sum(lengths)) < share).astype(np.float32)
        weights[np.cumsum([0, *lengths[:-1]])] = 0.0
        ids = np.concatenate([np.array(each) for each in documents])
        row = Sequence(ids, weights, np.zeros(len(ids), dtype=np.uint8), lengths, "code", 0, {})
        take_gradient(model, list(model.parameters()), [row], recipe, World(torch.device("cpu")), ["code"])
        take_step(optimiser, FasterRows([], 0, 1.0), 1e-6)
        return len(ids)

    with tempfile.TemporaryDirectory() as folder:
        convert("smollm2-135m", folder + "/model", "huggingface", torch.float32)
        twin = transformers.AutoModelForCausalLM.from_pretrained(folder + "/model", dtype=torch.float32).train()
    other = make_optimiser(twin, recipe.optimiser)
    padded = torch.zeros(4, max(lengths), dtype=torch.long)
    labels = torch.full_like(padded, -100)
    for row, ids in enumerate(documents):
        padded[row, : len(ids)] = labels[row, : len(ids)] = torch.tensor(ids)
    mask = (labels != -100).long()

    def run_peer() -> int:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = twin(padded, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        other.step()
        other.zero_grad()
        return sum(lengths)

    transformers.utils.logging.set_verbosity_error()
    compare(
        lambda: run_ours(0.15),
        run_peer,
        unit="tokens_per_s",
        peer_name="transformers, padded, full logits; ours with context_share 0.15 (less work)",
        packages=["codecria", "torch", "transformers"],
        pairs=3,
    )
    compare(
        run_ours,
        run_peer,
        unit="tokens_per_s",
        peer_name=f"transformers, padded, full logits, {str(dtype).removeprefix('torch.')}",
        packages=["codecria", "torch", "transformers"],
        pairs=3,
    )


if __name__ == "__main__":
    main()

"""Training steps of SmolLM2-135M: ours against transformers' Trainer and litgpt's pretraining loop, speed and memory.

    python benchmarks/training.py [--rounds 4] [--threads N] [--precision fp32|bf16] [--peers transformers litgpt]

A step is 4 sequences of 1,024 tokens of Python's library at once, loss on every token, AdamW, clipping at 1.0. Each
runs in a process of its own and does a step when it is told to, in turn with the others; peak memory is that process's
VmHWM. All begin with the same weights and read the same tokens, and their losses must agree at every step. The peers
live in environments of their own, made on the first run: litgpt 0.5.13 refuses the huggingface_hub of transformers 5.
litgpt compiles its model, as `litgpt pretrain` always does; without a C++ compiler it runs uncompiled.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS, TOKENS = 4, 1024
RATE, BETAS, DECAY, CLIP = 1e-5, (0.9, 0.95), 0.1, 1.0
TORCH = "torch>=2.11,<2.14"
PEERS = {"transformers": [TORCH, "transformers[torch]==5.23.0"], "litgpt": [TORCH, "litgpt==0.5.13"]}
LOSSES_AGREE = {"fp32": 1e-3, "bf16": 2e-2}


class Turns:
    """A child's side of the pipe. What libraries print goes to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.loss = float("nan")

    def begin(self) -> None:
        """Wait for a turn; the process ends when there are no more."""
        if not sys.stdin.readline():
            os._exit(0)
        self._began, self._began_cpu = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """Say how long the step took. What is free goes back to the system, so that all three fit beside each other."""
        took = {"seconds": time.perf_counter() - self._began, "cpu_s": time.process_time() - self._began_cpu}
        ctypes.CDLL(None).malloc_trim(0)
        peak_mb = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
        print(json.dumps({**took, "loss": self.loss, "peak_mb": round(peak_mb)}), file=self._out, flush=True)


def steps(folder: Path) -> Iterator[torch.Tensor]:
    """The rows of each step, int64 [ROWS, TOKENS], for ever."""
    ids = torch.from_numpy(np.load(folder / "ids.npy")).long().view(-1, ROWS, TOKENS)
    while True:
        yield from ids


def run_ours(folder: Path, precision: str, turns: Turns) -> None:
    from codecria.batches.loader import Sequence
    from codecria.checkpoint.open import load_model, open_checkpoint
    from codecria.training.optimiser import FasterRows, make_optimiser
    from codecria.training.recipe import TrainRecipe
    from codecria.training.step import take_gradient, take_step
    from codecria.training.world import World

    adamw = {"peak_rate": RATE, "betas": BETAS, "weight_decay": DECAY, "clip_norm": CLIP}
    rows = {"sequences_per_step": ROWS, "sequences_per_micro_batch": ROWS, "steps": 1}
    recipe = TrainRecipe.model_validate({"model": "", "corpus": "", "precision": precision, "optimiser": adamw, **rows})
    model = load_model(open_checkpoint(folder / "model")).train()
    optimiser = make_optimiser(model, recipe.optimiser)
    weights, kinds = (np.arange(TOKENS) > 0).astype(np.float32), np.zeros(TOKENS, dtype=np.uint8)
    world = World(torch.device("cpu"))
    for ids in steps(folder):
        batch = [Sequence(row.numpy(), weights, kinds, [TOKENS], "code", 0, {}) for row in ids]
        turns.begin()
        turns.loss = take_gradient(model, list(model.parameters()), batch, recipe, world, ["code"]).loss
        take_step(optimiser, FasterRows([], 0, 1.0), RATE)
        turns.end()


def run_transformers(folder: Path, precision: str, turns: Turns) -> None:
    from torch.utils.data import IterableDataset
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    class Rows(IterableDataset):
        def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
            return ({"input_ids": row, "labels": row} for ids in steps(folder) for row in ids)

    class Turn(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            turns.begin()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            turns.loss = float(logs["loss"])
            turns.end()

    adamw = {"learning_rate": RATE, "adam_beta1": BETAS[0], "adam_beta2": BETAS[1], "weight_decay": DECAY}
    steady = {"lr_scheduler_type": "constant", "max_grad_norm": CLIP, "max_steps": 10**6, "logging_steps": 1}
    here = {"use_cpu": True, "bf16": precision == "bf16", "save_strategy": "no", "report_to": "none"}
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"), per_device_train_batch_size=ROWS, **adamw, **steady, **here
    )
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    Trainer(model, arguments, train_dataset=Rows(), callbacks=[Turn()]).train()


def run_litgpt(folder: Path, precision: str, turns: Turns) -> None:
    import lightning
    from litgpt import Config, pretrain
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.data import DataModule
    from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint
    from torch.utils.data import DataLoader, IterableDataset

    class Rows(IterableDataset):
        def __iter__(self) -> Iterator[torch.Tensor]:
            for ids in steps(folder):  # asked for the next rows only when a step is done
                turns.begin()
                yield torch.cat([ids, torch.full((ROWS, 1), -100)], dim=1)
                turns.end()

    class Data(DataModule):
        def connect(self, *_: Any, **__: Any) -> None: ...

        def train_dataloader(self) -> DataLoader:
            return DataLoader(Rows(), batch_size=None)

        def val_dataloader(self) -> DataLoader:  # read once before training
            return DataLoader(torch.ones(ROWS, TOKENS + 1, dtype=torch.long), batch_size=ROWS)

    class Fabric(lightning.Fabric):
        def log_dict(self, metrics: dict[str, Any], step: int | None = None) -> None:
            del step
            turns.loss = float(metrics["loss"])

    convert_hf_checkpoint(folder / "model", model_name="SmolLM2-135M")
    adamw = {"class_path": "torch.optim.AdamW", "init_args": {"lr": RATE, "betas": BETAS, "weight_decay": DECAY}}
    rows = {"global_batch_size": ROWS, "micro_batch_size": ROWS, "max_seq_length": TOKENS, "max_tokens": 10**12}
    steady = {"max_norm": CLIP, "lr_warmup_steps": 0, "min_lr": RATE, "tie_embeddings": True, "save_interval": None}
    none = dict.fromkeys(["tokenizer_dir", "tokenizer", "resume"])
    pretrain.main(
        fabric=Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if precision == "bf16" else "32-true"),
        config=Config.from_name("SmolLM2-135M"),
        initial_checkpoint_dir=folder / "model",
        out_dir=folder / "litgpt",
        data=Data(),
        train=TrainArgs(**rows, **steady),
        eval=EvalArgs(interval=10**6),
        optimizer=adamw,
        devices=1,
        seed=0,
        **none,
    )


def prepare(folder: Path) -> None:
    """The weights in float32 as a Hugging Face folder, and the tokens: the beginnings of the library's files."""
    from codecria.checkpoint.convert import convert
    from codecria.checkpoint.open import open_checkpoint

    convert("smollm2-135m", folder / "model", "huggingface", torch.float32)
    tokenizer = open_checkpoint("smollm2-135m").tokenizer
    ids: list[int] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        ids += tokenizer.encode(path.read_text())[:TOKENS]
    np.save(folder / "ids.npy", np.array(ids[: 16 * ROWS * TOKENS], dtype=np.int32))


def interpreter(name: str) -> str:
    """The Python that has a peer; its environment is made when absent."""
    if name == "ours":
        return sys.executable
    from codecria.common.files import cache_folder

    folder = cache_folder() / "benchmarks" / f"venv-{name}"
    python = str(folder / "bin" / "python")
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS[name]], check=True)
        (folder / "complete").touch()
    return python


def measure(folder: str, options: argparse.Namespace) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "GOMP_SPINCOUNT": "3000"}
    if shutil.which("g++") is None:
        environment["TORCHDYNAMO_DISABLE"] = "1"
    children: dict[str, subprocess.Popen[str]] = {}
    for name in [*options.peers, "ours"]:
        command = [interpreter(name), __file__, "--child", name, folder, "--precision", options.precision]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        children[name] = subprocess.Popen(command, env=environment, text=True, **pipes)
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in children}
    for turn in range(options.rounds + 1):
        for name, child in children.items():
            print("step", file=child.stdin, flush=True)
            taken[name].append(json.loads(child.stdout.readline()))
            print(turn, name, taken[name][-1], file=sys.stderr, flush=True)
        losses = [replies[-1]["loss"] for replies in taken.values()]
        assert max(losses) - min(losses) < LOSSES_AGREE[options.precision], losses
    for child in children.values():
        child.stdin.close()
        child.wait()

    def median(name: str, what: str) -> float:
        return statistics.median(reply[what] for reply in taken[name][1:])  # the first is the warm-up

    best = min(options.peers, key=lambda name: median(name, "seconds"))
    ratios = [peer["seconds"] / our["seconds"] for our, peer in zip(taken["ours"], taken[best], strict=True)][1:]
    peaks = {name: replies[-1]["peak_mb"] for name, replies in taken.items()}
    rates = {name: round(ROWS * TOKENS / median(name, "seconds"), 1) for name in taken}
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ours": rates["ours"],
        "peer": rates[best],
        "peer_name": best,
        "unit": "tokens_per_s",
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "memory_ratio": round(peaks["ours"] / min(peaks[name] for name in options.peers), 3),
        "tokens_per_s": rates,
        "cpu_s_per_step": {name: round(median(name, "cpu_s"), 2) for name in taken},
        "peak_mb": peaks,
        "versions": {"python": platform.python_version(), "torch": version("torch"), "peers": PEERS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--rounds", 4), ("--threads", os.cpu_count())):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run = {"ours": run_ours, "transformers": run_transformers, "litgpt": run_litgpt}[options.child[0]]
        run(Path(options.child[1]), options.precision, Turns())
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        print(json.dumps(measure(folder, options)))


if __name__ == "__main__":
    main()

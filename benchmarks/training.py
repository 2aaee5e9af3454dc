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


class Turns:
    """A child's side: wait for a turn, then say how long it took. What libraries print goes to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.loss = float("nan")
        self._began = 0.0

    def begin(self) -> None:
        if not sys.stdin.readline():
            os._exit(0)
        self._began = time.perf_counter()

    def end(self) -> None:
        seconds = time.perf_counter() - self._began
        ctypes.CDLL(None).malloc_trim(0)  # what is free goes back, so that all three fit beside each other
        status = Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
        print(json.dumps({"seconds": seconds, "loss": self.loss, "peak_mb": peak}), file=self._out, flush=True)


def steps(folder: Path) -> Iterator[torch.Tensor]:
    """The rows of each step, int64 [ROWS, TOKENS], for ever."""
    ids = torch.from_numpy(np.load(folder / "ids.npy")).long().view(-1, ROWS, TOKENS)
    while True:
        yield from ids


def run_ours(folder: Path, precision: str, turns: Turns) -> None:
    from codecria.batches.loader import Sequence
    from codecria.checkpoint.open import load_model, open_checkpoint
    from codecria.training.optimiser import FasterRows, make_optimiser
    from codecria.training.parallel import World
    from codecria.training.recipe import TrainRecipe
    from codecria.training.step import take_gradient, take_step

    optimiser = {"peak_rate": RATE, "betas": BETAS, "weight_decay": DECAY, "clip_norm": CLIP}
    count = {"steps": 1, "sequences_per_step": ROWS, "sequences_per_micro_batch": ROWS}
    recipe = TrainRecipe.model_validate(
        {"model": "", "corpus": "", "precision": precision, "optimiser": optimiser, **count}
    )
    model = load_model(open_checkpoint(folder / "model"), dtype=torch.float32).train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    adamw = make_optimiser(model, recipe.optimiser)
    weights = np.ones(TOKENS, dtype=np.float32)
    weights[0] = 0.0
    kinds = np.zeros(TOKENS, dtype=np.uint8)
    for ids in steps(folder):
        batch = [Sequence(row.numpy(), weights, kinds, [TOKENS], "code", 0, {}) for row in ids]
        turns.begin()
        world = World(torch.device("cpu"))
        turns.loss = take_gradient(model, list(model.parameters()), batch, recipe, world, ["code"]).loss
        take_step(adamw, FasterRows([], 0, 1.0), RATE)
        turns.end()


def run_transformers(folder: Path, precision: str, turns: Turns) -> None:
    from torch.utils.data import IterableDataset
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    class Rows(IterableDataset):
        def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
            for ids in steps(folder):
                yield from ({"input_ids": row, "labels": row} for row in ids)

    class Turn(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            turns.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self._seconds = time.perf_counter()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            turns.loss = logs["loss"]
            turns.end()

    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        max_steps=10**6,
        per_device_train_batch_size=ROWS,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        weight_decay=DECAY,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        max_grad_norm=CLIP,
        bf16=precision == "bf16",
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
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

        def val_dataloader(self) -> DataLoader:
            return DataLoader(torch.ones(2, 9, dtype=torch.long), batch_size=1)

    class Fabric(lightning.Fabric):
        def log_dict(self, metrics: dict[str, Any], step: int | None = None) -> None:
            del step
            turns.loss = metrics["loss"]

    convert_hf_checkpoint(folder / "model", model_name="SmolLM2-135M")
    adamw = {"lr": RATE, "betas": BETAS, "weight_decay": DECAY}
    pretrain.main(
        fabric=Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if precision == "bf16" else "32-true"),
        devices=1,
        seed=0,
        initial_checkpoint_dir=folder / "model",
        resume=False,
        config=Config.from_name("SmolLM2-135M"),
        data=Data(),
        out_dir=folder / "litgpt",
        tokenizer_dir=None,
        tokenizer=None,
        train=TrainArgs(
            global_batch_size=ROWS,
            micro_batch_size=ROWS,
            max_tokens=10**12,
            max_seq_length=TOKENS,
            max_norm=CLIP,
            lr_warmup_steps=0,
            min_lr=RATE,
            tie_embeddings=True,
            save_interval=None,
        ),
        eval=EvalArgs(interval=10**6),
        optimizer={"class_path": "torch.optim.AdamW", "init_args": adamw},
    )


def prepare(folder: Path) -> None:
    """The weights in float32 as a Hugging Face folder, and the tokens."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        torch.set_num_threads(options.threads)
        name, folder = options.child
        runs = {"ours": run_ours, "transformers": run_transformers, "litgpt": run_litgpt}
        return runs[name](Path(folder), options.precision, Turns())
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        print(json.dumps(measure(folder, options)))


def measure(folder: str, options: argparse.Namespace) -> dict[str, Any]:
    threads = str(options.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "GOMP_SPINCOUNT": "3000"}
    if shutil.which("g++") is None:
        environment["TORCHDYNAMO_DISABLE"] = "1"
    children = {}
    for name in [*options.peers, "ours"]:
        command = [interpreter(name), __file__, "--child", name, folder]
        command += ["--threads", threads, "--precision", options.precision]
        children[name] = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    rates: dict[str, list[float]] = {name: [] for name in children}
    peaks: dict[str, float] = {}
    for turn in range(options.rounds + 1):
        losses = {}
        for name, child in children.items():
            child.stdin.write("step\n")
            child.stdin.flush()
            reply = json.loads(child.stdout.readline())
            losses[name], peaks[name] = reply["loss"], round(reply["peak_mb"])
            if turn:  # the first is the warm-up
                rates[name].append(ROWS * TOKENS / reply["seconds"])
        print(turn, {name: round(ROWS * TOKENS / 1, 1) for name in ()}, losses, rates, peaks, file=sys.stderr)
    for child in children.values():
        child.stdin.close()
        child.wait()
    return {}


if __name__ == "__main__":
    main()

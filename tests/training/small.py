"""A corpus and a recipe that prepare in a second, for tests that watch a run."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from codecria.corpus.build import CorpusRecipe, DecontaminationRecipe, build_corpus
from codecria.corpus.selection import HeldOutRecipe
from codecria.corpus.sources.folder import FolderRecipe
from codecria.training.loop import train
from codecria.training.metrics import read_metrics
from codecria.training.recipe import TrainRecipe
from tests.tiny import SOURCE, write_tiny_checkpoint


def small_stage(tmp_path_factory) -> dict:
    """A tiny model, a corpus of 60 kB with held-out files and two sources, made once; returns a recipe's values."""
    folder = tmp_path_factory.getbasetemp() / "small-stage"
    if not folder.exists():
        _write(folder)
    return {
        "model": str(folder / "model"),
        "corpus": str(folder / "corpus"),
        "steps": 12,
        "sequences_per_step": 2,
        "batches": {
            "mixture": {"code": 0.7, "code-related": 0.3},
            "sequence_tokens": 256,
            "piece_tokens": 120,
            "infill": {"rate": 0.9, "level": "context"},
        },
        "optimiser": {"peak_rate": 1e-3, "warm_up_steps": 3},
        "precision": "fp32",
        "checkpoint_every_steps": 4,
        "export_precision": "fp32",
    }


def _write(folder: Path) -> None:
    write_tiny_checkpoint(folder / "model")
    write_corpus(folder)


def write_corpus(folder: Path, more: str = "") -> None:
    """Build the corpus in `folder/corpus`, from the same texts each time and one more."""
    texts = folder / "texts"
    for name in ("common", "infill"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(SOURCE / name, texts / name, ignore=ignore, dirs_exist_ok=True)
    (texts / "more.md").write_text(more)
    for place in range(6):
        words = [f"Line {number} of note {place}: what the field calls a thing is its name." for number in range(40)]
        (texts / f"note-{place}.md").write_text("\n".join(words) + "\n")
    recipe = CorpusRecipe(
        sources=(FolderRecipe(path=str(texts), licence="Apache-2.0"),),
        decontamination=DecontaminationRecipe(human_eval=False),
        held_out=HeldOutRecipe(share=0.3, max_package_share=1.0),
    )
    build_corpus(recipe, folder / "corpus")


def start_cli(folder: Path, values: dict, *more: str) -> subprocess.Popen:
    """`codecria train` of a recipe into `folder/run`, one thread."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(TrainRecipe.model_validate(values).to_yaml())
    command = [sys.executable, "-m", "codecria.cli.main", "train", str(recipe), "--out", str(folder / "run"), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def exact(run: Path) -> list[dict]:
    """The lines of a run's metrics without what is measured in seconds and bytes."""
    free = ("tokens_per_s", "data_wait_s", "step_s", "memory_gb")
    return [{name: line[name] for name in line if name not in free} for line in read_metrics(run / "metrics.jsonl")]


def killed_after(values: dict, folder: Path, step: int) -> None:
    """Train until the step after this one is done and its state on disk, then end without a word."""

    class Kill:
        every_steps = step + 1

        def __call__(self, _model, at):
            if at:
                while not (folder / "state" / f"step-{at:08d}").exists():
                    time.sleep(0.01)
                os._exit(9)
            return {}

    train(TrainRecipe.model_validate(values), folder, probes=[Kill()])

"""Where an experiment works, and the parts that several share: corpus, base model, stages."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import codecria
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.common.files import write_atomic
from codecria.common.recipe import load_recipe
from codecria.corpus.build import build_corpus
from codecria.corpus.decontaminate import DecontaminationRecipe
from codecria.corpus.recipe import CorpusRecipe
from codecria.corpus.selection import HeldOutRecipe
from codecria.corpus.sources.folder import FolderRecipe
from codecria.corpus.store import iterate_documents
from codecria.model.config import ModelConfig
from codecria.training.loop import train
from codecria.training.recipe import TrainRecipe
from codecria.training.start import save_start
from experiments.shared.random_model import write_random_model

if TYPE_CHECKING:
    from codecria.corpus.document import Document
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer

HERE = Path(__file__).parent
SHAPE = ModelConfig(
    vocab_size=4096,
    hidden_size=256,
    intermediate_size=704,
    num_layers=5,
    num_heads=4,
    num_kv_heads=4,
    head_dim=64,
    norm_eps=1e-5,
    rope_theta=1e4,
    rope_scaling=None,
    max_positions=512,
    tied_embeddings=True,
)
"""5.07 M parameters, 1.05 M of them the table: at a budget of two core-hours a larger one sees too few tokens."""
_SMALL_SHAPE = replace(
    SHAPE,
    vocab_size=600,
    hidden_size=32,
    intermediate_size=64,
    num_layers=2,
    num_heads=2,
    num_kv_heads=2,
    head_dim=16,
    max_positions=128,
)


@dataclass(frozen=True)
class Setting:
    """How large an experiment is and where its files are.

    Attributes:
        small: a few steps of a tiny model on this project's own source: whether everything runs, and no more.
        runs: folder of the corpus, of checkpoints and of runs; what is finished there is not done again.
        out: folder of `results.json` and `plot.png`.
        seeds: of the stages. The base has one seed, 0.
    """

    small: bool
    runs: Path
    out: Path
    seeds: tuple[int, ...]

    @property
    def shape(self) -> ModelConfig:
        """The base's."""
        return _SMALL_SHAPE if self.small else SHAPE

    def corpus(self, name: str = "corpus") -> Path:
        """The corpus of a recipe beside this file, built where it is not there."""
        folder = self.runs / name
        if not (folder / "manifest.json").exists():
            recipe = load_recipe(CorpusRecipe, HERE / f"{name}.yaml")
            build_corpus(_own_source() if self.small else recipe, folder)
        return folder

    def held_out(self, name: str = "corpus") -> list[Document]:
        """A corpus's files of code that nothing was trained on."""
        return [each for each in iterate_documents(self.corpus(name), "held_out") if each.kind == "code"]

    def base(self) -> Path:
        """The base's checkpoint, trained where it is not there."""
        random = self.runs / "random"
        write_random_model(self.corpus(), self.shape, 0, random)
        return self.stage(HERE / "base.yaml", random, "base")

    def marked_base(self) -> Path:
        """The base with rows for the infill markers, untrained: every arm begins with the same ones, rate 0 too.

        Else a model without them would share its probability among fewer ids.
        """
        folder = self.runs / "base-marked"
        changes = (f"model={self.base()}", f"corpus={self.corpus()}", *(self._smaller() if self.small else ()))
        recipe = load_recipe(TrainRecipe, HERE / "infill.yaml", [*changes, "batches.sequence_tokens=64"])
        save_start(recipe, folder)
        return folder

    def stage(self, recipe: Path, parent: Path | str, name: str, *changes: str) -> Path:
        """Train a stage where it is not finished.

        Args:
            recipe: its file.
            parent: a checkpoint.
            name: of the run's folder.
            changes: `key=value`, as `codecria train --set` takes them.

        Returns:
            The checkpoint.
        """
        asked = [f"model={parent}", f"corpus={self.corpus()}", *changes, *(self._smaller() if self.small else ())]
        checked = load_recipe(TrainRecipe, recipe, asked)
        if self.small:
            tokens = min(checked.batches.sequence_tokens // 4, 256)
            batches = checked.batches.model_copy(update={"sequence_tokens": tokens})
            positions = None if checked.max_positions is None else 512
            checked = checked.model_copy(update={"batches": batches, "max_positions": positions})
        return train(checked, self.runs / name)

    def _smaller(self) -> tuple[str, ...]:
        return ("steps=4", "sequences_per_step=2", "optimiser.warm_up_steps=1", "precision=fp32")

    def write(self, results: dict[str, Any]) -> None:
        """Write `results.json`: what was measured, and with which versions."""
        versions = {"python": platform.python_version(), "torch": version("torch"), "codecria": codecria.__version__}
        whole = {"small": self.small, "seeds": self.seeds, **results, "versions": versions}
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomic(self.out / "results.json", json.dumps(whole, indent=1) + "\n")


def opened(checkpoint: Path) -> tuple[Transformer, Tokenizer]:
    """A checkpoint's model in float32, to be measured."""
    found = open_checkpoint(checkpoint)
    return load_model(found, dtype=torch.float32).eval(), found.tokenizer


def _own_source() -> CorpusRecipe:
    source = Path(codecria.__file__).parent
    folders = [FolderRecipe(path=str(source / name), licence="Apache-2.0") for name in ("common", "batches", "infill")]
    return CorpusRecipe(
        sources=tuple(folders),
        decontamination=DecontaminationRecipe(human_eval=False),
        held_out=HeldOutRecipe(share=0.3, max_package_share=1.0),
    )

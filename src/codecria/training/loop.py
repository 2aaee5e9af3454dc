"""The training loop of one stage.

A run folder holds `recipe.yaml`, `prepared/` (packed corpus), `metrics.jsonl`, `state/` (what a killed run resumes
from) and, once done, `checkpoint/` (a Hugging Face folder with `lineage.json`). Killed at any moment and started
again with the same recipe, a run gives the same losses: on the same machine, ranks and thread count, to the bit.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from codecria.batches.loader import Sequences
from codecria.batches.prepare import prepare
from codecria.checkpoint.huggingface import save_huggingface
from codecria.common.errors import CodecriaError
from codecria.common.files import write_atomic
from codecria.common.progress import progress_bar
from codecria.common.recipe import load_recipe
from codecria.corpus.store import read_manifest
from codecria.training.lora import plain_weights, row_tables
from codecria.training.metrics import MetricsFile
from codecria.training.optimiser import FasterRows, learning_rate, make_optimiser
from codecria.training.parallel import make_model, open_world
from codecria.training.recipe import TrainRecipe
from codecria.training.start import begin
from codecria.training.state import Counter, States
from codecria.training.step import take_gradient, take_step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from codecria.model.transformer import Transformer
    from codecria.training.parallel import World
    from codecria.training.start import Start


class Probe(Protocol):
    """A measurement taken during training. Pipelines hand them in, so that training need not know evaluation."""

    @property
    def every_steps(self) -> int:
        """How often it is taken; also before the first step and after the last."""
        ...

    def __call__(self, model: Transformer, step: int) -> Mapping[str, float]:
        """Figures by name; they are written to the metrics under those names."""
        ...


def train(recipe: TrainRecipe, folder: Path, probes: Sequence[Probe] = ()) -> Path:
    """Run a stage to its end, from the start or from where a killed run was.

    Args:
        recipe: the stage.
        folder: the run's folder; made when absent.
        probes: measurements during training.

    Returns:
        The checkpoint folder.

    Raises:
        CodecriaError: the folder holds a run of another recipe, the parent cannot be loaded, the corpus is empty,
            or the loss is no number.
    """
    checkpoint = folder / "checkpoint"
    with open_world(recipe.parallel, recipe.device) as world:
        if world.first:
            _claim(folder, recipe)
        world.barrier()
        if (checkpoint / "lineage.json").exists():
            return checkpoint
        Run(recipe, folder, world, probes).go()
    return checkpoint


class Run:
    """A stage under way on this rank."""

    def __init__(self, recipe: TrainRecipe, folder: Path, world: World, probes: Sequence[Probe]) -> None:
        self.recipe, self.folder, self.world, self.probes = recipe, folder, world, probes
        self.start = begin(recipe)
        _check_share(recipe, world)
        prepared = folder / "prepared"
        if world.first:
            prepare(Path(recipe.corpus), self.start.tokenizer, recipe.batches, prepared, recipe.seed)
        world.barrier()
        self.sequences = Sequences(prepared, self.start.tokenizer, self.start.sentinels, recipe.batches, recipe.seed)
        self.model = make_model(self.start, recipe, world).train()
        self.optimiser = make_optimiser(self.model, recipe.optimiser)
        rows = [] if recipe.lora is not None else row_tables(self.model)
        self.faster = FasterRows(rows, self.start.new_rows, recipe.optimiser.new_rows_factor)
        self.states = States(folder / "state", recipe, world)
        self.counter = Counter()

    def go(self) -> None:
        """Train to the last step and write the checkpoint."""
        self.counter = self.states.resume(self.model, self.optimiser)
        self.metrics = MetricsFile(self.folder / "metrics.jsonl", self.counter.step)
        with contextlib.closing(self.metrics):
            self._steps()
        self.export(self.folder / "checkpoint")
        shutil.rmtree(self.folder / "state", ignore_errors=True)

    def export(self, folder: Path) -> None:
        """Write the model as it is now as a checkpoint folder."""
        save_huggingface(
            folder,
            plain_weights(self.model),
            self.start.description,
            dtype=torch.bfloat16 if self.recipe.export_precision == "bf16" else torch.float32,
            lineage=lineage(self.recipe, self.start, self.counter),
        )

    def _steps(self) -> None:
        recipe, counter = self.recipe, self.counter
        share = recipe.sequences_per_step // self.world.data_ranks
        stream = self.sequences.run(self._numbers(), recipe.loader_workers)
        if counter.step == 0:
            self._probe(force=True)
        with progress_bar("train", total=recipe.steps, unit="steps", start=counter.step) as bar:
            while counter.step < recipe.steps:
                began_s = time.monotonic()
                batch = [next(stream) for _ in range(share)]
                rate = learning_rate(counter.step, recipe.steps, recipe.optimiser)
                parameters = [each for group in self.optimiser.param_groups for each in group["params"]]
                figures = take_gradient(self.model, parameters, batch, recipe, self.world, self.sequences.sources)
                if not figures.finite:
                    raise CodecriaError(
                        f"the loss is {figures.loss} and the gradient's norm {figures.gradient_norm}",
                        where="training",
                        mend="lower optimiser.peak_rate; the last saved state is whole",
                    )
                take_step(self.optimiser, self.faster, rate)
                counter.step += 1
                counter.sequence += recipe.sequences_per_step
                counter.tokens += figures.tokens
                took_s = time.monotonic() - began_s
                self.metrics.write(
                    step=counter.step,
                    tokens=counter.tokens,
                    loss=figures.loss,
                    loss_by_kind=figures.loss_by_kind,
                    loss_by_source=figures.loss_by_source,
                    gradient_norm=figures.gradient_norm,
                    learning_rate=rate,
                    target_weight=figures.target_weight,
                    tokens_per_s=round(figures.tokens / took_s, 1),
                    forms=figures.forms,
                )
                bar.advance(1, note=f"loss {figures.loss:.3f} · {figures.tokens / took_s:.0f} tokens/s")
                last = counter.step == recipe.steps
                self._probe(force=last)
                if not last and counter.step % recipe.checkpoint_every_steps == 0:
                    self.states.save(self.model, self.optimiser, counter)
        self.states.finish()

    def _numbers(self) -> Iterator[int]:
        """Numbers of the sequences this rank reads: of each step's, one block a data rank."""
        whole = self.recipe.sequences_per_step
        share = whole // self.world.data_ranks
        for step in range(self.counter.step, self.recipe.steps):
            first = step * whole + self.world.data_rank * share
            yield from range(first, first + share)

    def _probe(self, force: bool) -> None:
        for probe in self.probes:
            if force or self.counter.step % probe.every_steps == 0:
                self.model.eval()
                with torch.inference_mode():
                    self.metrics.write(step=self.counter.step, **probe(self.model, self.counter.step))
                self.model.train()


def _check_share(recipe: TrainRecipe, world: World) -> None:
    at_once = world.data_ranks * recipe.sequences_per_micro_batch
    if recipe.sequences_per_step % at_once:
        raise CodecriaError(
            f"sequences_per_step = {recipe.sequences_per_step} is no multiple of {world.data_ranks} data ranks "
            f"times {recipe.sequences_per_micro_batch} sequences_per_micro_batch",
            where="recipe",
            mend="change one of the three",
        )


def _claim(folder: Path, recipe: TrainRecipe) -> None:
    """Write the recipe into the folder, or check that the one there gives the same numbers."""
    path = folder / "recipe.yaml"
    if not path.exists():
        write_atomic(path, recipe.to_yaml())
        return
    old, new = load_recipe(TrainRecipe, path).shaping(), recipe.shaping()
    if old != new:
        keys = ", ".join(key for key in new if old[key] != new[key])
        raise CodecriaError(f"holds a run of another recipe: {keys} differ", where=folder, mend="name another folder")


def lineage(recipe: TrainRecipe, start: Start, counter: Counter) -> dict[str, Any]:
    """What `lineage.json` says: parent and its licence, corpus, recipe, how far, versions."""
    manifest = read_manifest(Path(recipe.corpus))
    return {
        "parent": {"path": recipe.model, "licence": start.parent.licence},
        "corpus": manifest.fingerprint,
        "recipe": json.loads(recipe.model_dump_json()),
        "steps": counter.step,
        "tokens": counter.tokens,
        "seed": recipe.seed,
        "versions": {
            "codecria": version("codecria"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }

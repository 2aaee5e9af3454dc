"""The training loop of one stage.

A run folder holds `recipe.yaml`, `prepared/` (packed corpus), `metrics.jsonl`, `state/` (what a killed run resumes
from) and, once done, `checkpoint/` (a Hugging Face folder with `lineage.json`). Killed at any moment and started
again with the same recipe, a run gives the same losses: on the same machine and thread count, to the bit.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from codecria.batches.loader import Sequences
from codecria.batches.prepare import prepare
from codecria.checkpoint.huggingface import save_huggingface
from codecria.common.errors import CodecriaError
from codecria.common.files import write_atomic
from codecria.common.progress import progress_bar
from codecria.common.recipe import load_recipe
from codecria.corpus.store import read_manifest
from codecria.model.loss import weighted_cross_entropy
from codecria.model.precision import compute_dtype, pick_device
from codecria.training.lora import add_lora, plain_weights
from codecria.training.metrics import MetricsFile
from codecria.training.optimiser import FasterRows, learning_rate, make_optimiser
from codecria.training.recipe import TrainRecipe
from codecria.training.start import Start, description, row_tables, start_model
from codecria.training.state import Counter, load_state, save_state, saved_states

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from codecria.batches.loader import Sequence as Row
    from codecria.model.transformer import Transformer


class Probe(Protocol):
    """A measurement taken during training. Pipelines hand them in, so that training need not know evaluation."""

    @property
    def every_steps(self) -> int:
        """How often it is taken; also before the first step and after the last."""
        ...

    def __call__(self, model: Transformer, step: int) -> Mapping[str, float]:
        """Figures by name; they are written to the metrics under those names."""
        ...


@dataclass
class StepFigures:
    """What one step measured. Losses are nats a target token, means over the step."""

    loss: float
    middle_loss: float | None
    gradient_norm: float
    target_weight: float
    tokens: int
    forms: dict[str, int]


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
    _claim(folder, recipe)
    checkpoint = folder / "checkpoint"
    if (checkpoint / "lineage.json").exists():
        return checkpoint
    device = pick_device(recipe.device)
    start = start_model(recipe, device)
    model = start.model.train()
    prepare(Path(recipe.corpus), start.tokenizer, recipe.batches, folder / "prepared", recipe.seed)
    sequences = Sequences(folder / "prepared", start.tokenizer, start.sentinels, recipe.batches, recipe.seed)
    if recipe.lora is not None:
        add_lora(model, recipe.lora, start.new_rows, recipe.seed)
    optimiser = make_optimiser(model, recipe.optimiser)
    counter = Counter()
    if states := saved_states(folder / "state"):
        counter = load_state(states[-1], model, optimiser)
    metrics = MetricsFile(folder / "metrics.jsonl", counter.step)
    with contextlib.closing(metrics):
        _run(recipe, folder, start, optimiser, sequences, counter, metrics, probes)
    save_huggingface(
        checkpoint,
        plain_weights(model).items(),
        description(start),
        dtype=torch.bfloat16 if recipe.export_precision == "bf16" else torch.float32,
        lineage=_lineage(recipe, start, counter),
    )
    shutil.rmtree(folder / "state", ignore_errors=True)
    return checkpoint


def _run(
    recipe: TrainRecipe,
    folder: Path,
    start: Start,
    optimiser: torch.optim.Optimizer,
    sequences: Sequences,
    counter: Counter,
    metrics: MetricsFile,
    probes: Sequence[Probe],
) -> None:
    model = start.model
    rows = [] if recipe.lora is not None else row_tables(model)
    faster = FasterRows(rows, start.new_rows, recipe.optimiser.new_rows_factor)
    stream = sequences.run(counter.sequence, recipe.steps * recipe.sequences_per_step)
    if counter.step == 0:
        _probe(probes, model, 0, metrics, force=True)
    with progress_bar("train", total=recipe.steps, unit="steps", start=counter.step) as bar:
        while counter.step < recipe.steps:
            began_s = time.monotonic()
            batch = [next(stream) for _ in range(recipe.sequences_per_step)]
            rate = learning_rate(counter.step, recipe.steps, recipe.optimiser)
            figures = take_step(model, optimiser, faster, batch, recipe, rate)
            counter.step += 1
            counter.sequence += len(batch)
            counter.tokens += figures.tokens
            took_s = time.monotonic() - began_s
            metrics.write(
                step=counter.step,
                tokens=counter.tokens,
                loss=figures.loss,
                middle_loss=figures.middle_loss,
                gradient_norm=figures.gradient_norm,
                learning_rate=rate,
                target_weight=figures.target_weight,
                tokens_per_s=round(figures.tokens / took_s, 1),
                forms=figures.forms,
            )
            bar.advance(1, note=f"loss {figures.loss:.3f} · {figures.tokens / took_s:.0f} tokens/s")
            last = counter.step == recipe.steps
            _probe(probes, model, counter.step, metrics, force=last)
            if not last and counter.step % recipe.checkpoint_every_steps == 0:
                save_state(folder / "state", model, optimiser, counter, recipe.keep_states)


def take_step(
    model: Transformer,
    optimiser: torch.optim.Optimizer,
    faster: FasterRows,
    batch: list[Row],
    recipe: TrainRecipe,
    rate: float,
) -> StepFigures:
    """One optimiser step over a batch of sequences, in micro-batches.

    The gradient is that of the summed loss divided by the batch's whole target weight (law 5), so it does not depend
    on how the batch was cut into micro-batches.

    Raises:
        CodecriaError: the loss or the gradient is not finite; the state on disk stays as it was.
    """
    for group in optimiser.param_groups:
        group["lr"] = rate
    weight = float(sum(float(row.weights.sum()) for row in batch))
    loss = middle_loss = middle_weight = 0.0
    for first in range(0, len(batch), recipe.sequences_per_micro_batch):
        rows = batch[first : first + recipe.sequences_per_micro_batch]
        total, middle, middles = _forward(model, rows, recipe)
        (total / max(weight, 1.0)).backward()
        loss += total.item()
        middle_loss += middle
        middle_weight += middles
    parameters = [each for group in optimiser.param_groups for each in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.optimiser.clip_norm).item()
    if not np.isfinite(loss) or not np.isfinite(norm):
        raise CodecriaError(
            f"the loss is {loss} and the gradient's norm {norm}",
            where="training",
            mend="lower optimiser.peak_rate; the last saved state is whole",
        )
    faster.before_step()
    optimiser.step()
    faster.after_step()
    optimiser.zero_grad(set_to_none=True)
    forms: dict[str, int] = {}
    for row in batch:
        for form, count in row.forms.items():
            forms[form] = forms.get(form, 0) + count
    return StepFigures(
        loss=loss / max(weight, 1.0),
        middle_loss=middle_loss / middle_weight if middle_weight else None,
        gradient_norm=norm,
        target_weight=weight,
        tokens=sum(len(row.ids) for row in batch),
        forms=forms,
    )


def _forward(model: Transformer, rows: list[Row], recipe: TrainRecipe) -> tuple[torch.Tensor, float, float]:
    """Summed loss of some sequences laid end to end: attention stops at documents, so nothing is padded.

    Also the summed loss and the weight of the tokens of middles.
    """
    device = model.model.embed_tokens.weight.device
    dtype = compute_dtype(recipe.precision, device)
    ids = torch.from_numpy(np.concatenate([row.ids for row in rows])).to(device)
    weights = torch.from_numpy(np.concatenate([row.weights for row in rows])).to(device)
    middles = torch.from_numpy(np.concatenate([row.middles for row in rows])).to(device)
    lengths = [length for row in rows for length in row.lengths]
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        hidden_LD = model(ids[None], documents=[lengths])[0]
    targets = weights.nonzero().squeeze(1)
    chosen = weights[targets]
    total, losses = weighted_cross_entropy(hidden_LD[targets - 1].to(dtype), model.head_weight, ids[targets], chosen)
    inside = middles[targets]
    return total, float((losses * chosen)[inside].sum()), float(chosen[inside].sum())


def _probe(probes: Sequence[Probe], model: Transformer, step: int, metrics: MetricsFile, force: bool) -> None:
    for probe in probes:
        if force or step % probe.every_steps == 0:
            model.eval()
            with torch.inference_mode():
                metrics.write(step=step, **probe(model, step))
            model.train()


def _claim(folder: Path, recipe: TrainRecipe) -> None:
    """Write the recipe into the folder, or check that the one there is the same."""
    path = folder / "recipe.yaml"
    if not path.exists():
        write_atomic(path, recipe.to_yaml())
        return
    there = load_recipe(TrainRecipe, path)
    if there != recipe:
        old, new = there.model_dump(), recipe.model_dump()
        keys = ", ".join(key for key in new if old[key] != new[key])
        raise CodecriaError(f"holds a run of another recipe: {keys} differ", where=folder, mend="name another folder")


def _lineage(recipe: TrainRecipe, start: Start, counter: Counter) -> dict[str, Any]:
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

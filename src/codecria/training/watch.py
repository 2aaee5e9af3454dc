"""Bad steps: what is one, and what is kept of it in `bad/step-N` for `codecria train-replay`.

A bad step's folder holds `batch-RANK.npz` (the rank's sequences), `state/` (the run's before the step; none for the
first step, whose state is the stage's start) and `figures.json`, written last: without it the folder is not whole.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from codecria.batches.loader import Sequence
from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_file, write_atomic
from codecria.training.state import States

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence as List
    from pathlib import Path

    import torch

    from codecria.model.transformer import Transformer
    from codecria.training.parallel import World
    from codecria.training.recipe import TrainRecipe
    from codecria.training.state import Counter
    from codecria.training.step import StepFigures

_SETTINGS = ("on_bad_step", "most_skips", "spike", "spike_window")
_FIGURES = "figures.json"


def find_problem(figures: StepFigures, limit: float | None) -> str | None:
    """What is wrong with a step, in words; None for a good one.

    Args:
        figures: the step's.
        limit: a loss above it is a spike; None for no limit.
    """
    if not figures.finite:
        return f"the loss is {figures.loss:.4g} and the gradient's norm {figures.gradient_norm:.4g}"
    if limit is not None and figures.loss > limit:
        return f"the loss is {figures.loss:.4g}, a spike above {limit:.4g}"
    return None


class Watch:
    """Judges each step of a run.

    Args:
        folder: the run's.
        recipe: the stage.
        world: this rank among all.
        lines: the figures of the steps already taken.
        step: how many those are.

    Raises:
        CodecriaError: the same command stopped at a bad step that lies ahead: it would only stop there again.
    """

    def __init__(
        self, folder: Path, recipe: TrainRecipe, world: World, lines: List[Mapping[str, Any]], step: int
    ) -> None:
        self._folder, self._recipe, self._world = folder, recipe, world
        window = recipe.watch.spike_window
        self._losses = deque([line["loss"] for line in lines if "loss" in line][-window:], maxlen=window)
        self._skips = sum("skipped" in line for line in lines)
        for path in bad_steps(folder):
            figures = json.loads((path / _FIGURES).read_text())
            if figures["stopped"] and figures["step"] > step and figures["settings"] == self._settings:
                raise self._stop(path, figures["step"], figures["problem"])

    @property
    def limit(self) -> float | None:
        """The loss above which the next step is a spike."""
        watch = self._recipe.watch
        if watch.spike is None or len(self._losses) < watch.spike_window // 2:
            return None
        return watch.spike * statistics.median(self._losses)

    @property
    def _settings(self) -> dict[str, Any]:
        return self._recipe.watch.model_dump(mode="json", include=set(_SETTINGS))

    def judge(self, figures: StepFigures) -> str | None:
        """What is wrong with the next step; all ranks answer alike, though only those that see the metrics know."""
        problem = find_problem(figures, self.limit)
        if self._world.any(problem is not None):
            return problem or "another rank called the step bad"
        self._losses.append(figures.loss)
        return None

    def keep(
        self,
        problem: str,
        batch: List[Sequence],
        figures: StepFigures,
        counter: Counter,
        model: Transformer,
        optimiser: torch.optim.Optimizer,
        sources: List[str],
    ) -> None:
        """Save what the bad step was made of; it returns when the run may go on without it.

        Raises:
            CodecriaError: the run stops here.
        """
        recipe, world = self._recipe, self._world
        step = counter.step + 1
        folder = self._folder / "bad" / f"step-{step:08d}"
        stops = recipe.watch.on_bad_step == "stop" or self._skips >= recipe.watch.most_skips
        if world.first:
            shutil.rmtree(folder, ignore_errors=True)
        world.barrier()
        first = counter.sequence + world.data_rank * len(batch)
        _save_batch(folder / f"batch-{world.data_rank:05d}.npz", batch, first)
        states = States(folder / "state", recipe, world)
        states.save(model, optimiser, counter)
        states.finish()
        world.barrier()
        if world.first:
            facts = {
                "step": step,
                "problem": problem,
                "stopped": stops,
                "limit": self.limit,
                "settings": self._settings,
                "sources": list(sources),
                "figures": asdict(figures),
            }
            write_atomic(folder / _FIGURES, json.dumps(facts, indent=1) + "\n")
        if stops:
            raise self._stop(folder, step, problem)
        self._skips += 1
        if world.first:
            print(f"{folder}: step {step} is skipped: {problem}", file=sys.stderr)

    def _stop(self, path: Path, step: int, problem: str) -> CodecriaError:
        after = f" after {self._skips} skipped steps" if self._recipe.watch.on_bad_step == "skip" else ""
        more = "watch.on_bad_step=skip" if not after else f"watch.most_skips={2 * self._recipe.watch.most_skips}"
        return CodecriaError(
            f"step {step} was not taken{after}: {problem}",
            where=path,
            mend=f"look at it with `codecria train-replay {self._folder}`; pass over it with --set {more}, or lower "
            "optimiser.peak_rate in a new run; remove the folder to try it again",
        )


def bad_steps(run: Path) -> list[Path]:
    """Folders of a run's bad steps, whole ones, the oldest step first."""
    return sorted(path.parent for path in run.glob(f"bad/step-*/{_FIGURES}"))


def read_bad_step(folder: Path) -> tuple[dict[str, Any], list[tuple[int, Sequence]]]:
    """What `figures.json` says, and the batch: each sequence with its number, in their order."""
    rows = [row for path in sorted(folder.glob("batch-*.npz")) for row in _load_batch(path)]
    return json.loads((folder / _FIGURES).read_text()), rows


def _save_batch(path: Path, batch: List[Sequence], first: int) -> None:
    """One array for each field of each sequence: `NUMBER.ids`, `NUMBER.source`."""
    arrays: dict[str, np.ndarray] = {}
    for number, row in enumerate(batch, start=first):
        for name, value in vars(row).items():
            arrays[f"{number}.{name}"] = np.array(json.dumps(value) if name == "forms" else value)
    with atomic_file(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _load_batch(path: Path) -> list[tuple[int, Sequence]]:
    rows: dict[int, dict[str, Any]] = {}
    with np.load(path) as arrays:
        for key, value in arrays.items():
            number, name = key.split(".")
            rows.setdefault(int(number), {})[name] = value
    for row in rows.values():
        row |= {name: value.item() for name, value in row.items() if value.ndim == 0}
        row |= {"lengths": row["lengths"].tolist(), "forms": json.loads(row["forms"])}
    return [(number, Sequence(**row)) for number, row in sorted(rows.items())]

"""The state a killed run resumes from: weights, optimiser moments and one counter, written whole or not at all.

A state folder `state/step-00000100/` holds `model.safetensors` (parameters that are trained, float32),
`optimiser.safetensors` (both moments of each) and `state.json`. Nothing random is saved: every draw is keyed.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_folder, recover_folder

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from codecria.training.parallel import World
    from codecria.training.recipe import TrainRecipe

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class Counter:
    """How far a run is. `step` optimiser steps are done; `sequence` is the next sequence's number."""

    step: int = 0
    sequence: int = 0
    tokens: int = 0


class States:
    """The states of one run, in `folder/step-N`.

    Args:
        folder: `state/` of the run's folder.
        recipe: how many are kept.
        world: this rank among all.
    """

    def __init__(self, folder: Path, recipe: TrainRecipe, world: World) -> None:
        self._folder, self._recipe, self._world = folder, recipe, world

    def resume(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> Counter:
        """Fill model and optimiser from the newest whole state; a counter at 0 where there is none."""
        states = saved_states(self._folder)
        return load_state(states[-1], model, optimiser) if states else Counter()

    def save(self, model: nn.Module, optimiser: torch.optim.Optimizer, counter: Counter) -> None:
        """Begin to write a state; training may go on meanwhile. An earlier one that is not done is waited for."""
        save_state(self._folder, model, optimiser, counter, self._recipe.keep_states)

    def finish(self) -> None:
        """Wait until what was begun is on disk."""


def save_state(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, counter: Counter, keep: int) -> None:
    """Write `folder/step-N`, then remove all but the last `keep` states."""
    parameters = trainable(model)
    moments: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        for moment in _MOMENTS:
            moments[f"{moment}.{name}"] = optimiser.state[parameter][moment]
    with atomic_folder(folder / f"step-{counter.step:08d}") as aside:
        save_file({name: each.detach().contiguous() for name, each in parameters.items()}, aside / "model.safetensors")
        save_file(moments, aside / "optimiser.safetensors")
        facts = {**asdict(counter), "torch": torch.__version__, "threads": torch.get_num_threads()}
        (aside / "state.json").write_text(json.dumps(facts) + "\n")
    for old in saved_states(folder)[:-keep]:
        shutil.rmtree(old)


def saved_states(folder: Path) -> list[Path]:
    """Whole states, the oldest first."""
    for old in folder.glob(".step-*.old"):
        recover_folder(folder / old.name.removeprefix(".").removesuffix(".old"))
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def load_state(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> Counter:
    """Fill model and optimiser from a state folder; returns the counter.

    Raises:
        CodecriaError: the state is of another model.
    """
    facts: dict[str, Any] = json.loads((path / "state.json").read_text())
    weights = load_file(path / "model.safetensors")
    moments = load_file(path / "optimiser.safetensors")
    parameters = trainable(model)
    if set(weights) != set(parameters) or any(weights[name].shape != each.shape for name, each in parameters.items()):
        raise CodecriaError("the saved state is of another model", where=path, mend="name another run folder")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
            state = {moment: moments[f"{moment}.{name}"].to(parameter.device) for moment in _MOMENTS}
            optimiser.state[parameter] = {"step": torch.tensor(float(facts["step"])), **state}
    return Counter(step=facts["step"], sequence=facts["sequence"], tokens=facts["tokens"])


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

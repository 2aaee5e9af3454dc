"""The states a killed run resumes from: weights, optimiser moments and one counter, written whole or not at all.

`state/step-00000100/` is a distributed checkpoint of PyTorch's (DCP): each rank writes and reads its own shards only,
under the parameters' names, so that a run may go on with other ranks. It holds the parameters that are trained and both
moments of each, float32, and `state.json`: the counter and what made it. Nothing random is saved: every draw is keyed.
DCP's index is a pickle: resume only folders that you trust.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from codecria.common.errors import CodecriaError, explain_os_error
from codecria.common.files import sync_folder, write_atomic

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from torch import Tensor, nn
    from torch.distributed.checkpoint.metadata import Metadata
    from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
    from torch.distributed.checkpoint.storage import WriteResult

    from codecria.training.parallel import World
    from codecria.training.recipe import TrainRecipe

_MOMENTS = ("exp_avg", "exp_avg_sq")
_FACTS = "state.json"

# A process alone is no mistake here; DCP says so at each call, from whichever thread.
warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")


@dataclass
class Counter:
    """How far a run is. `step` optimiser steps are done; `sequence` is the next sequence's number."""

    step: int = 0
    sequence: int = 0
    tokens: int = 0


class States:
    """The states of one run, in `folder/step-N`. Every rank calls each method.

    Args:
        folder: `state/` of the run's folder; all ranks see the same.
        recipe: how often they are kept.
        world: this rank among all.
    """

    def __init__(self, folder: Path, recipe: TrainRecipe, world: World) -> None:
        self._folder, self._recipe, self._world = folder, recipe, world
        # The writing thread talks to its peers while training does: it needs a group of its own, on the CPU.
        self._group: Any = dist.new_group(backend="gloo") if dist.is_initialized() else None
        self._newest = 0
        self._writing: tuple[Path, Future[Any]] | None = None

    def resume(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> Counter:
        """Fill model and optimiser from the newest whole state; a counter at 0 where there is none.

        Raises:
            CodecriaError: the state is of another model, or cannot be read.
        """
        if self._world.first:
            for part in self._folder.glob(".step-*.part"):
                shutil.rmtree(part)
        self._world.barrier()
        states = saved_states(self._folder)
        counter = load_state(states[-1], model, optimiser, self._group) if states else Counter()
        self._newest = counter.step
        return counter

    def save(self, model: nn.Module, optimiser: torch.optim.Optimizer, counter: Counter) -> None:
        """Begin to write a state; training may go on at once, the state is of now. One not yet done is waited for.

        Raises:
            CodecriaError: the one before could not be written; says which state is the last whole one.
        """
        self.finish()
        if counter.step == self._newest:
            return
        self._newest = counter.step
        ranks = {"size": self._world.size, **self._recipe.parallel.model_dump(mode="json")}
        facts = {**asdict(counter), "torch": torch.__version__, "threads": torch.get_num_threads(), "ranks": ranks}
        path = self._folder / f"step-{counter.step:08d}"
        writer = _Writer(path, facts, self._recipe.keep_states, self._recipe.milestone_every_steps)
        future: Any = async_save(
            _tensors(model, optimiser), storage_writer=writer, process_group=self._group, no_dist=self._group is None
        )
        self._writing = path, future

    def finish(self) -> None:
        """Wait until what was begun is on disk.

        Raises:
            CodecriaError: it could not be written; says which state is the last whole one.
        """
        if self._writing is None:
            return
        (path, future), self._writing = self._writing, None
        try:
            future.result()
        except CheckpointException as failure:
            self._newest = 0
            if self._world.first:
                shutil.rmtree(_part(path), ignore_errors=True)
            states = saved_states(self._folder)
            last = f"the last whole state is {states[-1].name}" if states else "no state is whole yet"
            raise _explain(failure, path, last) from None

    def clear(self) -> None:
        """Remove all states but the milestones: the run is done."""
        if self._world.first:
            _prune(self._folder, 0, self._recipe.milestone_every_steps)
            with contextlib.suppress(OSError):
                self._folder.rmdir()


class _Writer(FileSystemWriter):
    """Writes into `.step-N.part`; once every rank has written, the first one gives it its name."""

    def __init__(self, path: Path, facts: dict[str, Any], keep: int, milestone: int | None) -> None:
        super().__init__(_part(path))
        self._final, self._facts, self._keep, self._milestone = path, facts, keep, milestone

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> torch.futures.Future[list[WriteResult]]:
        """DCP's; the system's refusal, which `torch.save` hides behind an error of its own, comes out."""
        try:
            return super().write_data(plan, planner)
        except Exception as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__cause__ or cause.__context__
            raise cause or error from None

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """DCP calls it on the first rank, after all have written; its errors reach every rank."""
        super().finish(metadata, results)
        part = _part(self._final)
        write_atomic(part / _FACTS, json.dumps(self._facts) + "\n")
        part.rename(self._final)
        sync_folder(self._final.parent)
        _prune(self._final.parent, self._keep, self._milestone)


def saved_states(folder: Path) -> list[Path]:
    """Whole states, the oldest first."""
    return sorted(folder.glob("step-*"))


def read_facts(path: Path) -> tuple[Counter, dict[str, Any]]:
    """A state's counter, and all that its `state.json` says: torch's version, threads, ranks."""
    facts: dict[str, Any] = json.loads((path / _FACTS).read_text())
    return Counter(step=facts["step"], sequence=facts["sequence"], tokens=facts["tokens"]), facts


def load_state(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, group: dist.ProcessGroup | None = None
) -> Counter:
    """Fill model and optimiser from a state folder, each rank its own shards; returns the counter.

    Args:
        path: `step-N`.
        model: any layout of the model the state is of.
        optimiser: over its trained parameters.
        group: all ranks, with a CPU backend; None for a process alone.

    Raises:
        CodecriaError: the state is of another model, or cannot be read.
    """
    counter, _ = read_facts(path)
    for parameter in trainable(model).values():
        moments = {moment: torch.zeros_like(parameter, requires_grad=False) for moment in _MOMENTS}
        step = torch.tensor(float(counter.step), device=parameter.device)
        optimiser.state[parameter] = {"step": step, **moments}
    tensors = _tensors(model, optimiser)
    try:
        reader = FileSystemReader(path)
        held = {name: tuple(each.size) for name, each in reader.read_metadata().state_dict_metadata.items()}  # pyright: ignore
        if held != {name: tuple(each.shape) for name, each in tensors.items()}:
            raise CodecriaError("the saved state is of another model", where=path, mend="name another run folder")
        load(tensors, storage_reader=reader, process_group=group, no_dist=group is None)
    except CheckpointException as failure:
        raise _explain(failure, path, "remove this state to resume the one before") from None
    return counter


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What a state holds, by name; sharded tensors as they are."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in trainable(model).items():
        tensors[f"model.{name}"] = parameter.detach()
        for moment in _MOMENTS:
            tensors[f"{moment}.{name}"] = optimiser.state[parameter][moment]
    return tensors


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _prune(folder: Path, keep: int, milestone: int | None) -> None:
    states = saved_states(folder)
    for old in states[: max(len(states) - keep, 0)]:
        if milestone is None or int(old.name.removeprefix("step-")) % milestone:
            # A kill in the middle of a removal must not leave a half under a whole one's name.
            shutil.rmtree(old.rename(_part(old)))


def _explain(failure: CheckpointException, path: Path, mend: str) -> CodecriaError:
    cause, _ = next(iter(failure.failures.values()))
    error = explain_os_error(cause, path) if isinstance(cause, OSError) else cause
    if not isinstance(error, CodecriaError):
        return CodecriaError(f"{type(error).__name__}: {error}", where=path, mend=mend)
    return CodecriaError(error.what, where=path, mend=f"{error.mend}; {mend}" if error.mend else mend)

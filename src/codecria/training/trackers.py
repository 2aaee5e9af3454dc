"""Trackers of experiments: optional packages that get the same figures as `metrics.jsonl`."""

from __future__ import annotations

import secrets
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from codecria.common.errors import CodecriaError
from codecria.common.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


class Tracker(Protocol):
    """Takes figures step by step."""

    def write(self, step: int, **figures: Any) -> None:
        """The figures of a step, by name."""
        ...

    def close(self) -> None:
        """Everything written is where it belongs."""
        ...


def check_trackers(names: Sequence[str]) -> None:
    """Raises a CodecriaError with the command that installs what is missing."""
    if missing := [name for name in names if find_spec(name) is None]:
        packages = " ".join(missing)
        raise CodecriaError(f"not installed: {packages}", where="watch.trackers", mend=f"pip install {packages}")


def open_trackers(names: Sequence[str], folder: Path, step: int, recipe: Mapping[str, Any]) -> list[Tracker]:
    """Trackers by name.

    Args:
        names: `tensorboard`, `wandb`, `trackio`.
        folder: the run's; TensorBoard and W&B write into it, trackio into its own cache.
        step: what a resumed run goes on from; TensorBoard hides what it had of later steps, W&B keeps the first figures
            it got of a step, trackio both: they are the same numbers.
        recipe: shown beside the figures where the tracker can.
    """
    makers = {"tensorboard": _TensorBoard, "wandb": _wandb, "trackio": _trackio}
    return [makers[name](folder, step, recipe) for name in names]


class _TensorBoard:
    def __init__(self, folder: Path, step: int, recipe: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        del recipe
        self._writer = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def write(self, step: int, **figures: Any) -> None:
        for name, value in _numbers(figures):
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Logged:
    """A run of W&B, or of trackio, which speaks its language."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, step: int, **figures: Any) -> None:
        self._run.log(dict(_numbers(figures)), step=step)

    def close(self) -> None:
        self._run.finish()


def _wandb(folder: Path, step: int, recipe: Mapping[str, Any]) -> Tracker:
    wandb: Any = import_module("wandb")

    del step
    names_run = folder / "wandb-id"
    if not names_run.exists():
        write_atomic(names_run, secrets.token_hex(8))
    keys = {"project": "codecria", "name": folder.name, "id": names_run.read_text(), "resume": "allow"}
    quiet = wandb.Settings(console="off", silent=True)
    return _Logged(wandb.init(**keys, dir=folder, config=dict(recipe), settings=quiet))


def _trackio(folder: Path, step: int, recipe: Mapping[str, Any]) -> Tracker:
    trackio: Any = import_module("trackio")

    del step
    name = str(folder).strip("/").replace("/", "-")
    return _Logged(trackio.init("codecria", name, config=dict(recipe), resume="allow", embed=False))


def _numbers(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers among figures; those of a table named `table/key`."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, int | float):
            yield prefix + name, value

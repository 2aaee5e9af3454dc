"""The trained model as a Hugging Face folder, from a run under way or from a saved state, one tensor at a time."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load

from codecria.checkpoint.huggingface import save_huggingface
from codecria.checkpoint.tensors import expected_shapes
from codecria.common.errors import CodecriaError
from codecria.common.recipe import load_recipe
from codecria.corpus.store import read_manifest
from codecria.training.lora import NEW_ROWS, ORIGINAL_TABLE, merged, whole
from codecria.training.recipe import TrainRecipe
from codecria.training.start import begin
from codecria.training.state import read_facts, saved_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from codecria.model.transformer import Transformer
    from codecria.training.parallel import World
    from codecria.training.start import Start
    from codecria.training.state import Counter


def export_model(model: Transformer, start: Start, counter: Counter, run: Path, folder: Path, world: World) -> None:
    """Write the model of a run as it is now into a folder.

    Every rank calls it: each tensor is gathered in its turn, the first rank writes.
    """
    tensors = gathered_weights(model, start)
    if world.first:
        _write(folder, tensors, start, run, counter)
    else:
        for _ in tensors:
            pass
    world.barrier()


def export_state(run: Path, step: int | None, folder: Path) -> int:
    """Write the model of a saved state of a run, adapters merged; needs one process, whatever ranks trained it.

    Args:
        run: the run's folder.
        step: which state; the newest when absent.
        folder: takes the place of a checkpoint folder of that name.

    Returns:
        The state's step.

    Raises:
        CodecriaError: no run, or no state of that step; the steps that there are, are named.
    """
    if not (run / "recipe.yaml").exists():
        raise CodecriaError("no run: it holds no recipe.yaml", where=run, mend="name the folder `codecria train` wrote")
    recipe = load_recipe(TrainRecipe, run / "recipe.yaml")
    states = {int(path.name.removeprefix("step-")): path for path in saved_states(run / "state")}
    step = max(states, default=0) if step is None else step
    if step not in states:
        there = f"there are {', '.join(map(str, states))}" if states else "there is none"
        mend = f"the finished model is {run / 'checkpoint'}" if (run / "checkpoint").exists() else None
        raise CodecriaError(f"no saved state of step {step}; {there}", where=run, mend=mend)
    start = begin(recipe)
    sizes = FileSystemReader(states[step]).read_metadata().state_dict_metadata

    def read(name: str) -> Tensor:
        saved = f"model.{name}"
        if saved not in sizes:
            return start.weight(name)
        held = {saved: torch.empty(sizes[saved].size)}  # pyright: ignore[reportAttributeAccessIssue]
        load(held, storage_reader=FileSystemReader(states[step]), no_dist=True)
        return held[saved]

    _write(folder, plain_weights(start, read), start, run, read_facts(states[step])[0])
    return step


def gathered_weights(model: Transformer, start: Start) -> Iterator[tuple[str, Tensor]]:
    """`plain_weights` of a model as it is now, each gathered in its turn: every rank must go through all of them."""
    held = dict(model.named_parameters())
    return plain_weights(start, lambda name: whole(held[name]))


def plain_weights(start: Start, read: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The weights under a plain model's names, adapters merged in, one at a time and whole.

    Args:
        start: which names there are.
        read: a parameter of `start.shapes()`, whole, by its name.
    """
    names = {name for name, _ in start.shapes().named_parameters()}
    lora = start.recipe.lora
    for name, _ in expected_shapes(start.config):
        layer = name.removesuffix("weight")
        if lora is not None and f"{layer}lora_up" in names:
            yield name, merged(read(name), read(f"{layer}lora_down"), read(f"{layer}lora_up"), lora.alpha / lora.rank)
        elif f"{layer}{NEW_ROWS}" in names:
            table, rows = read(f"{layer}{ORIGINAL_TABLE}"), read(f"{layer}{NEW_ROWS}")
            yield name, torch.cat([table[: len(table) - len(rows)], rows])
        else:
            yield name, read(name)


def lineage(run: Path, start: Start, counter: Counter) -> dict[str, Any]:
    """What `lineage.json` says: parent and its licence, corpus, recipe, how far, versions."""
    recipe, inputs = start.recipe, run / "inputs.json"  # a run of an earlier version may have none
    # What was prepared counts: the corpus itself may be gone by now.
    told = json.loads(inputs.read_bytes())["corpus"] if inputs.exists() else None
    return {
        "parent": {"path": recipe.model, "licence": start.parent.licence},
        "corpus": told or read_manifest(Path(recipe.corpus)).fingerprint,
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


def _write(folder: Path, tensors: Iterator[tuple[str, Tensor]], start: Start, run: Path, counter: Counter) -> None:
    save_huggingface(
        folder,
        tensors,
        start.description,
        dtype=torch.bfloat16 if start.recipe.export_precision == "bf16" else torch.float32,
        lineage=lineage(run, start, counter),
    )

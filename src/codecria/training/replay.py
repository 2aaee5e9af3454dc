"""A bad step once more, sequence by sequence, from the state before it."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from codecria.common.errors import CodecriaError
from codecria.common.recipe import load_recipe
from codecria.training.optimiser import make_optimiser
from codecria.training.parallel import make_model, open_world
from codecria.training.recipe import ParallelRecipe, TrainRecipe
from codecria.training.start import begin
from codecria.training.state import States
from codecria.training.step import forward, lay_out, own_part, row_multiple, take_gradient
from codecria.training.watch import bad_steps, find_problem, read_bad_step

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from codecria.batches.loader import Sequence
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer
    from codecria.training.step import StepFigures


@dataclass(frozen=True)
class SequenceFigures:
    """One sequence of a bad step, alone.

    Attributes:
        number: in the run's order.
        row: the sequence.
        loss: mean over its targets, nats.
        gradient_norm: of that mean.
        largest: largest absolute value that a block gave, no number where one is none.
        block: the block that gave it.
    """

    number: int
    row: Sequence
    loss: float
    gradient_norm: float
    largest: float
    block: int


@dataclass(frozen=True)
class Document:
    """A packed document: the number of its sequence, its mean loss in nats, its text with special tokens spelt out."""

    number: int
    loss: float
    text: str


@dataclass(frozen=True)
class Replay:
    """A bad step run again.

    Attributes:
        folder: `bad/step-N`.
        recorded: what its `figures.json` says.
        figures: of the whole step, now.
        problem: what is wrong with it now; None when it is good.
        broken_weights: parameters that hold values that are no numbers: then the state is at fault, not the batch.
        sequences: in the run's order.
        documents: the worst ones, the worst first.
    """

    folder: Path
    recorded: dict[str, Any]
    figures: StepFigures
    problem: str | None
    broken_weights: list[str]
    sequences: list[SequenceFigures]
    documents: list[Document]


def replay(run: Path, step: int | None = None, worst: int = 3) -> Replay:
    """Run a bad step again in one process, whatever ranks ran it; nothing in the run's folder changes.

    On the same machine, with as many threads and one rank, the figures are the run's to the bit.

    Args:
        run: the run's folder.
        step: which bad step; the last when absent.
        worst: how many documents to return.

    Raises:
        CodecriaError: no run, or no such bad step; the bad steps there are, are named.
    """
    folder = _find(run, step)
    recipe = load_recipe(TrainRecipe, run / "recipe.yaml").model_copy(update={"parallel": ParallelRecipe()})
    recorded, batch = read_bad_step(folder)
    rows, sources = [row for _, row in batch], recorded["sources"]
    one_by_one = recipe.model_copy(update={"sequences_per_micro_batch": 1})
    start = begin(recipe)
    with open_world(recipe.parallel, recipe.device) as world:
        model = make_model(start, recipe, world).train()
        States(folder / "state", recipe, world).resume(model, make_optimiser(model, recipe.optimiser))
        parameters = [each for each in model.parameters() if each.requires_grad]
        figures = take_gradient(model, parameters, rows, recipe, world, sources)
        sequences: list[SequenceFigures] = []
        documents: list[Document] = []
        for number, row in batch:
            model.zero_grad(set_to_none=True)
            with _largest_values(model) as largest:
                alone = take_gradient(model, parameters, [row], one_by_one, world, sources)
            block = max(range(len(largest)), key=lambda each: _badness(largest[each]))
            sequences.append(SequenceFigures(number, row, alone.loss, alone.gradient_norm, largest[block], block))
            micro = own_part(lay_out([row], sources, row_multiple(one_by_one, world), world.device), world)
            with torch.no_grad():
                losses = forward(model, micro, recipe, world)[1].cpu()
            documents += _documents(number, row, losses, start.tokenizer)
    documents.sort(key=lambda each: _badness(each.loss), reverse=True)
    broken = [name for name, each in model.named_parameters() if not each.isfinite().all()]
    problem = find_problem(figures, recorded["limit"])
    return Replay(folder, recorded, figures, problem, broken, sequences, documents[:worst])


def _find(run: Path, step: int | None) -> Path:
    known = {int(path.name.removeprefix("step-")): path for path in bad_steps(run)}
    chosen = max(known, default=0) if step is None else step
    if chosen not in known:
        what = f"no bad step {chosen}; there are {', '.join(map(str, known))}" if known else "no bad step was kept here"
        raise CodecriaError(what, where=run, mend="name a run's folder and one of its bad steps")
    return known[chosen]


@contextlib.contextmanager
def _largest_values(model: Transformer) -> Generator[list[float]]:
    """Collects the largest absolute value of each block's output, in order; filled when the block ends."""
    values: list[torch.Tensor] = []
    largest: list[float] = []

    def look(_module: object, _inputs: object, output: torch.Tensor) -> None:
        values.append(output.detach().abs().amax())

    hooks = [block.register_forward_hook(look) for block in model.model.layers]
    yield largest
    for hook in hooks:
        hook.remove()
    largest += torch.stack(values).tolist()


def _badness(value: float) -> tuple[bool, float]:
    """Orders figures from good to bad: those that are no number last, the first of them the worst."""
    return (True, 0.0) if not math.isfinite(value) else (False, value)


def _documents(number: int, row: Sequence, losses: torch.Tensor, tokenizer: Tokenizer) -> list[Document]:
    targets = torch.from_numpy(row.weights[1:].nonzero()[0] + 1)
    ends = torch.tensor(row.lengths).cumsum(0)
    of_document = torch.searchsorted(ends, targets, right=True)
    found: list[Document] = []
    for document, (end, length) in enumerate(zip(ends.tolist(), row.lengths, strict=True)):
        own = losses[of_document == document]
        if len(own):
            ids: list[int] = row.ids[end - length : end].tolist()
            found.append(Document(number, own.mean().item(), _text(ids, tokenizer)))
    return found


def _text(ids: list[int], tokenizer: Tokenizer) -> str:
    parts = [
        tokenizer.token_text(id).encode() if id in tokenizer.special_ids else tokenizer.token_bytes(id) for id in ids
    ]
    return b"".join(parts).decode(errors="replace")

"""`codecria train`: one stage."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codecria.cli.options import SetOption

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.table import Table

    from codecria.training.plan import Plan
    from codecria.training.recipe import TrainRecipe

MfuOption = Annotated[float, typer.Option(min=0.01, max=1.0, help="Share of the peak that is reached, for the hours.")]
PeakOption = Annotated[float, typer.Option(min=0.1, help="Peak of one GPU in TFLOP/s; 989 is an H100's in bfloat16.")]
MemoryOption = Annotated[float, typer.Option(min=0.1, help="Memory of one GPU, to warn when a stage does not fit.")]


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one that ships with the package.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The run's folder; runs/RECIPE when not given.")
    ] = None,
    overrides: SetOption = None,
    show: Annotated[bool, typer.Option("--show", help="Print the whole recipe, defaults filled in, and stop.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the stage will take (tokens, memory, GPU-hours), and stop.")
    ] = False,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="For --dry-run; the product of the recipe's degrees when not given.")
    ] = None,
    mfu: MfuOption = 0.45,
    peak_tflops: PeakOption = 989.0,
    gpu_memory_gb: MemoryOption = 80.0,
    as_json: Annotated[bool, typer.Option("--json", help="The plan of --dry-run as one JSON object.")] = False,
) -> None:
    """Train one stage: a checkpoint and a corpus in, a checkpoint folder out.

    Killed at any moment and started again, it goes on from its last saved state to the same numbers. The figures
    of every step are in `metrics.jsonl`, the result in `checkpoint/`. On several GPUs start it with `torchrun`.

    **Examples**

    `codecria train my.yaml --out runs/mine --set steps=200 --set optimiser.peak_rate=1e-4`

    `codecria train code-7b --dry-run --gpus 128`

    `torchrun --nproc-per-node 8 -m codecria.cli.main train code-7b`
    """
    from codecria.common.recipe import find_recipe, load_recipe
    from codecria.training.recipe import TrainRecipe

    checked = load_recipe(TrainRecipe, recipe, overrides)
    if show:
        typer.echo(checked.to_yaml(), nl=False)
    elif dry_run:
        _print_plan(find_recipe(recipe).stem, checked, gpus, mfu, peak_tflops, gpu_memory_gb, as_json)
    else:
        with only_first_rank_speaks():
            from codecria.training.loop import train as run

            typer.echo(str(run(checked, out or Path("runs") / find_recipe(recipe).stem)))


@contextlib.contextmanager
def only_first_rank_speaks() -> Generator[None]:
    """Of the processes `torchrun` started all but the first are silent, unless they fail."""
    with contextlib.ExitStack() as stack:
        if int(os.environ.get("RANK", "0")):
            nowhere = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


def _print_plan(
    name: str, recipe: TrainRecipe, gpus: int | None, mfu: float, peak: float, memory_gb: float, as_json: bool
) -> None:
    import json
    from dataclasses import asdict

    from rich.console import Console

    from codecria.training.optimiser import warm_up_note
    from codecria.training.plan import least_gpus, plan, shape_after, shape_of

    shape = shape_after(recipe, shape_of(recipe.model))
    planned = plan(recipe, shape, gpus or least_gpus(recipe.parallel))
    hours = planned.gpu_hours(mfu, peak)
    if as_json:
        more = {"tokens": planned.tokens, "flops": planned.flops, "memory_gb": planned.memory_gb}
        rate = {"mfu": mfu, "peak_tflops": peak, "gpu_hours": hours, "days": hours / planned.gpus / 24}
        typer.echo(json.dumps({"recipe": name, "model": recipe.model, **asdict(planned), **more, **rate}))
        return
    console = Console(width=min(Console().width, 100))
    console.print(plan_table(name, recipe, planned, mfu, peak), highlight=False)
    if note := warm_up_note(recipe):
        console.print(f"[yellow]warning:[/yellow] {note}", highlight=False)
    if planned.memory_gb > memory_gb:
        line = f"{planned.memory_gb:.0f} GB do not fit the {memory_gb:g} GB of a GPU: more --gpus, parallel.tensor, "
        line += "parallel.context, or parallel.activation_checkpointing=full"
        console.print(f"[yellow]warning:[/yellow] {line}", highlight=False)


def plan_table(name: str, recipe: TrainRecipe, planned: Plan, mfu: float, peak: float) -> Table:
    """A plan for a terminal of 80 columns."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False, title_justify="left")
    table.title = f"{name}: {recipe.model} on {planned.gpus} GPU{'s' * (planned.gpus > 1)}"
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    hours, length = planned.gpu_hours(mfu, peak), recipe.batches.sequence_tokens
    table.add_row("tokens a step", f"{planned.tokens_per_step:,}", f"{recipe.sequences_per_step:,} × {length:,}")
    table.add_row("steps", f"{planned.steps:,}", f"{planned.micro_batches} micro-batches each on a rank")
    table.add_row("tokens in all", f"{planned.tokens / 1e9:,.3f} G")
    table.add_row("parameters", f"{planned.parameters / 1e6:,.1f} M", f"{planned.trained / 1e6:,.1f} M trained")
    table.add_row()
    table.add_row("memory of a GPU", f"{planned.memory_gb:.1f} GB", "at most; CUDA's own 1 GB left out")
    for part in planned.memory:
        table.add_row(f"  {part.name}", f"{part.size_bytes / 1e9:.2f} GB", part.how)
    table.add_row()
    half = f"attention as the full square; {planned.causal_flops_per_token / 1e9:.1f} G as half"
    table.add_row("FLOPs a token", f"{planned.flops_per_token / 1e9:.1f} G", half)
    table.add_row("FLOPs in all", f"{planned.flops:.2e}", "recomputing not counted")
    table.add_row("GPU-hours", f"{hours:,.1f}", f"at {mfu:.0%} of {peak:g} TFLOP/s")
    table.add_row("days", f"{hours / planned.gpus / 24:,.1f}", f"on {planned.gpus}")
    return table

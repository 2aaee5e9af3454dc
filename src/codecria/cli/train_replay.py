"""`codecria train-replay`: a bad step of a run once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_replay(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    step: Annotated[int | None, typer.Option(min=1, help="Which bad step; the last by default.")] = None,
    documents: Annotated[int, typer.Option(min=0, help="How many of the worst documents to show.")] = 3,
) -> None:
    """Run a bad step of a training run again, sequence by sequence, from the state before it.

    A step whose loss or gradient is no number, or whose loss is a spike, is not taken: its batch and the state before
    it are in the run's `bad/step-N`. Nothing there changes; one process is enough whatever ranks ran the step.

    **Example**

    `codecria train-replay runs/mine --step 1200`
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from codecria.training.replay import replay

    result = replay(run, step, documents)
    recorded = result.recorded["figures"]
    shown = Table(box=None, pad_edge=False, title=f"step {result.recorded['step']}", title_justify="left")
    for name in ("sequence", "source", "pieces", "loss", "gradient norm", "largest activation", "after block"):
        shown.add_column(name, justify="left" if name in ("source", "pieces") else "right")
    for each in result.sequences:
        pieces = ", ".join(f"{count} {form}" for form, count in each.row.forms.items())
        figures = (f"{each.loss:.4f}", f"{each.gradient_norm:.4g}", f"{each.largest:.4g}", str(each.block))
        shown.add_row(str(each.number), each.row.source, pieces, *figures)
    console = Console(soft_wrap=True, highlight=False)
    console.print(shown)
    for each in result.documents:
        console.print(Text(f"\nsequence {each.number}, a document of loss {each.loss:.4f}:"))
        console.print(Text(each.text[:1000]))
    if result.broken_weights:
        names = ", ".join(result.broken_weights[:3])
        console.print(f"\n{len(result.broken_weights)} weights hold what is no number before the step: {names}")
    console.print(f"\nthen: loss {recorded['loss']:.6f}, gradient norm {recorded['gradient_norm']:.6g}")
    console.print(f" now: loss {result.figures.loss:.6f}, gradient norm {result.figures.gradient_norm:.6g}")
    console.print(f"bad again: {result.problem}" if result.problem else "not bad this time")

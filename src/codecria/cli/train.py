"""`codecria train`: one stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codecria.cli.options import SetOption


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one that ships with the package.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder.")] = Path("runs/train"),
    overrides: SetOption = None,
    show: Annotated[bool, typer.Option("--show", help="Print the whole recipe, defaults filled in, and stop.")] = False,
) -> None:
    """Train one stage: a checkpoint and a corpus in, a checkpoint folder out.

    Killed at any moment and started again, it goes on from its last saved state to the same numbers. The figures
    of every step are in `metrics.jsonl`, the result in `checkpoint/`.

    **Example**

    `codecria train my.yaml --out runs/mine --set steps=200 --set optimiser.peak_rate=1e-4`
    """
    from codecria.common.recipe import load_recipe
    from codecria.training.recipe import TrainRecipe

    checked = load_recipe(TrainRecipe, recipe, overrides)
    if show:
        typer.echo(checked.to_yaml(), nl=False)
        return
    from codecria.training.loop import train as run

    typer.echo(str(run(checked, out)))

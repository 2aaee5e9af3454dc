"""`codecria export`: a checkpoint folder out of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a run, finished or under way.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    step: Annotated[
        int | None, typer.Option(min=1, help="A step that has a saved state; the newest by default.")
    ] = None,
) -> None:
    """Write a saved state of a run as a checkpoint folder, adapters merged, whatever ranks trained it.

    The folder appears whole or not at all. States are in the run's `state/`; `milestone_every_steps` of the recipe
    says which ones stay.

    **Example**

    `codecria export runs/mine --step 2000 --out models/mine-2000`
    """
    from codecria.training.export import export_state

    typer.echo(f"wrote step {export_state(run, step, out)} to {out}", err=True)

"""`codecria pipeline`: stages one after another, or as a tree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codecria.cli.options import SetOption
from codecria.cli.train import only_first_rank_speaks

if TYPE_CHECKING:
    from codecria.pipeline.recipe import PipelineRecipe


def pipeline(
    recipe: Annotated[str, typer.Argument(help="A pipeline's recipe: a file, or the name of one that ships.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The pipeline's folder; runs/RECIPE when not given.")
    ] = None,
    overrides: SetOption = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="STAGE", help="Run or continue this stage alone and measure it; its parent must be done."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print which stages are done, and stop.")] = False,
) -> None:
    """Build a corpus, train stage after stage, measure before and after, or after each.

    Killed at any moment and started again, it goes on where it was: what is finished is not done again. On several
    GPUs build the corpus first and run each stage with `torchrun` and `--only`.

    **Examples**

    `codecria pipeline pipeline-135m --out runs/tree`

    `torchrun --nproc-per-node 8 -m codecria.cli.main pipeline pipeline-7b --only code`
    """
    from codecria.common.errors import CodecriaError
    from codecria.common.recipe import find_recipe, load_recipe
    from codecria.pipeline.recipe import PipelineRecipe

    checked = load_recipe(PipelineRecipe, recipe, overrides)
    folder = out or Path("runs") / find_recipe(recipe).stem
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if only is None and not dry_run and not alone:
        raise CodecriaError("several ranks train one stage at a time", where="--only", mend="name the stage")
    with only_first_rank_speaks():
        from codecria.pipeline.run import make_corpus, measure_stage, run_pipeline, run_stage

        if not dry_run and only is None:
            run_pipeline(checked, folder)
        elif not dry_run and only is not None:
            if alone:
                make_corpus(checked, folder)
            if only != "foundation":
                run_stage(checked, folder, only)
            if alone:
                measure_stage(checked, folder, only)
        _print_stages(checked, folder)


def _print_stages(recipe: PipelineRecipe, folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from codecria.pipeline.run import stages_done

    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "from"):
        table.add_column(heading)
    for heading in ("steps", "tokens", "loss"):
        table.add_column(heading, justify="right")
    table.add_column()
    for stage in stages_done(recipe, folder):
        loss = "" if stage.loss is None else f"{stage.loss:.3f}"
        state = ("done" if stage.done else "given") if stage.finished else "under way" if stage.done else "to do"
        steps = f"{stage.done:,} of {stage.steps:,}"
        table.add_row(stage.name, stage.parent, steps, f"{stage.tokens:,}", loss, state)
    typer.echo(str(folder))
    Console().print(table, highlight=False)

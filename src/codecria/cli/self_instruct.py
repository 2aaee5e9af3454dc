"""`codecria self-instruct`: instruction data by execution feedback; `codecria rounds`: train on it and sample again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codecria.cli.options import SetOption

OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="The run's folder; runs/RECIPE when not given.")]
ShowOption = Annotated[bool, typer.Option("--show", help="Print the whole recipe, defaults filled in, and stop.")]


def self_instruct(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one that ships with the package.")],
    out: OutOption = None,
    overrides: SetOption = None,
    show: ShowOption = False,
) -> None:
    """Make instruction data: questions, tests, solutions; run them; keep the first that passes.

    Questions come from real functions, from a model's description of real functions, or from a model. Killed at any
    moment and started again, it goes on where it was. What each step kept is printed and is in `yields.json`; the
    result is `triplets.jsonl`, and `conversations.parquet`, which `batches.conversations` of a stage reads.
    Generated code runs only in the sandbox.

    **Examples**

    `codecria self-instruct mined --out runs/mined`

    `codecria self-instruct self-instruct-135m --set solutions.samples=4`
    """
    from rich.console import Console

    from codecria.common.recipe import find_recipe, load_recipe
    from codecria.instruct.recipe import SelfInstructRecipe

    checked = load_recipe(SelfInstructRecipe, recipe, overrides)
    if show:
        typer.echo(checked.to_yaml(), nl=False)
        return
    from codecria.instruct.self_instruct import self_instruct as run
    from codecria.instruct.steps import yield_table

    folder = out or Path("runs") / find_recipe(recipe).stem
    yields = run(checked, folder)
    typer.echo(str(folder))
    Console().print(yield_table(yields), highlight=False)


def rounds(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one that ships with the package.")],
    out: OutOption = None,
    overrides: SetOption = None,
    show: ShowOption = False,
) -> None:
    """Rejection sampling in rounds: solve, keep what passed, train on it, solve again with the model that was trained.

    Killed at any moment and started again, it goes on where it was. The yield of each round is printed and is in
    `rounds.json`.

    **Example**

    `codecria rounds rounds-135m --out runs/rounds`
    """
    from rich.console import Console

    from codecria.common.recipe import find_recipe, load_recipe
    from codecria.pipeline.rounds import RoundsRecipe

    checked = load_recipe(RoundsRecipe, recipe, overrides)
    if show:
        typer.echo(checked.to_yaml(), nl=False)
        return
    from codecria.pipeline.rounds import round_table, run_rounds

    folder = out or Path("runs") / find_recipe(recipe).stem
    done = run_rounds(checked, folder)
    typer.echo(str(folder))
    Console().print(round_table(done), highlight=False)

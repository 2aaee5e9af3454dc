"""`codecria self-instruct`: instruction data by execution feedback; `codecria rounds`: train on it and sample again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from codecria.cli.options import SetOption

if TYPE_CHECKING:
    from rich.table import Table

    from codecria.common.recipe import Recipe

R = TypeVar("R", bound="Recipe")

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

    `codecria self-instruct self-instruct-mined --out runs/mined`

    `codecria self-instruct self-instruct-135m --set solutions.samples=4`
    """
    from codecria.instruct.recipe import SelfInstructRecipe

    if checked := _checked(SelfInstructRecipe, recipe, overrides, show):
        from codecria.instruct.self_instruct import self_instruct as run
        from codecria.instruct.steps import yield_table

        folder = _folder(recipe, out)
        _tell(folder, yield_table(run(checked, folder)))


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
    from codecria.pipeline.rounds import RoundsRecipe

    if checked := _checked(RoundsRecipe, recipe, overrides, show):
        from codecria.pipeline.rounds import round_table, run_rounds

        folder = _folder(recipe, out)
        _tell(folder, round_table(run_rounds(checked, folder)))


def _checked(schema: type[R], recipe: str, overrides: list[str] | None, show: bool) -> R | None:
    """The recipe; None where it was only to be shown, which is done."""
    from codecria.common.recipe import load_recipe

    checked = load_recipe(schema, recipe, overrides)
    if show:
        typer.echo(checked.to_yaml(), nl=False)
    return None if show else checked


def _folder(recipe: str, out: Path | None) -> Path:
    from codecria.common.recipe import find_recipe

    return out or Path("runs") / find_recipe(recipe).stem


def _tell(folder: Path, table: Table) -> None:
    from rich.console import Console

    typer.echo(str(folder))
    Console().print(table, highlight=False)

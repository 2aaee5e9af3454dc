"""`codecria models`: what is on this machine, what can be fetched, under which licence."""

from __future__ import annotations

from typing import Annotated

import typer


def models(
    fetch: Annotated[str | None, typer.Option("--fetch", help="Fetch a model by name.")] = None,
    here: Annotated[bool, typer.Option("--here", help="Only what is on this machine.")] = False,
) -> None:
    """List models by name: licence, whether they infill, and where they lie.

    **Examples**

    `codecria models`

    `codecria models --fetch smollm2-135m`
    """
    from codecria.checkpoint import catalogue

    if fetch is not None:
        typer.echo(str(catalogue.fetch(fetch)))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "licence", "infills", "where", box=None, pad_edge=False, header_style="bold")
    for row in catalogue.list_models():
        if here and row.path is None:
            continue
        infills = {True: "yes", False: "no", None: "?"}[row.infills]
        table.add_row(row.name, row.licence or "?", infills, "can be fetched" if row.path is None else str(row.path))
    Console().print(table)

"""`codecria annotate`: types for what has none."""

from __future__ import annotations

from typing import Annotated

import typer

from codecria.cli import editing, options


def annotate(
    place: Annotated[str, typer.Argument(metavar="FILE[:NAME]", help="NAME is a function, a class or Class.method.")],
    model: options.ModelOption = options.INFILLING_MODEL,
    write: editing.WriteOption = False,
    samples: Annotated[int, typer.Option(min=1, help="Texts that vote on each, beside the most probable one.")] = 8,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    endpoint: options.EndpointOption = None,
    tokenizer: options.TokenizerOption = None,
) -> None:
    """Write the types of parameters and results that a Python file lacks.

    Only what Python can evaluate there is kept: built-in types, what the file imports or defines before it, and names
    of `typing`, which are imported. The change is shown as a diff; `--write` makes it. Types are the model's guess: a
    type checker should see them next.

    **Example**

    `codecria annotate shop.py:Basket`
    """
    path, name, text = editing.read_named(place)
    from codecria.generation.applications.annotate import annotate as write_types

    generator = editing.load(model, threads, endpoint, tokenizer)
    found = write_types(generator, text, where=str(path), name=name, samples=samples, seed=seed)
    for label in found.skipped:
        typer.echo(f"{path}: {label}: skipped: no text was a type that can stand there", err=True)
    editing.show(path, text, found.text, write)
    typer.echo(f"{path}: types{' written' if write else ''}: {len(found.written)}", err=True)

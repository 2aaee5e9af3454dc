"""`codecria document`: docstrings for what has none."""

from __future__ import annotations

from typing import Annotated

import typer

from codecria.cli import editing, options


def document(
    place: Annotated[str, typer.Argument(metavar="FILE[:NAME]", help="NAME is a function, a class or Class.method.")],
    model: options.ModelOption = options.INFILLING_MODEL,
    write: editing.WriteOption = False,
    lines: Annotated[int, typer.Option(min=1, help="A docstring's most lines.")] = 1,
    tries: Annotated[int, typer.Option(min=1, help="Samples where the most probable text is not fit.")] = 8,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    endpoint: options.EndpointOption = None,
    tokenizer: options.TokenizerOption = None,
) -> None:
    """Write the docstrings that a Python file lacks: of NAME, or of all public functions, classes and methods.

    The change is shown as a diff; `--write` makes it. Nothing but docstrings changes. A text that is empty, repeats
    itself or is no prose is drawn again, then left out, and standard error says so.

    **Example**

    `codecria document shop.py:Basket.total --write`
    """
    path, name, text = editing.read_named(place)
    from codecria.generation.applications.document import document as write_docstrings

    generator = editing.load(model, threads, endpoint, tokenizer)
    found = write_docstrings(generator, text, where=str(path), name=name, lines=lines, tries=tries, seed=seed)
    for skipped, why in found.skipped:
        typer.echo(f"{path}: {skipped}: skipped: {why}", err=True)
    editing.show(path, text, found.text, write)
    typer.echo(f"{path}: docstrings{' written' if write else ''}: {len(found.written)}", err=True)

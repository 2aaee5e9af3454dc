"""`codecria fix`: a change that makes a failing test pass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codecria.cli import editing, options
from codecria.cli.complete import read_text


def fix(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The program.")],
    test: Annotated[str, typer.Option(help="A file with tests or asserts, or `pytest FILE[::NAME]`.")],
    model: options.ModelOption = options.INFILLING_MODEL,
    write: editing.WriteOption = False,
    samples: Annotated[int, typer.Option(min=1, help="Texts drawn for each place, beside the most probable.")] = 4,
    most: Annotated[int, typer.Option(min=1, help="Programs run at most.")] = 1000,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    endpoint: options.EndpointOption = None,
    tokenizer: options.TokenizerOption = None,
) -> None:
    """Look for a change of one line or block of FILE that makes a failing test pass.

    Lines near the failure are infilled anew, and each program is run with the tests in the sandbox; a pytest command is
    not itself run, its file's tests are (without fixtures). The first that passes is shown as a diff; `--write` makes
    it. That it passes does not make it right: read it. Exit status 1 if nothing passes.

    **Examples**

    `codecria fix shop.py --test 'pytest tests/test_shop.py::test_total'`

    `codecria fix shop.py --test asserts.py --write`
    """
    text = read_text(file)
    from codecria.generation.applications.fix import fix as look_for
    from codecria.generation.applications.source import Source
    from codecria.generation.applications.tests import read_tests

    tests = read_tests(test, file, Source(text, str(file)))
    for name in tests.skipped:
        typer.echo(f"{name}: skipped: it needs fixtures", err=True)
    generator = editing.load(model, threads, endpoint, tokenizer)
    found = look_for(
        generator,
        text,
        tests,
        file=file,
        samples=samples,
        most=most,
        seed=seed,
        note=lambda line: typer.echo(line, err=True),
    )
    if found.text is None:
        lines = ", ".join(map(str, found.lines))
        typer.echo(f"{file}: none of {found.candidates} programs passes; written anew: lines {lines}", err=True)
        raise typer.Exit(1)
    if found.before.passed:
        typer.echo(f"{file}: passes already", err=True)
        return
    editing.show(file, text, found.text, write)
    typer.echo(f"{file}: passes, the {found.candidates}. of the programs run{'; written' if write else ''}", err=True)

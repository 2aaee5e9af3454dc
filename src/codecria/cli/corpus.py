"""`codecria corpus`: build a corpus, look at one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codecria.cli.options import SetOption

app = typer.Typer(help="Build a corpus of code, or show what one holds.", no_args_is_help=True)


@app.command("build")
def build(
    out: Annotated[Path, typer.Argument(help="The corpus's folder.")],
    source: Annotated[
        list[Path] | None,
        typer.Option("--source", help="A folder of code. Repeatable; this machine's Python when absent."),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="A corpus recipe, instead of --source.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="SPDX licence of files under --source that state none: you know your own code.")
    ] = None,
    keep_all_licences: Annotated[
        bool, typer.Option("--all-licences", help="Keep documents that are not permissive.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read and filter.")] = 1,
    replace: Annotated[bool, typer.Option("--replace", help="Build again over an existing corpus.")] = False,
    overrides: SetOption = None,
) -> None:
    """Build a corpus: read, filter, drop copies and near-copies, write Parquet with a manifest and a ledger.

    **Examples**

    `codecria corpus build corpora/python`

    `codecria corpus build corpora/mine --source ~/code --licence MIT`
    """
    import yaml

    from codecria.common.errors import CodecriaError
    from codecria.common.files import write_atomic
    from codecria.common.recipe import load_recipe
    from codecria.corpus.build import build_corpus
    from codecria.corpus.recipe import CorpusRecipe

    if recipe is not None and source:
        raise CodecriaError("both a recipe and sources are given", where="--source", mend="give one")
    path = recipe
    if path is None:
        values: dict[str, object] = {"permissive_only": not keep_all_licences}
        if source:
            values["sources"] = [
                {"type": "folder", "path": str(folder), **({"licence": licence} if licence else {})}
                for folder in source
            ]
        path = out.parent / f".{out.name}.recipe.yaml"
        write_atomic(path, yaml.safe_dump(values))
    try:
        checked = load_recipe(CorpusRecipe, path, overrides)
    finally:
        if recipe is None:
            path.unlink()
    build_corpus(checked, out, workers=workers, replace=replace)
    show(out)


@app.command("show")
def show(corpus: Annotated[Path, typer.Argument(help="A corpus's folder.")]) -> None:
    """Show what a corpus holds and what was dropped, and why.

    **Example**

    `codecria corpus show corpora/python`
    """
    from rich.console import Console
    from rich.table import Table

    from codecria.corpus.report import corpus_summary
    from codecria.corpus.store import read_manifest

    table = Table("", "", "documents", "MB", "share", box=None, pad_edge=False, header_style="bold")
    for column in table.columns[2:]:
        column.justify = "right"
    section = ""
    for row in corpus_summary(read_manifest(corpus)):
        first = row.section if row.section != section else ""
        section = row.section
        table.add_row(first, row.name, f"{row.documents:,}", f"{row.size_bytes / 1e6:.1f}", f"{100 * row.share:.0f} %")
    Console().print(table)

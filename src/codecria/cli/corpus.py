"""`codecria corpus`: build a corpus, look into one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codecria.cli.options import SetOption

if TYPE_CHECKING:
    from codecria.corpus.recipe import CorpusRecipe

app = typer.Typer(help="Build a corpus of code, or look into one.", no_args_is_help=True)


@app.command("build")
def build(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="A recipe (a YAML file, or one that ships), or folders of code; else this machine's Python."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The corpus's folder; corpora/NAME when absent.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="SPDX licence of files in your folders that state none: you know your own code.")
    ] = None,
    keep_all_licences: Annotated[
        bool, typer.Option("--all-licences", help="Keep documents that are not permissive.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that read, compare and write.")] = None,
    ray: Annotated[str | None, typer.Option(help="Run on the Ray cluster at this address; 'local' starts one.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Build again over an existing corpus.")] = False,
    append: Annotated[bool, typer.Option("--append", help="Add to an existing corpus.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the whole recipe and stop.")] = False,
    overrides: SetOption = None,
) -> None:
    """Build a corpus: read, filter, drop copies and near-copies, write Parquet with a manifest and a ledger.

    A build that was stopped goes on where it was when the same command is given again.

    **Examples**

    `codecria corpus build --out corpora/python`

    `codecria corpus build ~/code ~/notes --licence MIT --out corpora/mine`

    `codecria corpus build corpus-registry --workers 8`
    """
    from codecria.common.errors import CodecriaError
    from codecria.corpus.build import build_corpus

    settings: dict[str, Any] = {"permissive_only": False} if keep_all_licences else {}
    if workers is not None or ray is not None:
        settings["runner"] = {"workers": workers}
        if ray is not None:
            settings["runner"] |= {"type": "ray", "address": None if ray == "local" else ray}
    recipe, name = _recipe(what or [], licence, settings, overrides)
    if dry_run:
        typer.echo(recipe.to_yaml(), nl=False)
        return
    if replace and append:
        raise CodecriaError("both --replace and --append are given", where="--append", mend="give one")
    folder = out or Path("corpora") / name
    build_corpus(recipe, folder, replace=replace, append=append)
    inspect(folder)


def _recipe(
    what: list[str], licence: str | None, settings: dict[str, Any], overrides: list[str] | None
) -> tuple[CorpusRecipe, str]:
    """The checked recipe, and a name for its corpus."""
    import tempfile

    import yaml

    from codecria.common.errors import CodecriaError
    from codecria.common.recipe import find_recipe, load_recipe
    from codecria.corpus.recipe import CorpusRecipe

    overrides = [
        *(f"{key}={yaml.safe_dump(value, default_flow_style=True).strip()}" for key, value in settings.items())
    ] + (overrides or [])
    folders = [name for name in what if Path(name).expanduser().is_dir()]
    if not what or folders:
        if other := [name for name in what if name not in folders]:
            raise CodecriaError("is no folder", where=other[0], mend="name folders of code, or one recipe")
        given = {"licence": licence} if licence else {}
        sources = [{"type": "folder", "path": name, **given} for name in folders] or [{"type": "python-environment"}]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump({"sources": sources}, file)
            file.flush()
            return load_recipe(CorpusRecipe, file.name, overrides), Path(what[0]).resolve().name if what else "python"
    if len(what) > 1 or licence:
        mend = "set it in the recipe's sources" if licence else "build one after the other, with --append"
        raise CodecriaError("a recipe stands alone", where=what[0], mend=mend)
    return load_recipe(CorpusRecipe, what[0], overrides), find_recipe(what[0]).stem


@app.command("inspect")
def inspect(
    corpus: Annotated[Path, typer.Argument(help="A corpus's folder.")],
    search: Annotated[str | None, typer.Option(help="Documents that hold this text, in any case.")] = None,
    path: Annotated[
        str | None, typer.Option(help="Only origins and paths that hold this, or fit it (* and ?).")
    ] = None,
    dropped: Annotated[
        str | None, typer.Option(help="What was dropped for this reason ('near-copy', 'too-long', …; 'all').")
    ] = None,
    copies: Annotated[bool, typer.Option("--copies", help="Near copies beside what was kept for them.")] = False,
    most: Annotated[int, typer.Option(min=1, help="Rows shown.")] = 20,
    html: Annotated[Path | None, typer.Option(help="Write everything as one HTML page.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare every file with the manifest's hashes.")] = False,
) -> None:
    """Look into a corpus: what it holds, what was dropped and why, copies side by side, search by text or path.

    **Examples**

    `codecria corpus inspect corpora/python`

    `codecria corpus inspect corpora/python --search "def median" --path statistics`

    `codecria corpus inspect corpora/python --dropped near-copy`

    `codecria corpus inspect corpora/python --html corpus.html`
    """
    from codecria.cli import corpus_tables as tables
    from codecria.corpus.store import read_manifest, verify_corpus

    manifest = verify_corpus(corpus) if verify else read_manifest(corpus)
    if html is not None:
        from codecria.corpus.page import write_corpus_page

        write_corpus_page(corpus, html)
        typer.echo(str(html))
    elif copies:
        tables.show_copies(corpus, path, most)
    elif dropped is not None:
        tables.show_dropped(corpus, None if dropped == "all" else dropped, path, most)
    elif search is not None or path is not None:
        tables.show_matches(corpus, search, path, most)
    else:
        tables.show_summary(manifest)

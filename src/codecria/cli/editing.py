"""What `document`, `annotate` and `fix` share: a change of a file is shown, and made only when asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codecria.cli import options
from codecria.cli.complete import read_text
from codecria.common.errors import CodecriaError
from codecria.common.files import write_atomic

if TYPE_CHECKING:
    from codecria.generation.generator import Generator

WriteOption = Annotated[bool, typer.Option("--write", "-w", help="Change the file itself.")]
_COLOURS = {"+": typer.colors.GREEN, "-": typer.colors.RED, "@": typer.colors.CYAN}


def read_named(place: str) -> tuple[Path, str | None, str]:
    """What `FILE[:NAME]` names: the file, the name, the file's text."""
    path, _, name = place.rpartition(":")
    if not path or Path(place).is_file():
        return Path(place), None, read_text(Path(place))
    return Path(path), name, read_text(Path(path))


def load(model: str, threads: int | None, endpoint: str | None, tokenizer: str | None) -> Generator:
    """The model that infills: one loaded here, or one behind `--endpoint`."""
    return options.load_or_connect(model, threads, "auto", endpoint, tokenizer)


def show(path: Path, old: str, new: str, write: bool) -> None:
    """Print what changed; with `write` also change the file, as `rewrite` does."""
    from codecria.generation.applications.source import diff

    for line in diff(old, new, str(path)).splitlines():
        typer.secho(line, fg=None if line[:3] in ("+++", "---") else _COLOURS.get(line[:1]))
    if write and new != old:
        rewrite(path, old, new)


def rewrite(path: Path, old: str, new: str) -> None:
    """Change a file's text; its mode stays, and so do links to it.

    Raises:
        CodecriaError: the file is not what it was when it was read.
    """
    path = path.resolve()  # of a link, the file
    if read_text(path) != old:
        raise CodecriaError("has changed meanwhile", where=path, mend="nothing was written; start again")
    mode = path.stat().st_mode
    write_atomic(path, new)
    path.chmod(mode)

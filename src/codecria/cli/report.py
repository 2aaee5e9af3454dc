"""`codecria report`: finished evaluations as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished evaluations.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("report.html"),
) -> None:
    """Put evaluations side by side in one HTML file that opens offline; changes are against the first.

    **Example**

    `codecria report runs/before runs/after --out report.html`
    """
    from codecria.evaluation.report import write_report
    from codecria.evaluation.run_report import report_of

    write_report(out, report_of(runs))
    typer.echo(str(out))

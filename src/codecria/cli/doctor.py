"""`codecria doctor`: what this machine can do, and whether its sandbox holds."""

from __future__ import annotations

import platform

import typer


def doctor() -> None:
    """Show the processor's formats, the sandboxes, the languages they run, and attack the one that would be used.

    **Example**

    `codecria doctor`
    """
    import torch
    from rich.console import Console
    from rich.table import Table

    from codecria.common.errors import CodecriaError
    from codecria.model.precision import compute_dtype, pick_device
    from codecria.sandbox import available_backends, open_sandbox, run_attacks, toolchain_reports

    device = pick_device()
    typer.echo(f"python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    typer.echo(f"device {device}, computes in {str(compute_dtype('auto', device)).removeprefix('torch.')}")
    table = Table("sandbox", "usable", "", box=None, pad_edge=False, header_style="bold")
    for backend in available_backends():
        table.add_row(backend.name, "yes" if backend.available else "no", backend.reason)
    console = Console()
    console.print(table)
    languages = Table("language", "usable", "", box=None, pad_edge=False, header_style="bold")
    for report in toolchain_reports():
        languages.add_row(report.title, "yes" if report.available else "no", report.reason)
    console.print(languages)
    attacks = Table("attack", "contained", "verdict", box=None, pad_edge=False, header_style="bold")
    through: list[str] = []
    with open_sandbox() as sandbox:
        for result in run_attacks(sandbox):
            attacks.add_row(result.name, "yes" if result.contained else "NO", result.verdict.status)
            if not result.contained:
                through.append(result.name)
    console.print(attacks)
    if through:
        mend = "do not run generated code on this machine"
        raise CodecriaError(f"the sandbox lets through: {', '.join(through)}", where="doctor", mend=mend)

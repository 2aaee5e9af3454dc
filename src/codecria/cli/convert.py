"""`codecria convert`: one checkpoint format into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def convert(
    source: Annotated[
        str, typer.Argument(help="A Hugging Face folder, Meta's folder, a GGUF file, or a model's name.")
    ],
    target: Annotated[Path, typer.Argument(help="The folder or file to write.")],
    to: Annotated[
        Literal["huggingface", "gguf-f16", "gguf-q8_0"], typer.Option(help="The format to write.")
    ] = "huggingface",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Weights of a Hugging Face folder; kept by default."),
    ] = None,
    rope_theta: Annotated[float | None, typer.Option(help="Rotary base of a source that does not state one.")] = None,
) -> None:
    """Convert a checkpoint. The target appears whole or not at all.

    **Examples**

    `codecria convert CodeLlama-7b/ codellama-7b-hf/`

    `codecria convert runs/demo/code/checkpoint demo.gguf --to gguf-q8_0`
    """
    import torch

    from codecria.checkpoint.convert import convert as run

    run(source, target, to, None if dtype is None else getattr(torch, dtype), rope_theta=rope_theta)
    typer.echo(f"wrote {target}", err=True)

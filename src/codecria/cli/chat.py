"""`codecria chat`: talk to a model."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from codecria.cli import options
from codecria.cli.complete import decoded


def chat(
    message: Annotated[str | None, typer.Argument(help="One question; without it a conversation begins.")] = None,
    model: options.ModelOption = options.DEFAULT_MODEL,
    system: Annotated[str | None, typer.Option(help="What the model is told before the conversation.")] = None,
    max_tokens: options.MaxTokens = 512,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    top_k: options.TopK = 0,
    seed: options.Seed = 0,
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
    endpoint: options.EndpointOption = None,
) -> None:
    """Ask a question, or hold a conversation (an empty line or Ctrl-D ends it).

    **Example**

    `codecria chat 'How do I reverse a list in Python?'`
    """
    loaded = options.load_or_connect(model, threads, dtype, endpoint)
    messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    single = message is not None
    while (question := message if single else _ask()) is not None:
        messages.append({"role": "user", "content": question})
        answer = ""
        pieces = loaded.stream_chat(
            messages, max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed
        )
        for piece in pieces:
            answer += piece
            typer.echo(piece, nl=False)
        typer.echo()
        if single:
            return
        messages.append({"role": "assistant", "content": answer})


def _ask() -> str | None:
    if sys.stdin.isatty():
        typer.echo("> ", nl=False, err=True)
    line = decoded(sys.stdin.buffer.readline())
    return line.rstrip("\r\n") or None

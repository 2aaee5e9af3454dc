"""`codecria complete`: continue a text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codecria.cli import options
from codecria.common.errors import CodecriaError, explain_os_error

if TYPE_CHECKING:
    from codecria.generation.middle import CompleteOptions


def complete(
    prompt: Annotated[
        str | None, typer.Argument(help="The text to continue; standard input when absent or `-`.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the text from a file.")] = None,
    model: options.ModelOption = options.DEFAULT_MODEL,
    max_tokens: options.MaxTokens = 128,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    top_k: options.TopK = 0,
    seed: options.Seed = 0,
    stop: Annotated[list[str] | None, typer.Option(help="Stop before this text. Repeatable.")] = None,
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
    endpoint: options.EndpointOption = None,
    tokenizer: options.TokenizerOption = None,
) -> None:
    """Continue a text, streaming to standard output.

    The text is taken as it is: no template, nothing stripped.

    **Example**

    `codecria complete 'def fibonacci(n):' --max-tokens 64 --stop $'\\n\\n'`
    """
    text = _read(prompt, file)
    sampling: CompleteOptions = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "seed": seed,
        "stop": tuple(stop or ()),
    }
    loaded = options.load_or_connect(model, threads, dtype, endpoint, tokenizer)
    for piece in loaded.stream_complete(text, **sampling):
        typer.echo(piece, nl=False)
    if sys.stdout.isatty():
        typer.echo()


def _read(prompt: str | None, file: Path | None) -> str:
    if file is not None:
        if prompt is not None:
            raise CodecriaError("both a text and a file are given", where="--file", mend="give one")
        return read_text(file)
    if prompt is None or prompt == "-":
        if sys.stdin.isatty():
            raise CodecriaError("no text", where="PROMPT", mend="give it as an argument, or pipe it in")
        return read_text(None)
    return prompt


def read_text(path: Path | None) -> str:
    """Text of a file, or of standard input for None, line ends kept; one line of error when it is missing, unreadable
    or not UTF-8.
    """
    where = path or "standard input"
    try:
        return decoded(sys.stdin.buffer.read() if path is None else path.read_bytes(), where)
    except OSError as error:
        raise explain_os_error(error, where) from error


def decoded(data: bytes, where: str | Path = "standard input") -> str:
    """Bytes as text; one line of error when they are not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CodecriaError(f"not UTF-8 at byte {error.start}", where=where, mend="convert it first") from error

"""`codecria infill`: fill in the middle at a place in a file, or at a mark in standard input."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from codecria.cli import options
from codecria.cli.complete import read_text
from codecria.cli.editing import rewrite
from codecria.common.errors import CodecriaError

if TYPE_CHECKING:
    from codecria.generation.middle import InfillOptions
    from codecria.generation.sequence import Completion


def infill(
    place: Annotated[
        str, typer.Argument(metavar="FILE:LINE:COL", help="Where the cursor is; `-` reads standard input.")
    ],
    model: options.ModelOption = options.INFILLING_MODEL,
    mark: Annotated[str, typer.Option(help="What marks the cursor in standard input.")] = "<FILL>",
    whole: Annotated[bool, typer.Option("--whole", help="Print the whole text with the middle in its place.")] = False,
    write: Annotated[bool, typer.Option("--write", "-w", help="Put the middle into the file itself.")] = False,
    until: Annotated[
        Literal["end", "line", "block", "bracket"],
        typer.Option(help="Stop at the model's end mark, a line end, the block's end, or where the bracket is closed."),
    ] = "end",
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", help="Another file to show the model; what helps most last. Repeatable."),
    ] = None,
    window: Annotated[
        int | None, typer.Option(min=64, help="Tokens of the context to use; all by default.", show_default=False)
    ] = None,
    candidates: Annotated[int, typer.Option(min=1, help="Print so many different middles, the likeliest first.")] = 1,
    max_tokens: options.MaxTokens = 128,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    top_k: options.TopK = 0,
    seed: options.Seed = 0,
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
    endpoint: options.EndpointOption = None,
    tokenizer: options.TokenizerOption = None,
) -> None:
    """Fill in what is missing at the cursor, from the code on both sides of it.

    LINE and COL count from 1, in characters: column 1 is before the line's first character. What is printed is the
    middle alone, its spaces as they are, so it can be piped; `--whole` prints the finished text.

    **Examples**

    `codecria infill src/shop.py:41:9 --model runs/demo/code/checkpoint`

    `codecria infill src/shop.py:41:9 --file src/prices.py --until line --candidates 3`

    `printf 'def area(r):\\n    return <FILL>\\n' | codecria infill - --whole`

    `codecria infill app.py:3:9 --endpoint http://host:8000/v1 -m codellama/CodeLlama-7b-hf --tokenizer codellama-7b`
    """
    path, prefix, suffix = _read_place(place, mark)
    if write and path is None:
        raise CodecriaError("standard input cannot be written to", where="--write", mend="use --whole")
    if candidates > 1 and (write or whole):
        raise CodecriaError("only one middle has room", where="--candidates", mend="leave --write and --whole out")
    others = [(str(each), read_text(each)) for each in file or ()]
    loaded = options.load_or_connect(model, threads, dtype, endpoint, tokenizer)
    asked: InfillOptions = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "seed": seed,
        "stop_at": until,
        "files": others,
        "path": None if path is None else str(path),
    }
    if window is not None:
        asked["window_tokens"] = window
    if candidates > 1:
        _print_candidates(loaded.infill_candidates(prefix, suffix, candidates, **asked))
        return
    if not (write or whole):
        for piece in loaded.stream_infill(prefix, suffix, **asked):
            typer.echo(piece, nl=False)
        typer.echo(nl=sys.stdout.isatty())
        return
    middle = loaded.infill_many([(prefix, suffix)], **asked)[0][0].text
    if write and path is not None:
        rewrite(path, prefix + suffix, prefix + middle + suffix)
        typer.echo(f"{path}: {len(middle)} characters written", err=True)
        return
    typer.echo(prefix + middle + suffix, nl=False)


def _print_candidates(found: list[Completion]) -> None:
    """On a terminal one below the other, elsewhere one JSON object a line."""
    from codecria.generation.candidates import mean_log_probability

    for number, each in enumerate(found, start=1):
        value = mean_log_probability(each)
        if sys.stdout.isatty():
            typer.echo(f"{number}  {value:.3f} a token\n{each.text}\n")
        else:
            typer.echo(json.dumps({"text": each.text, "log_probability": round(value, 4)}))


def _read_place(place: str, mark: str) -> tuple[Path | None, str, str]:
    if place == "-":
        text = read_text(None)
        if text.count(mark) != 1:
            what = f"the mark {mark} stands {text.count(mark)} times in it"
            raise CodecriaError(what, where="standard input", mend="put it once, where the cursor is, or name --mark")
        prefix, suffix = text.split(mark)
        return None, prefix, suffix
    match = re.fullmatch(r"(.+):(\d+):(\d+)", place, re.DOTALL)
    if match is None:
        raise CodecriaError("is not of the form FILE:LINE:COL", where=place, mend="for example app.py:12:5")
    path = Path(match[1])
    prefix, suffix = split_at(read_text(path), int(match[2]), int(match[3]), place)
    return path, prefix, suffix


def split_at(text: str, line: int, column: int, where: str) -> tuple[str, str]:
    """Cut a text at a cursor, line and column from 1, in characters.

    A line's last column is behind its last character, before its line end; CR LF counts as the line end.

    Raises:
        CodecriaError: the cursor is outside the text.
    """
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        raise CodecriaError(f"line {line} of {len(lines)}", where=where, mend=f"LINE is 1 to {len(lines)}")
    length = len(lines[line - 1].removesuffix("\r"))
    if not 1 <= column <= length + 1:
        what = f"column {column} of a line with {length} characters"
        raise CodecriaError(what, where=where, mend=f"COL is 1 to {length + 1}")
    offset = sum(len(each) + 1 for each in lines[: line - 1]) + column - 1
    return text[:offset], text[offset:]

"""`codecria`: commands, and the one place where errors become a line and an exit status."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from codecria.cli import (
    annotate,
    bench,
    chat,
    complete,
    convert,
    corpus,
    demo,
    doctor,
    document,
    evaluate,
    export,
    fix,
    infill,
    models,
    pipeline,
    report,
    self_instruct,
    serve,
    train,
    train_replay,
)
from codecria.common.errors import CodecriaError, explain_os_error


class _Commands(TyperGroup):
    """Ends a command that is interrupted, or whose reader has gone, before Typer ends it without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            value = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            print("interrupted; start the same command again to go on", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            # The reader of our output has gone (`| head`); Python would flush what is left there once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(141)
        return value


app = typer.Typer(
    cls=_Commands,
    name="codecria",
    help="Turn an open foundation model into a code model by the Code Llama recipe, and use it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("complete")(complete.complete)
app.command("infill")(infill.infill)
app.command("chat")(chat.chat)
app.command("serve")(serve.serve)
app.command("document")(document.document)
app.command("annotate")(annotate.annotate)
app.command("fix")(fix.fix)
app.add_typer(corpus.app, name="corpus")
app.command("train")(train.train)
app.command("train-replay")(train_replay.train_replay)
app.command("export")(export.export)
app.command("pipeline")(pipeline.pipeline)
app.command("self-instruct")(self_instruct.self_instruct)
app.command("rounds")(self_instruct.rounds)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("convert")(convert.convert)
app.command("bench")(bench.bench)
app.command("models")(models.models)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)


@app.callback(invoke_without_command=True)
def _root(  # pyright: ignore[reportUnusedFunction]
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True),
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"codecria {installed('codecria')}")
        raise typer.Exit


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 an error that one line explains, 2 wrong usage, 130 interrupted,
    141 where the reader of the output has gone.
    """
    # Threads that spin for long while they wait for one another starve on a machine with other work: a training step
    # took 5 times as long on 2 busy cores. A short spin costs 13 % there against none, and keeps 97 % of a quiet
    # machine's speed where none keeps 83 %. Must be set before torch loads its OpenMP; see benchmarks/RESULTS.md.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    # oneDNN keeps a compiled product for each shape it has met, 1,024 by default and about 1 MB each: a training run
    # over documents of ever new lengths grew to 8.9 GB and was killed. With 128, more than one step's, it stays at 4.5.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "128")
    try:
        app()
    except CodecriaError as error:
        _fail(str(error))
    except OSError as error:
        _fail(str(explain_os_error(error)))


def _fail(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()

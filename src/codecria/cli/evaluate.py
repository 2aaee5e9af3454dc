"""`codecria evaluate`: measure a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codecria.cli.options import DEFAULT_MODEL, ModelOption

TASKS = ("perplexity", "single_line_corpus", "single_line_human_eval", "human_eval")


def evaluate(
    model: ModelOption = DEFAULT_MODEL,
    tasks: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(TASKS)}.")] = "single_line_human_eval",
    out: Annotated[Path, typer.Option("--out", "-o", help="The results' folder.")] = Path("runs/evaluation"),
    corpus: Annotated[Path | None, typer.Option(help="A corpus, for the tasks on held-out files.")] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Items of each task; all by default.")] = None,
    execute: Annotated[
        bool, typer.Option("--execute/--no-execute", help="Run generated programs in the sandbox.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of every draw: which items, which samples.")] = 0,
) -> None:
    """Measure a model; a killed evaluation goes on where it was. Generated code runs only in the sandbox.

    **Example**

    `codecria evaluate --model runs/demo/code/checkpoint --tasks human_eval,single_line_human_eval --items 50`
    """
    import difflib

    from codecria.common.errors import CodecriaError

    chosen = [task.strip() for task in tasks.split(",") if task.strip()]
    for task in chosen:
        if task not in TASKS:
            near = difflib.get_close_matches(task, TASKS, n=1)
            mend = f"did you mean '{near[0]}'?" if near else f"tasks are {', '.join(TASKS)}"
            raise CodecriaError(f"no task is named '{task}'", where="--tasks", mend=mend)
    if corpus is None and {"perplexity", "single_line_corpus"} & set(chosen):
        raise CodecriaError("held-out files are needed", where="--corpus", mend="build one: codecria corpus build")
    from rich.console import Console
    from rich.table import Table

    from codecria.evaluation.measures import find_measure
    from codecria.evaluation.run import EvaluateRecipe
    from codecria.evaluation.run import evaluate as run

    limits = {"human_eval": "problems", "perplexity": None}
    settings = {
        task: {} if items is None or (key := limits.get(task, "items")) is None else {key: items} for task in chosen
    }
    recipe = EvaluateRecipe.model_validate(
        {
            "checkpoint": model,
            "corpus": None if corpus is None else str(corpus),
            "tasks": settings,
            "seed": seed,
            "execute": execute,
        }
    )
    results = run(recipe, out)
    table = Table("task", "method", "measure", "value", "95 %", "items", box=None, pad_edge=False, header_style="bold")
    for row in results["results"]:
        for name, estimate in row["measures"].items():
            measure = find_measure(name)
            interval = f"{measure.show_plain(estimate['low'])} … {measure.show_plain(estimate['high'])}"
            shown = measure.show(estimate["value"])
            table.add_row(row["task"], row["method"], measure.title, shown, interval, str(row["items"]))
        for name, reasons in row["not_run"].items():
            table.add_row(row["task"], row["method"], name, "not run", "; ".join(reasons), str(row["items"]))
    Console().print(table)

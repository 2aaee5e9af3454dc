"""What `codecria evaluate` prints: results, the list of tasks, a task's protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from codecria.common.errors import CodecriaError
from codecria.evaluation.data import Data
from codecria.evaluation.measures import find_measure
from codecria.evaluation.samples import coverage
from codecria.evaluation.tasks.registry import TASKS, find_task

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.evaluation.data import DataFile


def print_results(results: dict[str, Any]) -> None:
    """A table of every figure with its interval."""
    table = Table("task", "method", "measure", "value", "95 %", "items", box=None, pad_edge=False, header_style="bold")
    for row in results["results"]:
        for name, estimate in row["measures"].items():
            measure = find_measure(name)
            interval = f"{measure.show_plain(estimate['low'])} … {measure.show_plain(estimate['high'])}"
            shown = measure.show(estimate["value"])
            covered = coverage(estimate["items"], row["items"], {}).removesuffix(" items")
            table.add_row(row["task"], row["method"], measure.title, shown, interval, covered)
        for name, reasons in row["not_run"].items():
            table.add_row(row["task"], row["method"], name, "not run", "; ".join(reasons), f"{sum(reasons.values()):,}")
    Console().print(table)


def list_tasks() -> None:
    """Every task in a line."""
    table = Table("task", "what is asked", "protocols", box=None, pad_edge=False, header_style="bold")
    for task in TASKS:
        table.add_row(task.name, task.about, ", ".join(each.name for each in task.recipe.protocols))
    Console().print(table)


def explain_task(name: str, folder: Path | None) -> None:
    """A task's data, its protocols side by side, and its recipe's keys under each."""
    task = find_task(name)
    console = Console()
    console.print(f"[bold]{task.name}[/bold]: {task.about}", highlight=False)
    needs = ["held-out files of a corpus"] if task.needs_corpus else []
    needs += ["weights that are here: an endpoint scores no given text"] if task.needs_scores else []
    if needs:
        console.print(f"needs {'; '.join(needs)}", highlight=False)
    data = Data(folder)
    for file in task.data:
        console.print(f"data: {file.title} ({file.licence}), {_state(data, file)}", soft_wrap=True, markup=False)
    protocols = task.recipe.protocols
    table = Table("", *[each.name for each in protocols], pad_edge=False, header_style="bold")
    told = [each.told() for each in protocols]
    for field in list(told[0])[1:]:
        table.add_row(field, *[each[field] for each in told])
    table.add_section()
    recipes = [task.recipe.model_validate({"protocol": each.name}).model_dump(mode="json") for each in protocols]
    for key in recipes[0]:
        if key != "protocol":
            table.add_row(key, *[_value(recipe[key]) for recipe in recipes])
    console.print(table, markup=False)


def _state(data: Data, file: DataFile) -> str:
    try:
        found = data.find(file)
    except CodecriaError as error:
        return str(error)
    return f"{found.path}, {'as published' if found.verified else 'no hash of the published content is known'}"


def _value(value: Any) -> str:
    return "none" if value is None else repr(value) if isinstance(value, str | list) else str(value)

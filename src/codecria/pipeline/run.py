"""Running a pipeline: every part in a folder of its own, what is done is not done again.

recipe.yaml   the whole recipe
corpus/       the corpus
start/        the foundation model with untrained infill markers, what the measures before are taken on
before/       measures before
STAGE/        one folder a stage; STAGE/checkpoint is its model
after/        measures after
measures/     NAME/STAGE: one evaluation of `measures` on one stage's model; NAME.html: all stages side by side
beside/       the infilling of other models, one folder a model
report.html   all of it on one page
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from codecria.batches.conversations import conversation_files
from codecria.batches.recipe import BatchRecipe, InfillRecipe
from codecria.common.errors import CodecriaError
from codecria.common.files import write_atomic
from codecria.common.progress import console
from codecria.common.recipe import load_recipe, resolved
from codecria.corpus.build import build_corpus
from codecria.evaluation.recipe import EvaluateRecipe
from codecria.evaluation.report import write_report
from codecria.evaluation.run import evaluate
from codecria.evaluation.run_report import report_of
from codecria.pipeline.recipe import FOUNDATION, PipelineRecipe, infilling_methods
from codecria.training.loop import check_finished, train
from codecria.training.metrics import read_metrics
from codecria.training.start import save_start


@dataclass(frozen=True)
class Finished:
    """Where the parts of a finished pipeline lie."""

    recipe: PipelineRecipe
    folder: Path
    corpus: Path
    checkpoint: Path
    """The last stage's model."""
    before: Path | None
    after: Path | None
    metrics: list[Path]
    """One a stage that was trained."""
    beside: dict[str, Path]
    """By the name of the model."""


def run_pipeline(recipe: PipelineRecipe, folder: Path) -> Finished:
    """Run what is not yet done.

    Raises:
        CodecriaError: the folder holds another pipeline, or a part fails; what was done stays.
    """
    _want_conversations(recipe, folder)
    corpus = make_corpus(recipe, folder)
    start, before = folder / "start" / "checkpoint", None
    if recipe.evaluate is not None:
        _say(2, "before", "the foundation model, its infill markers untrained")
        _save_foundation(recipe, start)
        before = _measure(recipe, start, corpus, folder / "before")
    names = [FOUNDATION, *(stage.name for stage in recipe.stages)]
    for name in names:
        if name != FOUNDATION:
            run_stage(recipe, folder, name)
        measure_stage(recipe, folder, name)
    for measures in recipe.measures:
        runs = [folder / "measures" / measures.name / name for name in measures.of or names]
        write_report(folder / "measures" / f"{measures.name}.html", report_of(runs))
    metrics = [folder / stage.name / "metrics.jsonl" for stage in recipe.stages if stage.checkpoint is None]
    checkpoint = _model_of(recipe, folder, names[-1])
    after = None
    if recipe.evaluate is not None:
        _say(4, "after", str(checkpoint))
        after = _measure(recipe, checkpoint, corpus, folder / "after")
    beside = {name: _measure_beside(recipe, name, corpus, folder / "beside") for name in recipe.beside}
    return Finished(recipe, folder, corpus, checkpoint, before, after, metrics, beside)


def make_corpus(recipe: PipelineRecipe, folder: Path) -> Path:
    """Build the corpus where it is not there.

    Returns:
        Its folder.

    Raises:
        CodecriaError: the folder holds another pipeline, or the build fails.
    """
    _claim(folder, recipe)
    corpus = folder / "corpus"
    _say(1, "corpus", f"{corpus}")
    build_corpus(recipe.corpus, corpus)
    return corpus


def run_stage(recipe: PipelineRecipe, folder: Path, name: str) -> Path:
    """Run or continue one stage; a finished one is left as it is.

    Several ranks may call it together, when the corpus is there.

    Returns:
        Its checkpoint's folder.

    Raises:
        CodecriaError: no stage has that name, its parent is not finished, the folder holds another pipeline, or
            training fails.
    """
    _claim(folder, recipe)
    stages = {stage.name: stage for stage in recipe.stages}
    if name not in stages:
        raise CodecriaError(f"no stage is named '{name}'", where=folder, mend=f"stages: {', '.join(stages)}")
    stage, parent = stages[name], recipe.parent_of(name)
    begins_from = recipe.foundation if parent == FOUNDATION else str(_model_of(recipe, folder, parent))
    placed = stage.placed(begins_from, folder / "corpus")
    if _finished(recipe, folder, name):
        if stage.checkpoint is None:
            check_finished(placed, folder / name)
        return _model_of(recipe, folder, name)
    if not stage.model and not _finished(recipe, folder, parent):
        raise CodecriaError(f"the stage '{parent}' is not finished", where=folder, mend="run it first")
    _say(3, f"stage {name}", f"{stage.steps} steps from {placed.model}")
    return train(placed, folder / name)


def measure_stage(recipe: PipelineRecipe, folder: Path, name: str) -> None:
    """Take every measure of a stage that is finished, or of the foundation model; what was taken stays.

    Raises:
        CodecriaError: the stage is not finished, or an evaluation fails.
    """
    corpus = folder / "corpus"
    for measures in recipe.measures:
        if measures.of is None or name in measures.of:
            model = _model_of(recipe, folder, name)
            if name == FOUNDATION:
                _save_foundation(recipe, model)
            _say(4, f"{measures.name} of {name}", str(model))
            evaluate(measures.placed(model, corpus), folder / "measures" / measures.name / name)


def _save_foundation(recipe: PipelineRecipe, folder: Path) -> None:
    """Write the foundation model itself: of the stages it has nothing but untrained markers where one infills."""
    infills = any(stage.batches.infill.rate > 0 for stage in recipe.stages)
    # Short sequences: longer ones than the foundation knows may need a stage's own rotary base.
    batches = BatchRecipe(sequence_tokens=64, infill=InfillRecipe(rate=float(infills)))
    plain = dict.fromkeys(("rope_theta", "max_positions", "chat_format", "lora"))
    save_start(recipe.stages[0].model_copy(update={**plain, "model": recipe.foundation, "batches": batches}), folder)


def _want_conversations(recipe: PipelineRecipe, folder: Path) -> None:
    """A stage's conversations are wanted before hours of other stages, not after them."""
    for stage in recipe.stages:
        if stage.batches.conversations is not None and not _finished(recipe, folder, stage.name):
            conversation_files(Path(stage.batches.conversations))


def _model_of(recipe: PipelineRecipe, folder: Path, name: str) -> Path:
    """Where a stage's model is or will be; of the foundation, what the measures before are taken on."""
    given = next((stage.checkpoint for stage in recipe.stages if stage.name == name), None)
    return Path(given) if given else folder / ("start" if name == FOUNDATION else name) / "checkpoint"


def _finished(recipe: PipelineRecipe, folder: Path, name: str) -> bool:
    if name == FOUNDATION or any(stage.name == name and stage.checkpoint is not None for stage in recipe.stages):
        return True
    return (_model_of(recipe, folder, name) / "lineage.json").exists()


class Progress(NamedTuple):
    """How far a stage is."""

    name: str
    parent: str
    steps: int
    done: int
    tokens: int
    loss: float | None
    finished: bool


def stages_done(recipe: PipelineRecipe, folder: Path) -> list[Progress]:
    """How far each stage is, by its metrics."""
    rows: list[Progress] = []
    for stage in recipe.stages:
        lines = [line for line in read_metrics(folder / stage.name / "metrics.jsonl") if "loss" in line]
        last: dict[str, Any] = lines[-1] if lines else {"step": 0, "tokens": 0, "loss": None}
        finished = _finished(recipe, folder, stage.name)
        figures = (stage.steps, last["step"], last["tokens"], last["loss"], finished)
        rows.append(Progress(stage.name, recipe.parent_of(stage.name), *figures))
    return rows


def _measure(recipe: PipelineRecipe, checkpoint: Path, corpus: Path, folder: Path) -> Path:
    assert recipe.evaluate is not None
    evaluation = EvaluateRecipe(
        checkpoint=str(checkpoint),
        corpus=str(corpus),
        tasks=recipe.evaluate,
        seed=recipe.seed,
        precision=recipe.evaluation_precision,
    )
    evaluate(evaluation, folder)
    return folder


def _measure_beside(recipe: PipelineRecipe, model: str, corpus: Path, folder: Path) -> Path:
    assert recipe.evaluate is not None
    _say(4, "beside", model)
    changes: dict[str, Any] = {}
    for task, measured in recipe.evaluate.chosen():
        asked = infilling_methods(measured)
        changes[task.name] = measured.model_copy(update={"methods": asked}) if asked else None
    chosen = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update=changes)})
    return _measure(chosen, Path(model), corpus, folder / model.replace("/", "--"))


def _claim(folder: Path, recipe: PipelineRecipe) -> None:
    path = folder / "recipe.yaml"
    if not path.exists():
        write_atomic(path, recipe.to_yaml())
        return
    old, new = (resolved(each.shaping()) for each in (load_recipe(PipelineRecipe, path), recipe))
    if old != new:
        keys = ", ".join(key for key in new if old[key] != new[key])
        what = f"holds a run of another recipe: {keys} differ"
        raise CodecriaError(what, where=folder, mend="name another folder, or remove this one")


def _say(number: int, what: str, detail: str) -> None:
    console.print(f"[bold]{number} · {what}[/bold]  [dim]{detail}[/dim]", highlight=False)

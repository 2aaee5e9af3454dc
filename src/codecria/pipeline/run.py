"""Running a pipeline: every part in a folder of its own, what is done is not done again.

recipe.yaml   the whole recipe
corpus/       the corpus
start/        the foundation model with untrained infill markers, what the measures before are taken on
before/       measures before
STAGE/        one folder a stage; STAGE/checkpoint is its model
after/        measures after
report.html   all of it on one page
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError
from codecria.common.files import write_atomic
from codecria.common.progress import console
from codecria.common.recipe import load_recipe
from codecria.corpus.build import build_corpus
from codecria.evaluation.run import EvaluateRecipe, evaluate
from codecria.pipeline.recipe import PipelineRecipe
from codecria.training.loop import train
from codecria.training.start import save_start

if TYPE_CHECKING:
    from pathlib import Path


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
    """One a stage."""


def run_pipeline(recipe: PipelineRecipe, folder: Path) -> Finished:
    """Run what is not yet done.

    Raises:
        CodecriaError: the folder holds another pipeline, or a part fails; what was done stays.
    """
    _claim(folder, recipe)
    corpus = folder / "corpus"
    _say(1, "corpus", f"{corpus}")
    build_corpus(recipe.corpus, corpus)
    start, before = folder / "start" / "checkpoint", None
    if recipe.evaluate is not None:
        _say(2, "before", "the foundation model, its infill markers untrained")
        save_start(recipe.stages[0].placed(recipe.foundation, corpus), start)
        before = _measure(recipe, start, corpus, folder / "before")
    parent: str | Path = recipe.foundation
    metrics: list[Path] = []
    for stage in recipe.stages:
        _say(3, f"stage {stage.name}", f"{stage.steps} steps from {parent}")
        parent = train(stage.placed(parent, corpus), folder / stage.name)
        metrics.append(folder / stage.name / "metrics.jsonl")
    checkpoint = folder / recipe.stages[-1].name / "checkpoint"
    after = None
    if recipe.evaluate is not None:
        _say(4, "after", str(checkpoint))
        after = _measure(recipe, checkpoint, corpus, folder / "after")
    return Finished(recipe, folder, corpus, checkpoint, before, after, metrics)


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


def _claim(folder: Path, recipe: PipelineRecipe) -> None:
    path = folder / "recipe.yaml"
    if not path.exists():
        write_atomic(path, recipe.to_yaml())
        return
    there = load_recipe(PipelineRecipe, path)
    if there != recipe:
        old, new = there.model_dump(), recipe.model_dump()
        keys = ", ".join(key for key in new if old[key] != new[key])
        what = f"holds a run of another recipe: {keys} differ"
        raise CodecriaError(what, where=folder, mend="name another folder, or remove this one")


def _say(number: int, what: str, detail: str) -> None:
    console.print(f"[bold]{number} · {what}[/bold]  [dim]{detail}[/dim]", highlight=False)

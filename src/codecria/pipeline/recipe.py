"""A pipeline's recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from codecria.common.recipe import Recipe
from codecria.corpus.recipe import CorpusRecipe  # noqa: TC001 pydantic reads the types at run time
from codecria.evaluation.recipe import EvaluateRecipe
from codecria.evaluation.tasks.registry import Tasks  # noqa: TC001
from codecria.model.precision import Precision  # noqa: TC001
from codecria.training.recipe import TrainRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.evaluation.protocol import TaskRecipe


FOUNDATION = "foundation"


class Stage(TrainRecipe):
    """A training stage. It may extend a recipe of its own (`extends: code-7b`), all but that one's model and corpus.

    Attributes:
        name: names the stage's folder.
        parent: the stage it begins from, or `foundation`; the one before it when absent.
        model: a checkpoint to begin from instead of a stage's.
        corpus: the pipeline's when absent.
        checkpoint: what the stage gave elsewhere: a path, or a name from the catalogue. Nothing is trained then, and
            stages go on from it.
    """

    not_inherited: ClassVar[tuple[str, ...]] = ("model", "corpus")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    parent: str | None = None
    model: str = ""
    corpus: str = ""
    checkpoint: str | None = None

    def placed(self, parent: str | Path, corpus: Path) -> TrainRecipe:
        """The stage as a recipe of its own."""
        values = self.model_dump(exclude={"name", "parent", "checkpoint"})
        values["model"] = self.model or str(parent)
        values["corpus"] = self.corpus or str(corpus)
        return TrainRecipe.model_validate(values)


class StageMeasures(EvaluateRecipe):
    """An evaluation of the foundation model and of the stages' models, alike for each of them.

    Attributes:
        name: names its folder.
        of: stages, or `foundation`; all of them when absent.
        checkpoint: left empty: the stage's.
        corpus: the pipeline's when left empty, unless a `folder` is named.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    of: tuple[str, ...] | None = None
    checkpoint: str = ""
    corpus: str | None = ""

    @model_validator(mode="before")
    @classmethod
    def _held_out_files_are_the_folder_or_the_pipeline_s(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("corpus"):  # pyright: ignore
            return {**values, "corpus": "" if values.get("folder") is None else None}  # pyright: ignore
        return values  # pyright: ignore

    def placed(self, checkpoint: str | Path, corpus: Path) -> EvaluateRecipe:
        """The evaluation of one model."""
        values = self.model_dump(exclude={"name", "of"})
        held_out = str(corpus) if self.corpus == "" else self.corpus
        return EvaluateRecipe.model_validate({**values, "checkpoint": str(checkpoint), "corpus": held_out})


def infilling_methods(measured: TaskRecipe) -> tuple[str, ...]:
    """A task's ways of asking that infill: none of most tasks."""
    return tuple(each for each in getattr(measured, "methods", ()) if each != "left_to_right")


class PipelineRecipe(Recipe):
    """From a foundation model to a measured code model.

    Attributes:
        title: heading of the report.
        foundation: the model it begins with: a path, or a name from the catalogue.
        corpus: what the corpus is built from.
        stages: in order; each takes the checkpoint of the one before, or of the one it names as its parent.
        evaluate: measured before the first stage and after the last; absent for none.
        measures: evaluations of the foundation model and of every stage's model.
        beside: models whose infilling is measured too, to be shown beside the last stage's.
        evaluation_precision: dtype of the weights while measuring.
        seed: of the evaluation's draws; corpus and stages have their own.
    """

    title: str
    foundation: str
    corpus: CorpusRecipe
    stages: tuple[Stage, ...] = Field(min_length=1)
    evaluate: Tasks | None = None
    measures: tuple[StageMeasures, ...] = ()
    beside: tuple[str, ...] = ()
    evaluation_precision: Precision = "fp32"
    seed: int = 0

    @field_validator("stages")
    @classmethod
    def _names_differ(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        names = [stage.name for stage in stages]
        for number, stage in enumerate(stages):
            if stage.parent is not None and stage.parent not in (FOUNDATION, *names[:number]):
                earlier = ", ".join((FOUNDATION, *names[:number]))
                raise ValueError(f"the parent '{stage.parent}' of '{stage.name}' is none of those before it: {earlier}")
        if taken := {"corpus", "start", "before", "after", "beside", "measures", FOUNDATION} & set(names) or {
            name for name in names if names.count(name) > 1
        }:
            raise ValueError(f"the stage name '{taken.pop()}' is taken")
        return stages

    @model_validator(mode="after")
    def _beside_is_measured(self) -> Self:
        chosen = () if self.evaluate is None else self.evaluate.chosen()
        if self.beside and not any(infilling_methods(measured) for _, measured in chosen):
            raise ValueError("'beside' names models to measure, but 'evaluate' names no task that infills")
        return self

    @model_validator(mode="after")
    def _measured_stages_are_there(self) -> Self:
        names = [each.name for each in self.measures]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two measures are named '{twice[0]}'")
        known = [FOUNDATION, *(stage.name for stage in self.stages)]
        if unknown := [name for each in self.measures for name in each.of or () if name not in known]:
            raise ValueError(f"measures are taken of '{unknown[0]}', which is none of {', '.join(known)}")
        return self

    def parent_of(self, name: str) -> str:
        """The name of the stage that a stage begins from, or `foundation`."""
        names = [stage.name for stage in self.stages]
        number = names.index(name)
        return self.stages[number].parent or (names[number - 1] if number else FOUNDATION)

    def shaping(self) -> dict[str, Any]:
        """Every key that shapes the stages: a pipeline may go on with other ranks, workers, trackers and measures."""
        shown = self.model_dump(mode="json", exclude={"measures"})
        return {**shown, "stages": [stage.shaping() for stage in self.stages]}

"""A pipeline's recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from codecria.common.recipe import Recipe
from codecria.corpus.recipe import CorpusRecipe  # noqa: TC001 pydantic reads the types at run time
from codecria.evaluation.run import Tasks  # noqa: TC001
from codecria.model.precision import Precision  # noqa: TC001
from codecria.training.recipe import TrainRecipe

if TYPE_CHECKING:
    from pathlib import Path


class Stage(TrainRecipe):
    """A training stage. Its parent is the stage before it, its corpus the pipeline's, unless it names its own.

    Attributes:
        name: names the stage's folder.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    model: str = ""
    corpus: str = ""

    def placed(self, parent: str | Path, corpus: Path) -> TrainRecipe:
        """The stage as a recipe of its own."""
        values = self.model_dump(exclude={"name"})
        values["model"] = self.model or str(parent)
        values["corpus"] = self.corpus or str(corpus)
        return TrainRecipe.model_validate(values)


class PipelineRecipe(Recipe):
    """From a foundation model to a measured code model.

    Attributes:
        title: heading of the report.
        foundation: the model it begins with: a path, or a name from the catalogue.
        corpus: what the corpus is built from.
        stages: in order; each takes the checkpoint of the one before.
        evaluate: measured before the first stage and after the last; absent for none.
        evaluation_precision: dtype of the weights while measuring.
        seed: of the evaluation's draws; corpus and stages have their own.
    """

    title: str
    foundation: str
    corpus: CorpusRecipe
    stages: tuple[Stage, ...] = Field(min_length=1)
    evaluate: Tasks | None = None
    evaluation_precision: Precision = "fp32"
    seed: int = 0

    @field_validator("stages")
    @classmethod
    def _names_differ(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        names = [stage.name for stage in stages]
        if taken := {"corpus", "start", "before", "after"} & set(names) or {
            name for name in names if names.count(name) > 1
        }:
            raise ValueError(f"the stage name '{taken.pop()}' is taken")
        return stages

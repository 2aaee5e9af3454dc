"""An evaluation's recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from codecria.common.recipe import Recipe
from codecria.evaluation.tasks.registry import Tasks  # noqa: TC001 pydantic reads the types at run time
from codecria.generation.quantised import Form  # noqa: TC001
from codecria.model.config import RopeScaling
from codecria.model.precision import Precision  # noqa: TC001

if TYPE_CHECKING:
    from codecria.model.config import ModelConfig


POSITIONS = ("rope_theta", "rope_factor", "max_positions")
"""Keys that change how a checkpoint's positions are read."""


class EvaluateRecipe(Recipe):
    """An evaluation.

    Attributes:
        checkpoint: a folder, a file or a name, as `codecria models` lists them; with an endpoint the name there.
        endpoint: an OpenAI-compatible server's address, up to and with its version; None for a model here.
        tokenizer: of the endpoint's model: a folder or a name. With it prompts go as ids, and infilling is possible.
        concurrency: requests under way at once.
        corpus: folder of a built corpus, for the tasks that need held-out files.
        folder: any folder of code instead of a corpus: all of it counts as held out, unfiltered.
        rope_theta: base period to read the checkpoint with, instead of the one it states. Nothing is trained.
        rope_factor: linear interpolation: positions are divided by it, whatever scaling the checkpoint states.
        max_positions: context to read the checkpoint with, instead of the one it states.
        tasks: what is run.
        data: folder of published data, looked at first.
        allow_data: published files whose content may be another than is known, by their usual path.
        contamination: whether to count which of the tasks' items stand in the corpus's training files. Reads them all.
        seed: of every draw: which items, which samples, which resamples.
        precision: dtype of the weights, or `int8`, `int4`. float32 by default: bits differ by rounding otherwise.
        device: `cpu`, `cuda`, … or `auto`.
        execute: whether generated programs are run, in the sandbox; the rows of those that are not say why.
        workers: programs run at a time.
    """

    checkpoint: str = "smollm2-135m"
    endpoint: str | None = None
    tokenizer: str | None = None
    concurrency: Annotated[int, Field(ge=1)] = 32
    corpus: str | None = None
    folder: str | None = None
    rope_theta: Annotated[float, Field(gt=0)] | None = None
    rope_factor: Annotated[float, Field(ge=1)] | None = None
    max_positions: Annotated[int, Field(ge=16)] | None = None
    tasks: Tasks
    data: str | None = None
    allow_data: tuple[str, ...] = ()
    contamination: bool = False
    seed: int = 0
    precision: Precision | Form = "fp32"
    device: str = "auto"
    execute: bool = True
    workers: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        chosen = [task for task, _ in self.tasks.chosen()]
        if not chosen:
            raise ValueError("no task is named")
        if self.contamination and self.corpus is None:
            raise ValueError("contamination is looked for in a corpus: set 'corpus'")
        for task in chosen:
            if task.needs_corpus and self.corpus is None and self.folder is None:
                raise ValueError(f"the task '{task.name}' needs held-out files: set 'corpus' or 'folder'")
        if self.corpus is not None and self.folder is not None:
            raise ValueError("'corpus' and 'folder' are both held-out files: set one")
        changed = [name for name in POSITIONS if getattr(self, name) is not None]
        if changed and self.endpoint is not None:
            raise ValueError(f"the server behind 'endpoint' has loaded the model: '{changed[0]}' cannot be set")
        return self

    def with_positions(self, config: ModelConfig) -> ModelConfig:
        """The model's shape with the positions that this evaluation reads it with."""
        return replace(
            config,
            rope_theta=self.rope_theta or config.rope_theta,
            rope_scaling=RopeScaling("linear", self.rope_factor) if self.rope_factor else config.rope_scaling,
            max_positions=self.max_positions or config.max_positions,
        )

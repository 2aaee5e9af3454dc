"""Every task, by name. A new task is a file of this folder that ends in `TASK`, and a line here."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pydantic import SerializerFunctionWrapHandler, create_model, model_serializer

from codecria.common.errors import CodecriaError
from codecria.common.recipe import Recipe
from codecria.evaluation.tasks import (
    apps,
    bold,
    docstring,
    false_refusals,
    human_eval,
    human_eval_infilling,
    human_eval_plus,
    key_retrieval,
    long_line,
    long_perplexity,
    mbpp,
    mbpp_plus,
    multipl_e,
    multipl_e_fim,
    perplexity,
    repair,
    repository_line,
    round_trip,
    single_line_corpus,
    single_line_human_eval,
    truthful_qa,
    type_inference,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codecria.evaluation.protocol import TaskRecipe
    from codecria.evaluation.task import Task

TASKS: tuple[Task[Any], ...] = (
    perplexity.TASK,
    single_line_corpus.TASK,
    single_line_human_eval.TASK,
    human_eval.TASK,
    human_eval_plus.TASK,
    mbpp.TASK,
    mbpp_plus.TASK,
    apps.TASK,
    human_eval_infilling.TASK,
    repair.TASK,
    multipl_e.TASK,
    multipl_e_fim.TASK,
    docstring.TASK,
    round_trip.TASK,
    type_inference.TASK,
    truthful_qa.TASK,
    bold.TASK,
    false_refusals.TASK,
    long_perplexity.TASK,
    key_retrieval.TASK,
    long_line.TASK,
    repository_line.TASK,
)
"""In the order in which they are run."""


def find_task(name: str) -> Task[Any]:
    """The task of that name, or of the rows whose `task` begins with it (`perplexity/code`).

    Raises:
        CodecriaError: there is none; the nearest is named.
    """
    names = {task.name: task for task in TASKS}
    known = names.get(name.partition("/")[0])
    if known is None:
        near = difflib.get_close_matches(name, names, n=1)
        mend = f"did you mean '{near[0]}'?" if near else f"tasks are {', '.join(names)}"
        raise CodecriaError(f"no task is named '{name}'", mend=mend)
    return known


class _Tasks(Recipe):
    """What is run: each task's recipe by its name. A task that is absent is not run."""

    def chosen(self) -> Iterator[tuple[Task[Any], TaskRecipe]]:
        """The tasks that are run, in the registry's order, each with its recipe."""
        for task in TASKS:
            recipe: TaskRecipe | None = getattr(self, task.name)
            if recipe is not None:
                yield task, recipe

    @model_serializer(mode="wrap")
    def _only_chosen(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: recipe for name, recipe in handler(self).items() if recipe is not None}


if TYPE_CHECKING:
    Tasks = _Tasks
else:
    # A field a task, so that a recipe's file is checked key by key and errors name the nearest.
    Tasks = create_model(
        "Tasks",
        __base__=_Tasks,
        __doc__=_Tasks.__doc__,
        __module__=__name__,
        **{task.name: (task.recipe | None, None) for task in TASKS},
    )

"""Protocols: everything about how a task is run that moves its figure, said in words and set in the recipe.

Figures of one benchmark differ by points from harness to harness: a prompt stripped or not, another list of stop
strings, a first line scored instead of a whole output. So each task names its protocols, and results and report say
which was used.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 pydantic looks at the class variables' types
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, cast

from pydantic import model_validator

from codecria.common.recipe import Recipe


@dataclass(frozen=True)
class Protocol:
    """One way to run a task.

    Attributes:
        name: `paper`, `harness`, …
        source: whose figures are found this way.
        prompt: its bytes.
        stop: what ends an output.
        truncation: what is cut, of prompt and output.
        scoring: how an output becomes a figure.
        sampling: how outputs are chosen.
        sets: keys of the task's recipe; what a recipe sets itself goes before.
    """

    name: str
    source: str
    prompt: str
    stop: str
    truncation: str
    scoring: str
    sampling: str
    sets: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def told(self) -> dict[str, str]:
        """All of it but `sets`, for results and report."""
        return {name: value for name, value in asdict(self).items() if name != "sets"}


class TaskRecipe(Recipe):
    """Base of every task's recipe.

    Attributes:
        protocol: sets the keys that the recipe leaves out; the task's first one where none is named.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = ()
    """The task's, its default first."""

    protocol: str = ""

    @property
    def chosen(self) -> Protocol:
        """The protocol in use."""
        return next(each for each in self.protocols if each.name == self.protocol)

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not cls.protocols:
            return values
        given = cast("dict[str, Any]", values)
        name = given.get("protocol") or cls.protocols[0].name
        for each in cls.protocols:
            if each.name == name:
                return {**each.sets, **given, "protocol": name}
        raise ValueError(f"no protocol is named '{name}'; there are {', '.join(each.name for each in cls.protocols)}")

"""Rejection sampling in rounds: solve, keep what passed, train on it, solve again with the model that came out.

    recipe.yaml          the whole recipe
    round-1/samples/     a self-instruct run
    round-1/training/    a stage on what passed; its checkpoint solves in the next round
    rounds.json          the yield of each round

A stage begins from the recipe's own parent each time, on the triplets of all rounds so far, so that errors of one round
are not built upon (STaR, Zelikman et al. 2022, does likewise).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator
from rich.table import Table

from codecria.common.errors import CodecriaError
from codecria.common.files import write_atomic
from codecria.common.recipe import Recipe
from codecria.instruct.conversations import conversation, write_conversations
from codecria.instruct.question import read_triplets
from codecria.instruct.recipe import SelfInstructRecipe  # noqa: TC001 pydantic reads the types at run time
from codecria.instruct.self_instruct import self_instruct
from codecria.instruct.steps import claim
from codecria.training.loop import train
from codecria.training.recipe import TrainRecipe  # noqa: TC001

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.instruct.question import Triplet


class RoundsRecipe(Recipe):
    """Rounds of sampling and training.

    Attributes:
        rounds: how many times is sampled; after the last nothing is trained.
        self_instruct: what a round samples. In the first its own generators solve; in later ones the model trained last
            takes the place of the one that `solutions` names.
        train: the stage. Its `batches.conversations` is set to what passed.
    """

    rounds: Annotated[int, Field(ge=1)] = 2
    self_instruct: SelfInstructRecipe
    train: TrainRecipe

    @model_validator(mode="after")
    def _solved(self) -> RoundsRecipe:
        if self.self_instruct.solutions is None:
            raise ValueError("rounds need solutions: say under `self_instruct.solutions` who solves")
        return self


@dataclass(frozen=True)
class Round:
    """What a round gave.

    Attributes:
        round: its number, from 1.
        model: who solved.
        questions: that were asked.
        solved: with a solution that passed.
        passed, samples: solutions that passed, of so many.
        new: questions that no earlier round had solved.
    """

    round: int
    model: str
    questions: int
    solved: int
    passed: int
    samples: int
    new: int


def run_rounds(recipe: RoundsRecipe, folder: Path) -> list[Round]:
    """Run what is not yet done.

    Raises:
        CodecriaError: the folder holds another run, nothing passed in the first round, or a part fails.
    """
    claim(folder, recipe)
    done: list[Round] = []
    solved: dict[str, Triplet] = {}
    sampled = recipe.self_instruct
    for number in range(1, recipe.rounds + 1):
        place = folder / f"round-{number}"
        self_instruct(sampled, place / "samples")
        triplets = {triplet.question.id: triplet for triplet in read_triplets(place / "samples")}
        done.append(_round(number, sampled, place / "samples", triplets, solved))
        solved = {**triplets, **solved}
        write_atomic(folder / "rounds.json", json.dumps([asdict(each) for each in done], indent=1) + "\n")
        if number < recipe.rounds:
            sampled = _with_model(sampled, _train(recipe.train, solved, place), number)
    return done


def round_table(rounds: list[Round]) -> Table:
    """The yields, to print."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("round", "questions", "solved", "new", "samples", "passed", "share"):
        table.add_column(heading, justify="right")
    for each in rounds:
        share = f"{100 * each.passed / each.samples:.1f} %" if each.samples else ""
        counts = (each.round, each.questions, each.solved, each.new, each.samples, each.passed)
        table.add_row(*(f"{count:,}" for count in counts), share)
    return table


def _train(recipe: TrainRecipe, solved: dict[str, Triplet], place: Path) -> Path:
    """A checkpoint trained on the first solution of every question that is solved."""
    if not solved:
        mend = "ask a larger model, draw more samples, or ask easier questions"
        raise CodecriaError("no solution passed, so there is nothing to train on", where=place, mend=mend)
    path = place / "solved.parquet"
    if not path.exists():
        write_conversations((conversation(triplet) for triplet in solved.values()), path)
    batches = recipe.batches.model_copy(update={"conversations": str(path)})
    return train(recipe.model_copy(update={"batches": batches}), place / "training")


def _with_model(recipe: SelfInstructRecipe, checkpoint: Path, number: int) -> SelfInstructRecipe:
    """The recipe with a trained model in the solver's place, and draws of its own."""
    assert recipe.solutions is not None
    solver = recipe.solutions.generator
    trained = recipe.generators[solver].model_copy(update={"model": str(checkpoint), "endpoint": None})
    values: dict[str, Any] = {"generators": {**recipe.generators, solver: trained}, "seed": recipe.seed + number}
    return recipe.model_copy(update=values)


def _round(
    number: int, recipe: SelfInstructRecipe, folder: Path, triplets: dict[str, Triplet], solved: dict[str, Triplet]
) -> Round:
    yields = {each["step"]: each for each in json.loads((folder / "yields.json").read_text(encoding="utf-8"))}
    questions, samples = yields["first passing solution kept"], yields["samples that pass every test"]
    assert recipe.solutions is not None
    model = recipe.generators[recipe.solutions.generator].model
    new = len(triplets.keys() - solved.keys())
    return Round(number, model, questions["given"], questions["kept"], samples["kept"], samples["given"], new)

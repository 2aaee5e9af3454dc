"""Where questions come from: real functions, real functions as a model describes them, a model's invention."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codecria.common.random import digest, draw_bits, permutation
from codecria.common.recipe import load_recipe
from codecria.instruct.judging import QUICK, Bench
from codecria.instruct.mining import mine_package
from codecria.instruct.packages import fetch_packages, import_names
from codecria.instruct.prompts import (
    description_prompt,
    fault_of_description,
    questions_prompt,
    read_description,
    read_questions,
)
from codecria.instruct.question import Question, question_of, question_row, read_triplets
from codecria.instruct.recipe import (
    DescribedRecipe,
    InventedRecipe,
    MinedRecipe,
    SelfInstructRecipe,
    TripletsRecipe,
)
from codecria.instruct.steps import Row, Yield, dropped, kept, run_step, yield_of
from codecria.instruct.validation import validate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.instruct.generators import Writer


Source = MinedRecipe | TripletsRecipe | DescribedRecipe | InventedRecipe


def package_folders(sources: Sequence[Source]) -> list[Path]:
    """Where the packages lie that solutions are judged in; they are fetched when they do not yet."""
    folders: list[Path] = []
    for source in sources:
        if isinstance(source, DescribedRecipe):
            folders += package_folders([source.functions])
        elif isinstance(source, TripletsRecipe):
            folders += package_folders(_recipe_of(source).questions)
        elif isinstance(source, MinedRecipe):
            folders.append(_packages(source))
    return list(dict.fromkeys(folders))


def earlier(source: TripletsRecipe, recipe: SelfInstructRecipe) -> tuple[list[Question], list[Yield]]:
    """The questions of a finished run, with the solution that passed as reference where they had none."""
    triplets = read_triplets(Path(source.run).expanduser())
    order = permutation(len(triplets), "triplets", recipe.seed)
    if source.order == "shortest":
        order = sorted(range(len(triplets)), key=lambda number: len(triplets[number].solution))
    chosen = [triplets[number] for number in sorted(order[: source.most])]
    questions = [
        each.question if each.question.reference else replace(each.question, reference=each.solution) for each in chosen
    ]
    return questions, [Yield("questions of an earlier run", len(triplets), len(questions))]


def mined(folder: Path, source: MinedRecipe, recipe: SelfInstructRecipe) -> tuple[list[Question], list[Yield]]:
    """Validated questions out of real packages, with their references; sources of equal recipe share the work."""
    name = f"mined-{digest('mined', source.model_dump_json()).hex()[:8]}"
    packages = _packages(source)
    names = import_names(packages, source.packages)

    def read(part: Sequence[str]) -> list[Row]:
        return [
            {"question": question_row(question)}
            for package in part
            for question in mine_package(packages, package, source.suites)
            if source.methods or (question.place is not None and "." not in question.place.name)
        ][: source.most]

    rows = run_step(folder, f"{name}/read", names, 1, read)
    found = [question_of(row["question"]) for row in rows]
    with Bench([packages], recipe.workers) as bench, Bench([packages], recipe.workers, QUICK) as quick:
        rows = run_step(
            folder,
            f"{name}/validated",
            found,
            recipe.group,
            lambda part: validate(part, bench, quick, source.mutants, source.least_killed, recipe.seed),
        )
    questions = [question_of(row["question"]) for row in kept(rows)]
    return questions, [yield_of("mined functions validated", len(found), rows)]


def described(
    folder: Path, source: DescribedRecipe, recipe: SelfInstructRecipe, writer: Writer
) -> tuple[list[Question], list[Yield]]:
    """The same functions, each asked for in the words a model found for it."""
    functions, yields = (
        mined(folder, source.functions, recipe)
        if isinstance(source.functions, MinedRecipe)
        else earlier(source.functions, recipe)
    )

    def describe(part: Sequence[Question]) -> list[Row]:
        prompts = [description_prompt(question) for question in part]
        seed = draw_bits("describe", recipe.seed)
        texts = writer.fresh().ask(
            prompts, source, seed, begun="Task: Write a function that", stop=("\nFunction:", "```")
        )
        return [_described(question, text, source.generator) for question, text in zip(part, texts, strict=True)]

    rows = run_step(folder, f"described-{_key(source)}", functions, recipe.group, describe)
    questions = [question_of(row["question"]) for row in kept(rows)]
    return questions, [*yields, yield_of("functions described", len(functions), rows)]


def invented(
    folder: Path, source: InventedRecipe, recipe: SelfInstructRecipe, writer: Writer
) -> tuple[list[Question], list[Yield]]:
    """Questions that a model made up after ten that it was shown."""

    def invent(part: Sequence[int]) -> list[Row]:
        prompts = [questions_prompt(source.per_prompt, recipe.seed, number) for number in part]
        texts = writer.fresh().ask(prompts, source, draw_bits("invent", recipe.seed, part[0]), begun="11.")
        found = [read_questions(text)[: source.per_prompt] for text in texts]
        return [
            {"question": question_row(Question(each, f"invented {source.generator}"))}
            for texts in found
            for each in texts
        ]

    rows = run_step(folder, f"invented-{_key(source)}", range(source.prompts), min(recipe.group, 8), invent)
    questions = [question_of(row["question"]) for row in rows]
    return questions, [Yield("questions invented", source.prompts * source.per_prompt, len(questions))]


def _described(question: Question, text: str, generator: str) -> Row:
    told = read_description(text)
    if why := fault_of_description(told, question.reference):
        return dropped(why, question.id)
    origin = question.origin.replace("mined", f"described {generator}", 1)
    return {"question": question_row(replace(question, text=told, origin=origin, alone=True))}


def _packages(source: MinedRecipe) -> Path:
    return fetch_packages(source.packages) if source.folder is None else Path(source.folder).expanduser()


def _recipe_of(source: TripletsRecipe) -> SelfInstructRecipe:
    return load_recipe(SelfInstructRecipe, Path(source.run).expanduser() / "recipe.yaml")


def _key(source: DescribedRecipe | InventedRecipe) -> str:
    return digest("source", source.model_dump_json()).hex()[:8]

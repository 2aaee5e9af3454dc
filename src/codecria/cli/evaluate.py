"""`codecria evaluate`: measure a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from codecria.cli.options import DEFAULT_MODEL, EndpointOption, ModelOption, SetOption, TokenizerOption

Tasks = Annotated[str, typer.Option(help="Comma-separated names; `--explain all` lists them.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="The results' folder.")]
Protocol = Annotated[str | None, typer.Option(help="Of each task: `paper`, `harness`, …; see --explain.")]
Corpus = Annotated[Path | None, typer.Option(help="A corpus, for the tasks on held-out files.")]
Folder = Annotated[Path | None, typer.Option(help="Any folder of code, in place of a corpus.")]
PublishedData = Annotated[
    Path | None, typer.Option(envvar="CODECRIA_DATA", help="A folder of published data, looked at first.")
]
AllowData = Annotated[
    list[str] | None, typer.Option(help="Take this file (`mbpp/mbpp.jsonl`) whatever its content. Repeatable.")
]
Contamination = Annotated[
    bool, typer.Option(help="Count which items stand in the corpus's training files; reads all of them.")
]
Items = Annotated[int | None, typer.Option(min=1, help="Items of each task; all by default.")]
RopeTheta = Annotated[float | None, typer.Option(min=0.0, help="Rotary base to read the model with, untrained.")]
RopeFactor = Annotated[float | None, typer.Option(min=1.0, help="Linear interpolation: positions are divided by it.")]
MaxPositions = Annotated[int | None, typer.Option(min=16, help="Context to read the model with.")]
Execute = Annotated[bool, typer.Option("--execute/--no-execute", help="Run generated programs in the sandbox.")]
Workers = Annotated[int, typer.Option(min=1, help="Programs run at a time.")]
Seed = Annotated[int, typer.Option(help="Of every draw: which items, which samples.")]
RecipeFile = Annotated[str | None, typer.Option(help="A recipe's file instead of the options above.")]
Explain = Annotated[
    str | None, typer.Option(metavar="TASK", help="Show a task's data and protocols, and stop; `all` lists tasks.")
]


def evaluate(
    model: ModelOption = DEFAULT_MODEL,
    tasks: Tasks = "human_eval",
    out: Out = Path("runs/evaluation"),
    protocol: Protocol = None,
    corpus: Corpus = None,
    folder: Folder = None,
    data: PublishedData = None,
    allow_data: AllowData = None,
    contamination: Contamination = False,
    items: Items = None,
    rope_theta: RopeTheta = None,
    rope_factor: RopeFactor = None,
    max_positions: MaxPositions = None,
    endpoint: EndpointOption = None,
    tokenizer: TokenizerOption = None,
    execute: Execute = True,
    workers: Workers = 1,
    seed: Seed = 0,
    recipe: RecipeFile = None,
    overrides: SetOption = None,
    explain: Explain = None,
) -> None:
    """Measure a model; a killed evaluation goes on where it was. Generated code runs only in the sandbox.

    **Examples**

    `codecria evaluate --model runs/demo/code/checkpoint --tasks human_eval,single_line_human_eval --items 50`

    `codecria evaluate --tasks human_eval --set tasks.human_eval.samples=20 --set tasks.human_eval.temperature=0.8`

    `codecria evaluate --tasks long_perplexity,key_retrieval --folder ~/code --rope-theta 1e6 --max-positions 16384`

    `codecria evaluate --endpoint http://cluster:8000/v1 --model codellama/CodeLlama-7b-hf --tokenizer CodeLlama-7b`
    """
    if explain is not None:
        from codecria.cli.evaluate_tables import explain_task, list_tasks

        list_tasks() if explain == "all" else explain_task(explain, data)
        return
    from codecria.cli.evaluate_tables import print_results
    from codecria.common.recipe import build_recipe, load_recipe
    from codecria.evaluation.recipe import EvaluateRecipe
    from codecria.evaluation.run import evaluate as run

    if recipe is not None:
        checked = load_recipe(EvaluateRecipe, recipe, overrides)
    else:
        positions = {"rope_theta": rope_theta, "rope_factor": rope_factor, "max_positions": max_positions}
        server = {"endpoint": endpoint, "tokenizer": tokenizer}
        how = {"contamination": contamination, "execute": execute, "workers": workers, "seed": seed}
        paths = {"corpus": corpus, "folder": folder, "data": data}
        texts = {name: None if path is None else str(path) for name, path in paths.items()}
        chosen = _settings(tasks, items, protocol, corpus or folder)
        values: dict[str, Any] = {"checkpoint": model, "tasks": chosen, "allow_data": allow_data or []}
        values |= {**positions, **server, **how, **texts}
        checked = build_recipe(EvaluateRecipe, values, overrides)
    print_results(run(checked, out))


def _settings(tasks: str, items: int | None, protocol: str | None, held_out: Path | None) -> dict[str, dict[str, Any]]:
    """Each task's recipe as the options set it."""
    from codecria.common.errors import CodecriaError
    from codecria.evaluation.tasks.registry import find_task

    settings: dict[str, dict[str, Any]] = {}
    for name in filter(None, map(str.strip, tasks.split(","))):
        task = find_task(name)
        if task.needs_corpus and held_out is None:
            mend = "build one (codecria corpus build), or name any folder of code with --folder"
            raise CodecriaError(f"the task '{task.name}' needs held-out files", where="--corpus", mend=mend)
        known = [each.name for each in task.recipe.protocols]
        if protocol is not None and protocol not in known:
            what = f"the task '{task.name}' has no protocol '{protocol}'"
            raise CodecriaError(what, where="--protocol", mend=f"it has {', '.join(known)}")
        settings[task.name] = {} if protocol is None else {"protocol": protocol}
        if items is not None and "items" in task.recipe.model_fields:
            settings[task.name]["items"] = items
    return settings

"""Does instruction data that was checked by execution help, and whose: real functions' own code, or the model's?

The same steps on each kind of data and, for control, on code alone; then HumanEval and MBPP, asked as a conversation.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecria.checkpoint.catalogue import DEFAULT
from codecria.common.errors import CodecriaError
from codecria.common.recipe import build_recipe
from codecria.evaluation.comparison import Run, compare
from codecria.evaluation.intervals import difference_interval
from codecria.evaluation.recipe import EvaluateRecipe
from codecria.evaluation.run import evaluate, read_run
from codecria.evaluation.significance import sign_test
from codecria.evaluation.tasks.registry import find_task
from codecria.instruct.conversations import write_conversations
from experiments.shared.drawing import new_plot, save_plot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.shared.setting import Setting

HERE = Path(__file__).parent
ARMS = {"mined": "self-instruct-mined", "solved": "self-instruct-135m", "described": "self-instruct-described"}
"""Arms, and the runs of `codecria self-instruct` that their conversations come from."""
MEASURES = {"one_block": "one block of code that parses, %", "pass@1": "pass@1, %"}
_CONTROL = "code alone"
_SHORTER = ("batches.sequence_tokens=512",)  # of which the small form takes a quarter


def run(setting: Setting) -> None:
    """Train, measure, write `results.json` and `plot.png`."""
    parent = _small_parent(setting) if setting.small else DEFAULT
    runs = [_measured(setting, parent, "before")]
    for arm in (_CONTROL, *ARMS):
        changes = ["seed=0", *_data(setting, arm), *(_SHORTER if setting.small else ())]
        checkpoint = setting.stage(HERE / "recipe.yaml", parent, f"self-instruct-{arm.replace(' ', '-')}", *changes)
        runs.append(_measured(setting, str(checkpoint), arm))
    before = _table(runs)
    setting.write(
        {
            "question": __doc__,
            "against_before": before,
            "against_code_alone": _table(runs[1:]),
            "pass@1_of_both": {
                f"{after.label} less {first.label}": _of_both(after, first)
                for first, after in itertools.combinations(runs, 2)
            },
        }
    )
    _draw(before, setting.out / "plot.png")


def _data(setting: Setting, arm: str) -> list[str]:
    """What an arm changes in the recipe."""
    corpus = f"corpus={setting.corpus('corpus-4mb')}"
    if arm == _CONTROL:
        return [corpus, "batches.mixture={code: 1.0}", "batches.conversations=null"]
    path = setting.runs.parent / ARMS[arm] / "conversations.parquet"
    if setting.small:
        path = setting.runs / "conversations.parquet"
        asked = {"role": "user", "content": "Write f."}
        write_conversations([[asked, {"role": "assistant", "content": "```python\ndef f(): ...\n```"}]] * 8, path)
    if not path.exists():
        mend = "make them as the experiment's page says"
        raise CodecriaError(f"no conversations for the arm '{arm}'", where=path, mend=mend)
    return [corpus, f"batches.conversations={path}"]


def _small_parent(setting: Setting) -> str:
    """The small base with a chat format."""
    changes = ("chat_format=llama-2", "lora=null", *_SHORTER, *_data(setting, _CONTROL))
    return str(setting.stage(HERE / "recipe.yaml", setting.base(), "self-instruct-parent", *changes))


def _measured(setting: Setting, checkpoint: str, arm: str) -> Run:
    how: dict[str, Any] = {"protocol": "instruct", "max_tokens": 256, "items": 100}
    values = {"checkpoint": checkpoint, "precision": "int8", "tasks": {"human_eval": how, "mbpp": how}}
    if setting.small:
        tasks = {"human_eval": {**how, "max_tokens": 8, "items": 2}}
        values |= {"precision": "fp32", "tasks": tasks, "max_positions": 1024}
    folder = setting.runs / f"self-instruct-measured-{arm.replace(' ', '-')}"
    evaluate(build_recipe(EvaluateRecipe, values), folder)
    return Run(arm, read_run(folder)[1])


def _table(runs: Sequence[Run]) -> dict[str, Any]:
    """By task, measure and arm: the figure, its change against the first run on the same items, the sign test's p."""
    found: dict[str, Any] = {}
    for table in compare(runs, 0):
        rows = {row.measure.name: row.cells for row in table.rows if row.measure.name in MEASURES}
        found[table.task] = {
            name: {
                column.label: {
                    "estimate": cell.estimate and asdict(cell.estimate),
                    "change": cell.change and asdict(cell.change),
                    "p": cell.p,
                }
                for column, cell in zip(table.columns, cells, strict=True)
            }
            for name, cells in rows.items()
        }
    return found


def _of_both(after: Run, first: Run) -> dict[str, Any]:
    """The change of pass@1 over the items of both tasks, as one set."""
    sides = [{(each.task, each.id): each.measures["pass@1"] for each in run.samples} for run in (after, first)]
    values = [[side[key] for key in sorted(side)] for side in sides]
    change = difference_interval((values[0], None), (values[1], None), "both tasks")
    return {"change": asdict(change), "p": sign_test(*values)}


def _draw(table: dict[str, Any], path: Path) -> None:
    figure, panels = new_plot(8.4, 3.4, len(MEASURES))
    for axes, (measure, title) in zip(panels, MEASURES.items(), strict=True):
        for number, (task, colour) in enumerate(zip(table, ("#3b6fb6", "#d1823b"), strict=False)):
            cells = {arm: each["estimate"] for arm, each in table[task].get(measure, {}).items() if each["estimate"]}
            places = [place + 0.38 * number - 0.19 for place in range(len(cells))]
            values = [100 * each["value"] for each in cells.values()]
            lows = [value - 100 * each["low"] for value, each in zip(values, cells.values(), strict=True)]
            highs = [100 * each["high"] - value for value, each in zip(values, cells.values(), strict=True)]
            axes.bar(
                places,
                values,
                0.36,
                yerr=(lows, highs),
                color=colour,
                label=find_task(task).titles[task],
                error_kw={"linewidth": 0.8},
            )
            axes.set_xticks(range(len(cells)), list(cells), fontsize=8)
        axes.set_ylabel(title)
        axes.set_ylim(bottom=0)
    panels[0].legend(frameon=False, fontsize=8)
    save_plot(figure, path)

"""Does a stage on code that begins from a foundation model beat one from random weights at an equal budget?

The same recipe, tokenizer, sequences and seed; only the weights it begins from differ. A seed has random weights of
its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codecria.checkpoint.catalogue import DEFAULT
from codecria.checkpoint.open import open_checkpoint
from codecria.training.metrics import read_metrics
from experiments.shared.drawing import new_plot, save_plot
from experiments.shared.random_model import write_random_weights
from experiments.shared.setting import opened
from experiments.shared.statistics import over_seeds, shown

if TYPE_CHECKING:
    from experiments.shared.setting import Setting

HERE = Path(__file__).parent
STARTS = ("foundation", "random weights")


def run(setting: Setting) -> None:
    """Train, write `results.json` and `plot.png`. The small form takes the small base for the foundation model."""
    foundation = str(setting.base()) if setting.small else DEFAULT
    changes = [f"corpus={setting.corpus('corpus-4mb')}", *(["validation.sequences=2"] if setting.small else [])]
    curves: dict[str, list[list[dict[str, Any]]]] = {start: [] for start in STARTS}
    for seed in setting.seeds:
        random = setting.runs / f"random-135m-seed{seed}"
        write_random_weights(open_checkpoint(foundation), seed, random)
        for start, parent in zip(STARTS, (foundation, random), strict=True):
            name = f"foundation-{start.replace(' ', '-')}-seed{seed}"
            setting.stage(HERE / "recipe.yaml", parent, name, f"seed={seed}", *changes)
            lines = read_metrics(setting.runs / name / "metrics.jsonl")
            held_out = {line["tokens"]: line["validation_loss"] for line in lines if "validation_loss" in line}
            curves[start].append([{"tokens": tokens, "loss": loss} for tokens, loss in held_out.items()])
    parameters = opened(setting.runs / f"random-135m-seed{setting.seeds[0]}")[0].config.parameter_count()
    first, last = ([curve[-1]["loss"] for curve in curves[start]] for start in STARTS)
    results: dict[str, Any] = {
        "question": __doc__,
        "parameters": parameters,
        "curves": curves,
        "random_less_foundation": over_seeds(np.subtract(last, first).tolist()),
        "foundation_after_less_before": over_seeds(_changes(curves["foundation"])),
    }
    setting.write(results)
    print(f"held-out loss at the end, random less foundation: {shown(results['random_less_foundation'])}")
    figure, (axes,) = new_plot(5.6, 3.4)
    for start, colour in zip(STARTS, ("#3b6fb6", "#d1823b"), strict=True):
        for number, points in enumerate(curves[start]):
            tokens, losses = ([each[axis] for each in points] for axis in ("tokens", "loss"))
            axes.plot(tokens, losses, "o-", color=colour, markersize=3, linewidth=1, label=None if number else start)
    axes.set_xlabel("tokens of the stage")
    axes.set_ylabel("held-out loss, nats a token")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    save_plot(figure, setting.out / "plot.png")


def _changes(curves: list[list[dict[str, Any]]]) -> list[float]:
    return [curve[-1]["loss"] - curve[0]["loss"] for curve in curves]

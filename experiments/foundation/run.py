"""Does a stage on code that begins from a foundation model beat one from random weights at an equal budget?

The same recipe, tokenizer, sequences and seed; only the weights it begins from differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecria.checkpoint.catalogue import DEFAULT
from codecria.checkpoint.open import open_checkpoint
from codecria.training.metrics import read_metrics
from experiments.shared.drawing import new_plot, save_plot
from experiments.shared.random_model import write_random_weights
from experiments.shared.setting import opened

if TYPE_CHECKING:
    from experiments.shared.setting import Setting

HERE = Path(__file__).parent
STARTS = ("foundation", "random weights")


def run(setting: Setting) -> None:
    """Train, write `results.json` and `plot.png`. The small form takes the small base for the foundation model."""
    foundation = str(setting.base()) if setting.small else DEFAULT
    random = setting.runs / "random-135m"
    write_random_weights(open_checkpoint(foundation), 0, random)
    changes = [f"corpus={setting.corpus('corpus-4mb')}", *(["validation.sequences=2"] if setting.small else [])]
    curves: dict[str, list[dict[str, Any]]] = {}
    for start, parent in zip(STARTS, (foundation, random), strict=True):
        for seed in setting.seeds[:1]:
            name = f"foundation-{start.replace(' ', '-')}-seed{seed}"
            setting.stage(HERE / "recipe.yaml", parent, name, f"seed={seed}", *changes)
            lines = read_metrics(setting.runs / name / "metrics.jsonl")
            held_out = {line["tokens"]: line["validation_loss"] for line in lines if "validation_loss" in line}
            curves[start] = [{"tokens": tokens, "loss": loss} for tokens, loss in held_out.items()]
    parameters = opened(random)[0].config.parameter_count()
    first, last = (curves[start][-1]["loss"] for start in STARTS)
    results = {"question": __doc__, "parameters": parameters, "curves": curves, "random_less_foundation": last - first}
    setting.write(results)
    print(f"held-out loss at the end: foundation {first:.3f}, random weights {last:.3f}")
    figure, (axes,) = new_plot(5.6, 3.4)
    for start, colour in zip(STARTS, ("#3b6fb6", "#d1823b"), strict=True):
        points = curves[start]
        axes.plot(
            [each["tokens"] for each in points], [each["loss"] for each in points], "o-", color=colour, label=start
        )
    axes.set_xlabel("tokens of the stage")
    axes.set_ylabel("held-out loss, nats a token")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    save_plot(figure, setting.out / "plot.png")

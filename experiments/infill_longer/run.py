"""Is what infilling costs left to right paid once, or does it go on?

`infill_rate`'s stage three times as long, seeds paired; held-out pieces, left to right, at four points on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from codecria.training.metrics import read_metrics
from experiments.shared.drawing import new_plot, save_plot
from experiments.shared.pieces import held_out_pieces, piece_losses
from experiments.shared.setting import HERE, opened
from experiments.shared.statistics import over_both

if TYPE_CHECKING:
    from pathlib import Path

    from experiments.shared.setting import Setting

RATES = (0.0, 0.9, 1.0)
STEPS, EVERY = 512, 128
PAIRS = ((0.9, 0.0), (1.0, 0.0), (1.0, 0.9))
PIECES = 300


def run(setting: Setting) -> None:
    """Train, measure, write `results.json` and `plot.png`."""
    base = setting.marked_base()
    longest, number = (60, 8) if setting.small else (144, PIECES)
    pieces = held_out_pieces(setting.held_out(), opened(base)[1], longest, number)
    weights = np.array([float(len(ids)) for ids in pieces])
    nats: dict[float, dict[int, list[np.ndarray]]] = {rate: {} for rate in RATES}
    tokens: dict[int, int] = {}
    for seed in setting.seeds:
        for rate in RATES:
            end = _trained(setting, base, rate, seed)
            lines = read_metrics(end.parent / "metrics.jsonl")
            read = {line["step"]: line["tokens"] for line in lines if "loss" in line}
            exports = {int(each.name.partition("-")[2]): each for each in (end.parent / "exports").glob("step-*")}
            for step, checkpoint in sorted({**exports, max(read): end}.items()):
                nats[rate].setdefault(step, []).append(piece_losses(opened(checkpoint)[0], pieces))
                tokens.setdefault(step, read[step])
    rows = {rate: {step: np.vstack(each) for step, each in by_step.items()} for rate, by_step in nats.items()}
    results: dict[str, Any] = {
        "question": __doc__,
        "pieces": {"number": len(pieces), "tokens": int(weights.sum())},
        "tokens": list(tokens.values()),
        "left_to_right_before": float(np.average(piece_losses(opened(base)[0], pieces), weights=weights)),
        "left_to_right": {
            f"{rate:g}": [np.average(each, axis=1, weights=weights).tolist() for each in by_step.values()]
            for rate, by_step in rows.items()
        },
        "differences": {
            f"{rate:g} - {lower:g}": [
                over_both(f"{rate:g} - {lower:g} at step {step}", after, rows[lower][step], weights, f"{step}")
                for step, after in rows[rate].items()
            ]
            for rate, lower in PAIRS
        },
    }
    setting.write(results)
    _draw(results, setting.out / "plot.png")


def _trained(setting: Setting, base: Path, rate: float, seed: int) -> Path:
    length = (f"steps={STEPS}", f"export_every_steps={EVERY}", f"checkpoint_every_steps={EVERY}")
    changes = ("export_every_steps=2",) if setting.small else length
    name = f"infill-longer-{rate:g}-seed{seed}"
    return setting.stage(HERE / "infill.yaml", base, name, f"seed={seed}", f"batches.infill.rate={rate}", *changes)


def _draw(results: dict[str, Any], path: Path) -> None:
    figure, (left, right) = new_plot(8.4, 3.4, columns=2)
    for (rate, by_step), colour in zip(results["left_to_right"].items(), ("grey", "#3b6fb6", "#d1823b"), strict=True):
        means = [np.mean(each) for each in by_step]
        left.plot(results["tokens"], means, "o-", color=colour, markersize=4, linewidth=1, label=f"rate {rate}")
    left.axhline(results["left_to_right_before"], color="grey", linestyle=":", label="before the stage")
    left.set_ylabel("held-out loss left to right, nats a token")
    for (rate, lower), colour in zip(PAIRS[:2], ("#3b6fb6", "#d1823b"), strict=True):
        each = results["differences"][f"{rate:g} - {lower:g}"]
        means = [found["seeds"]["mean"] for found in each]
        right.plot(results["tokens"], means, "o-", color=colour, markersize=4, linewidth=1, label=f"rate {rate:g}")
        for tokens, found in zip(results["tokens"], each, strict=True):
            by_seed = found["seeds"]["by_seed"]
            right.scatter([tokens] * len(by_seed), by_seed, s=8, color=colour, alpha=0.5)
    right.axhline(0, color="grey", linewidth=0.8)
    right.set_ylabel("cost against rate 0, nats a token")
    for axes in (left, right):
        axes.set_xlabel("tokens of the stage")
        axes.legend(frameon=False, fontsize=8)
    save_plot(figure, path)

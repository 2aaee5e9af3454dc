"""Continued training on other code: is the base's own peak rate the best, and what does each rate cost what was known?

The base learnt Python at a peak of 3e-3. The same stage of JavaScript and TypeScript at four peaks, seeds paired; then
held-out pieces of both, left to right.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.shared.drawing import new_plot, save_plot
from experiments.shared.pieces import held_out_pieces, piece_losses
from experiments.shared.setting import opened
from experiments.shared.statistics import over_both

if TYPE_CHECKING:
    from experiments.shared.setting import Setting

HERE = Path(__file__).parent
PEAKS = (3e-4, 1e-3, 3e-3, 9e-3)
OWN = 3e-3
"""The base's peak."""
CORPORA = {"new": "corpus-javascript", "known": "corpus"}
_NAMES = {"new": "JavaScript and TypeScript, the stage's", "known": "Python, the base's"}
PIECES = 300


def run(setting: Setting) -> None:
    """Train, measure, write `results.json` and `plot.png`."""
    base = setting.base()
    model, tokenizer = opened(base)
    longest, number = (60, 8) if setting.small else (144, PIECES)
    pieces = {
        kind: held_out_pieces(setting.held_out(corpus), tokenizer, longest, number) for kind, corpus in CORPORA.items()
    }
    weights = {kind: np.array([float(len(ids)) for ids in each]) for kind, each in pieces.items()}
    rows: dict[str, dict[float, list[np.ndarray]]] = {kind: {peak: [] for peak in PEAKS} for kind in CORPORA}
    for peak in PEAKS:
        for seed in setting.seeds:
            changes = (f"seed={seed}", f"optimiser.peak_rate={peak}", f"corpus={setting.corpus(CORPORA['new'])}")
            trained = opened(setting.stage(HERE / "recipe.yaml", base, f"peak-{peak:g}-seed{seed}", *changes))[0]
            for kind, each in pieces.items():
                rows[kind][peak].append(piece_losses(trained, each))
    results: dict[str, Any] = {"question": __doc__, "base_peak": OWN}
    for kind, by_peak in rows.items():
        nats = {peak: np.vstack(each) for peak, each in by_peak.items()}
        results[kind] = {
            "text": _NAMES[kind],
            "pieces": len(pieces[kind]),
            "tokens": int(weights[kind].sum()),
            "before": float(np.average(piece_losses(model, pieces[kind]), weights=weights[kind])),
            "after": {
                f"{peak:g}": np.average(each, axis=1, weights=weights[kind]).tolist() for peak, each in nats.items()
            },
            "less_base_peak": {
                f"{peak:g}": over_both(
                    f"{kind}, peak {peak:g} less {OWN:g}", nats[peak], nats[OWN], weights[kind], kind
                )
                for peak in PEAKS
                if peak != OWN
            },
        }
    setting.write(results)
    _draw(results, setting.out / "plot.png")


def _draw(results: dict[str, Any], path: Path) -> None:
    figure, panels = new_plot(8.4, 3.4, columns=2)
    for axes, kind in zip(panels, CORPORA, strict=True):
        after = results[kind]["after"]
        for peak, values in after.items():
            axes.scatter([float(peak)] * len(values), values, s=12, color="black", zorder=3)
        axes.plot(PEAKS, [np.mean(values) for values in after.values()], color="#3b6fb6", linewidth=1)
        axes.axhline(results[kind]["before"], color="grey", linestyle=":", label="before the stage")
        axes.axvline(OWN, color="#d1823b", linewidth=1, label="the base's peak")
        axes.set_xscale("log")
        axes.set_xticks(PEAKS, [f"{peak:g}" for peak in PEAKS])
        axes.minorticks_off()
        axes.set_xlabel("peak learning rate of the stage")
        axes.set_ylabel("held-out loss, nats a token")
        axes.set_title(_NAMES[kind], fontsize=9)
        axes.legend(frameon=False, fontsize=8)
    save_plot(figure, path)

"""Is infilling free for the loss left to right up to a rate of 0.9, and not at 1.0?

The same stage behind the base at four rates, seeds paired; then held-out pieces, read left to right and infilled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from codecria.evaluation.scoring import Continuation, score
from codecria.infill.layout import infill_example
from codecria.infill.split import Draws, split_characters
from codecria.tokenizer.sentinels import find_sentinels
from experiments.shared.drawing import new_plot, save_plot
from experiments.shared.pieces import held_out_pieces, piece_losses
from experiments.shared.setting import HERE, opened
from experiments.shared.statistics import over_both

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.infill.layout import Order
    from codecria.model.transformer import Transformer
    from experiments.shared.setting import Setting

RATES = (0.0, 0.5, 0.9, 1.0)
PIECES, MIDDLES = 300, 100
_ORDERS: tuple[Order, ...] = ("psm", "spm")


def run(setting: Setting) -> None:
    """Train, measure, write `results.json` and `plot.png`."""
    base = setting.marked_base()
    longest, number = (60, 8) if setting.small else (144, PIECES)
    pieces = held_out_pieces(setting.held_out(), opened(base)[1], longest, number)
    weights = np.array([float(len(ids)) for ids in pieces])
    before = piece_losses(opened(base)[0], pieces)
    nats: dict[float, np.ndarray] = {}
    middles: dict[str, dict[str, list[float]]] = {order: {} for order in _ORDERS}
    splits = _splits(setting, base, pieces)
    for rate in RATES:
        rows: list[np.ndarray] = []
        for seed in setting.seeds:
            name = f"infill-{rate:g}-seed{seed}"
            changes = (f"seed={seed}", f"batches.infill.rate={rate}")
            model = opened(setting.stage(HERE / "infill.yaml", base, name, *changes))[0]
            rows.append(piece_losses(model, pieces))
            for order in _ORDERS if rate else ():
                middles[order].setdefault(f"{rate:g}", []).append(_middle_loss(model, splits[order]))
        nats[rate] = np.vstack(rows)

    def _against(rate: float, lower: float) -> dict[str, Any]:
        name = f"rate {rate:g} less {lower:g}"
        return over_both(name, nats[rate], nats[lower], weights, "infill rate", f"{rate:g}")

    results: dict[str, Any] = {
        "question": __doc__,
        "pieces": {"number": len(pieces), "tokens": int(weights.sum())},
        "left_to_right_before": float(np.average(before, weights=weights)),
        "left_to_right": {
            f"{rate:g}": np.average(each, axis=1, weights=weights).tolist() for rate, each in nats.items()
        },
        "infilled_middles": middles,
        "against_rate_0": {f"{rate:g}": _against(rate, 0.0) for rate in RATES[1:]},
        "1_against_0.9": _against(1.0, 0.9),
    }
    setting.write(results)
    _draw(results, setting.out / "plot.png")


def _splits(setting: Setting, base: Path, pieces: list[list[int]]) -> dict[Order, list[Continuation]]:
    """The first pieces, cut in three at characters as in training: by order what is read, and middle and end."""
    tokenizer = opened(base)[1]
    sentinels = find_sentinels(tokenizer)
    assert sentinels is not None
    texts = [tokenizer.decode(ids) for ids in pieces[: 4 if setting.small else MIDDLES]]
    splits = [split_characters(text, Draws("infill rate", number)) for number, text in enumerate(texts)]
    found: dict[Order, list[Continuation]] = {}
    for order in _ORDERS:
        examples = [infill_example(tokenizer, sentinels, split, order) for split in splits]
        found[order] = [Continuation(ids[:start], ids[start:]) for ids, start, _ in examples]
    return found


def _middle_loss(model: Transformer, truths: list[Continuation]) -> float:
    """Nats a token of middles with their end."""
    return -float(np.concatenate(score(model, truths)).mean() * np.log(2))


def _draw(results: dict[str, Any], path: Path) -> None:
    figure, (left, right) = new_plot(8.4, 3.4, columns=2)
    for seed in range(len(results["left_to_right"]["0"])):
        values = [results["left_to_right"][f"{rate:g}"][seed] for rate in RATES]
        left.plot(RATES, values, marker="o", markersize=4, linewidth=1, label=f"seed {seed}")
    left.axhline(results["left_to_right_before"], color="grey", linestyle=":", label="before the stage")
    left.set_ylabel("held-out loss left to right, nats a token")
    for order, colour in zip(_ORDERS, ("#3b6fb6", "#d1823b"), strict=True):
        by_rate = results["infilled_middles"][order]
        for rate, values in by_rate.items():
            right.scatter([float(rate)] * len(values), values, s=12, color=colour)
        means = [np.mean(values) for values in by_rate.values()]
        right.plot([float(rate) for rate in by_rate], means, color=colour, linewidth=1, label=order.upper())
    right.set_ylabel("held-out loss of middles, nats a token")
    for axes in (left, right):
        axes.set_xlabel("infilling rate")
        axes.set_xticks(RATES)
        axes.legend(frameon=False, fontsize=8)
    save_plot(figure, path)

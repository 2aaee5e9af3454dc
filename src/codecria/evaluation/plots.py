"""Figures for the report: matplotlib to inline SVG whose colours follow the page's light or dark theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from codecria.common.pages import COLOURS, new_figure, svg_of, themed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from codecria.evaluation.comparison import Run
    from codecria.evaluation.samples import Sample

_MOST_POINTS = 2000


def loss_curve(points: Sequence[Mapping[str, Any]], width_inches: float = 8.0) -> str:
    """The training loss over tokens: each step thin, an exponential mean over 2 % of the steps (5 at least) thick.

    Args:
        points: lines of `metrics.jsonl`, each with `step` and `loss` (nats a token); `tokens` is used where every
            line has it. Lines without a loss are left out.
        width_inches: width of the drawing; it scales with the page.

    Returns:
        an `<svg>` element, or "" when fewer than two lines have a loss.
    """
    kept = [point for point in points if isinstance(point.get("loss"), int | float)]
    if len(kept) < 2:
        return ""
    by_tokens = all("tokens" in point for point in kept)
    x_N = np.array([point["tokens" if by_tokens else "step"] for point in kept], dtype=np.float64)
    loss_N = np.array([point["loss"] for point in kept], dtype=np.float64)
    smooth_N = smoothed(loss_N, max(5.0, len(kept) / 50))
    with themed(f"loss-curve {width_inches}"):
        figure, axes = new_figure(width_inches, 1.6 + width_inches * 0.22)
        drawn = slice(None, None, 1 + len(kept) // _MOST_POINTS)
        axes.plot(x_N[drawn], loss_N[drawn], color=COLOURS["faint"], linewidth=0.9)
        axes.plot(x_N[drawn], smooth_N[drawn], color=COLOURS["accent"], linewidth=2.0)
        axes.annotate(
            f"{smooth_N[-1]:.3f}", (x_N[-1], smooth_N[-1]), xytext=(6, 0), textcoords="offset points", va="center"
        )
        low, high = float(np.min(loss_N)), float(np.quantile(loss_N[len(loss_N) // 50 :], 0.999))
        room = max(high - low, 1e-3) * 0.06
        axes.set_ylim(low - room, high + room)
        axes.set_xlabel("tokens" if by_tokens else "step")
        axes.set_ylabel("loss, nats a token")
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        return svg_of(figure, "Training loss")


_HEIGHT_POINTS = 140.0
"""About an axes' height."""
LINES = ("solid", "dashed", "dotted", "dashdot")
"""What tells series apart, in the page's one colour."""


def pass_by_temperature(runs: Sequence[Run], width_inches: float) -> str:
    """pass@k against the temperature, a line a k and a run; "" where fewer than two temperatures were sampled."""
    with themed(f"temperature {width_inches}"):
        figure, axes = new_figure(width_inches, 1.6 + width_inches * 0.26)
        ends: list[tuple[float, float, str]] = []
        temperatures: set[float] = set()
        for number, run in enumerate(runs):
            for name in dict.fromkeys(name for row in run.samples for name in row.measures if name[:5] == "pass@"):
                points = _by_temperature(run.samples, name)
                temperatures.update(x for x, _ in points)
                style = LINES[number % len(LINES)]
                label = f"{name}, {run.label}" if len(runs) > 1 else name
                axes.plot(
                    *zip(*points, strict=True), color=COLOURS["accent"], linestyle=style, marker="o", markersize=4
                )
                ends.append((points[-1][1], points[-1][0], label))
        top = max(1.0, axes.get_ylim()[1])
        axes.set_ylim(0, top)
        axes.set_xticks(sorted(temperatures))
        # A label stands at its line's end, or over the one below it where that is too near.
        free = 0.0
        for value, temperature, label in sorted(ends):
            place = max(value, free)
            axes.annotate(
                label,
                (temperature, value),
                xytext=(6, (place - value) * _HEIGHT_POINTS / top),
                textcoords="offset points",
                va="center",
            )
            free = place + 11 * top / _HEIGHT_POINTS
        axes.set_xlabel("temperature")
        axes.set_ylabel("share of problems, %")
        return svg_of(figure, "pass@k against the temperature") if len(temperatures) > 1 else ""


def _by_temperature(samples: Sequence[Sample], measure: str) -> list[tuple[float, float]]:
    values: dict[float, list[float]] = {}
    for row in samples:
        _, sampled, temperature = row.method.rpartition("T=")
        if measure in row.measures and (sampled or row.method == "greedy"):
            values.setdefault(float(temperature) if sampled else 0.0, []).append(row.measures[measure])
    return [(temperature, 100 * float(np.mean(found))) for temperature, found in sorted(values.items())]


def smoothed(values_N: NDArray[np.float64], span: float) -> NDArray[np.float64]:
    """Exponential mean with decay 1 - 1/span, corrected for its start as Adam corrects its moments."""
    decay = 1.0 - 1.0 / max(span, 1.0)
    mean = weight = 0.0
    result = np.empty_like(values_N)
    for place, value in enumerate(values_N):
        mean = decay * mean + (1.0 - decay) * float(value)
        weight = decay * weight + (1.0 - decay)
        result[place] = mean / weight
    return result


def short_number(value: float) -> str:
    """1,234,567 as 1.2M; whole numbers below 10,000 as they are."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:.3g}{letter}"
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"


def _tick(value: float, _position: int | None) -> str:
    return short_number(value)

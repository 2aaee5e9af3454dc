"""Figures for the report: matplotlib to inline SVG whose colours follow the page's light or dark theme."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_MOST_POINTS = 2000

# Each colour is drawn as a placeholder and then replaced by the page's variable of that name.
_COLOURS = {"ink": "#010101", "muted": "#020202", "rule": "#030303", "accent": "#040404", "faint": "#050505"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": _COLOURS["ink"],
    "axes.edgecolor": _COLOURS["rule"],
    "axes.labelcolor": _COLOURS["muted"],
    "xtick.color": _COLOURS["rule"],
    "ytick.color": _COLOURS["rule"],
    "xtick.labelcolor": _COLOURS["muted"],
    "ytick.labelcolor": _COLOURS["muted"],
    "grid.color": _COLOURS["rule"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


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
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"loss-curve {width_inches}"}):
        figure, axes = _figure(width_inches, 1.6 + width_inches * 0.22)
        drawn = slice(None, None, 1 + len(kept) // _MOST_POINTS)
        axes.plot(x_N[drawn], loss_N[drawn], color=_COLOURS["faint"], linewidth=0.9)
        axes.plot(x_N[drawn], smooth_N[drawn], color=_COLOURS["accent"], linewidth=2.0)
        axes.annotate(
            f"{smooth_N[-1]:.3f}", (x_N[-1], smooth_N[-1]), xytext=(6, 0), textcoords="offset points", va="center"
        )
        low, high = float(np.min(loss_N)), float(np.quantile(loss_N[len(loss_N) // 50 :], 0.999))
        room = max(high - low, 1e-3) * 0.06
        axes.set_ylim(low - room, high + room)
        axes.set_xlabel("tokens" if by_tokens else "step")
        axes.set_ylabel("loss, nats a token")
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        return _svg(figure, "Training loss")


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


def _figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.grid(axis="y", linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(max(3, int(width_inches / 1.6))))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return figure, axes


def _svg(figure: Figure, title: str) -> str:
    """The drawing as an element to stand in a page: no prolog, no metadata, themed colours, a name for readers."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    # Its style sheet would rule the whole page, and ids that nothing refers to would repeat from figure to figure.
    drawing = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r' id="(?!m|p)[^"]*"| id="(matplotlib|patch)[^"]*"', "", drawing)
    for name, placeholder in _COLOURS.items():
        drawing = drawing.replace(placeholder, f"var(--{name})")
    drawing = re.sub(r' width="[0-9.]+pt"| height="[0-9.]+pt"', "", drawing, count=2)
    drawing = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", drawing)
    return drawing.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1).strip()

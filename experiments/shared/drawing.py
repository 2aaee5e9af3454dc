"""Plots as PNG, all alike."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from codecria.common.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes


def new_plot(width_inches: float, height_inches: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A drawing of some panels, row by row."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.grid(axis="y", linewidth=0.5, alpha=0.5)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def save_plot(figure: Figure, path: Path) -> None:
    """Write it as PNG, without a date: the same drawing gives the same bytes."""
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=130, metadata={"Software": None})
    write_atomic(path, held.getvalue())

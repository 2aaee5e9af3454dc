"""Figures of the long-context tasks: perplexity against position, and which keys were found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Rectangle

from codecria.common.pages import COLOURS, new_figure, svg_of, themed
from codecria.evaluation.comparison import compare
from codecria.evaluation.plots import short_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.evaluation.comparison import Run

_LINES = ((COLOURS["accent"], "-"), (COLOURS["ink"], "--"), (COLOURS["muted"], ":"), (COLOURS["ink"], "-."))
_DECADES = [digit * 10**power for power in range(7) for digit in (1, 2, 5)]


def position_curve(runs: Sequence[Run], width_inches: float = 8.0) -> str:
    """Perplexity against position, both axes logarithmic: a line a run, its 95 % interval behind it.

    A bin's figure stands at its last position. `runs` hold rows of one task; "" where none has a `perplexity@…`.
    """
    tables = compare(runs, 0)
    if not tables:
        return ""
    table = tables[0]
    rows = [(int(row.measure.name.partition("@")[2]), row) for row in table.rows if "perplexity@" in row.measure.name]
    if not rows:
        return ""
    with themed(f"positions {table.task} {width_inches}"):
        figure, axes = new_figure(width_inches, 1.8 + width_inches * 0.24)
        for number, column in enumerate(table.columns):
            found = [(stop, row.cells[number].estimate) for stop, row in rows]
            points = [(stop, each.value, each.low, each.high) for stop, each in found if each is not None]
            if not points:
                continue
            x, *values = zip(*points, strict=True)
            mean, low, high = (np.exp(each) for each in values)
            colour, dashes = _LINES[number % len(_LINES)]
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
            style: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 2.0, "markersize": 3.5}
            axes.plot(x, mean, marker="o", label=column.label, **style)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("position, tokens from the start (a bin's last)")
        axes.set_ylabel("perplexity")
        ticks = [stop for stop, _ in rows]
        axes.set_xticks(ticks, [f"{each // 1024}k" if each >= 1024 else f"{each}" for each in ticks])
        axes.minorticks_off()
        low, high = axes.get_ylim()
        ticks = [each for each in _DECADES if low <= each <= high]
        axes.set_yticks(ticks, [short_number(each) for each in ticks])
        axes.legend(frameon=False, labelcolor=COLOURS["ink"])
        return svg_of(figure, "Perplexity against position")


def retrieval_map(runs: Sequence[Run], width_inches: float = 8.0) -> str:
    """Which share of keys was found, by depth and length: a map a run, one below the other.

    `runs` hold rows of one task; "" where none has a `retrieved@…`.
    """
    tables = compare(runs, 0)
    if not tables:
        return ""
    table = tables[0]
    cells = {
        (int(length), float(depth)): row.cells
        for row in table.rows
        for _, found, cell in [row.measure.name.partition("@")]
        if found and row.measure.name.startswith("retrieved@")
        for length, _, depth in [cell.partition("/")]
    }
    lengths, depths = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    drawings: list[str] = []
    for number, column in enumerate(table.columns if cells else ()):
        with themed(f"retrieval {table.task} {number} {width_inches}"):
            figure, axes = new_figure(width_inches, 1.1 + 0.34 * len(depths))
            axes.grid(visible=False)
            for (length, depth), found in cells.items():
                x, y = lengths.index(length), depths.index(depth)
                estimate = found[number].estimate
                value = 0.0 if estimate is None else estimate.value
                box = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=COLOURS["accent"], alpha=0.06 + 0.7 * value)
                axes.add_patch(box)
                text = "–" if estimate is None else f"{100 * value:.0f}"
                axes.text(x, y, text, ha="center", va="center", fontsize=9.0)
            axes.set_xlim(-0.5, len(lengths) - 0.5)
            axes.set_ylim(len(depths) - 0.5, -0.5)
            axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
            axes.set_yticks(range(len(depths)), [f"{depth:g}" for depth in depths])
            axes.set_xlabel("prompt, tokens")
            axes.set_ylabel("key's depth")
            axes.set_title(f"{column.label}: keys found, %", fontsize=10.0, loc="left", color=COLOURS["muted"])
            drawings.append(svg_of(figure, f"Keys found, {column.label}"))
    return "".join(drawings)

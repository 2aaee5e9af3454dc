"""HTML pages that open offline: one look in light and in dark, and drawings that follow it."""

from __future__ import annotations

import io
import re
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2
import matplotlib as mpl
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes

# Each colour is drawn as a placeholder and then replaced by the page's variable of that name.
COLOURS = {"ink": "#010101", "muted": "#020202", "rule": "#030303", "accent": "#040404", "faint": "#050505"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["rule"],
    "axes.labelcolor": COLOURS["muted"],
    "xtick.color": COLOURS["rule"],
    "ytick.color": COLOURS["rule"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "grid.color": COLOURS["rule"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


def render_page(room: str, template: str, **values: Any) -> str:
    """A template of a room ("codecria.corpus", "page.html") as HTML.

    It has `style`, its style sheet, and the macro `counts` for tables of documents and bytes (`counts.html`).

    Every text is escaped; what is to stand as it is must come as `Markup`.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    common = resources.files("codecria.common")
    style = Markup(common.joinpath("page.css").read_text(encoding="utf-8"))
    source = resources.files(room).joinpath(template).read_text(encoding="utf-8")
    macros = common.joinpath("counts.html").read_text(encoding="utf-8")
    return environment.from_string(macros + source).render(style=style, **values)


def themed(salt: str) -> AbstractContextManager[None]:
    """While it lasts, drawings are made in the pages' look. Ids inside them depend on `salt` alone."""
    return mpl.rc_context({**_STYLE, "svg.hashsalt": salt})


def new_figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    """An empty drawing with a light grid; to be used inside `themed`."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.grid(axis="y", linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(max(3, int(width_inches / 1.6))))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return figure, axes


def svg_of(figure: Figure, title: str) -> str:
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
    for name, placeholder in COLOURS.items():
        drawing = drawing.replace(placeholder, f"var(--{name})")
    drawing = re.sub(r' width="[0-9.]+pt"| height="[0-9.]+pt"', "", drawing, count=2)
    drawing = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", drawing)
    return drawing.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1).strip()

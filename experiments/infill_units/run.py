"""Middles cut at characters, between tokens, at lines or at nodes of the syntax tree: which cursors does each serve?

The same stage behind the base, seeds paired; then held-out random spans, whose cursor stands inside a token or between
two, and lines as an editor asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.shared.filling import draw_filling, spans_and_lines
from experiments.shared.setting import HERE
from experiments.shared.spans import WAYS

if TYPE_CHECKING:
    from experiments.shared.setting import Setting

UNITS = {"character": "characters", "token": "tokens", "line": "lines", "syntax": "syntax nodes"}


def run(setting: Setting) -> None:
    """Train, measure, write `results.json` and `plot.png`. `character` is also the rate of 0.9 in `infill_rate`."""
    base = setting.marked_base()
    filling = spans_and_lines(setting, base)
    for unit in UNITS:
        for seed in setting.seeds:
            name = f"infill-0.9-seed{seed}" if unit == "character" else f"units-{unit}-seed{seed}"
            changes = (f"seed={seed}", f"batches.infill.units={unit}")
            filling.measure(unit, setting.stage(HERE / "infill.yaml", base, name, *changes))
    pairs = {f"{unit} - character, {way}": (f"{unit}/{way}", f"character/{way}") for unit in UNITS for way in WAYS}
    pairs |= {f"healed - not, {unit}": (f"{unit}/spm healed", f"{unit}/spm") for unit in UNITS}
    results: dict[str, Any] = {
        "question": __doc__,
        "spans": filling.numbers(),
        "figures": filling.figures(),
        "differences": filling.differences({name: pair for name, pair in pairs.items() if len(set(pair)) > 1}),
    }
    setting.write(results)
    draw_filling(results["figures"], UNITS, setting.out / "plot.png")

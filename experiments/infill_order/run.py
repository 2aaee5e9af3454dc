"""PSM alone, SPM alone, or half of each: how does each training fill in each order?

The same stage behind the base at three shares of PSM, seeds paired; then held-out spans and lines, asked in PSM, in SPM
and in SPM healed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.shared.filling import draw_filling, spans_and_lines
from experiments.shared.setting import HERE
from experiments.shared.spans import WAYS

if TYPE_CHECKING:
    from experiments.shared.setting import Setting

ARMS = {"psm": "PSM alone", "joint": "half of each", "spm": "SPM alone"}
_SHARES = {"psm": 1.0, "joint": 0.5, "spm": 0.0}


def run(setting: Setting) -> None:
    """Train, measure, write `results.json` and `plot.png`. The joint arm is also the rate of 0.9 in `infill_rate`."""
    base = setting.marked_base()
    filling = spans_and_lines(setting, base)
    for arm, share in _SHARES.items():
        for seed in setting.seeds:
            name = f"infill-0.9-seed{seed}" if arm == "joint" else f"order-{arm}-seed{seed}"
            changes = (f"seed={seed}", f"batches.infill.psm_share={share}")
            filling.measure(arm, setting.stage(HERE / "infill.yaml", base, name, *changes))
    pairs = {f"{arm} - joint, {way}": (f"{arm}/{way}", f"joint/{way}") for arm in ("psm", "spm") for way in WAYS}
    pairs |= {f"spm healed - psm, {arm}": (f"{arm}/spm healed", f"{arm}/psm") for arm in ARMS}
    results: dict[str, Any] = {
        "question": __doc__,
        "spans": filling.numbers(),
        "figures": filling.figures(),
        "differences": filling.differences(pairs),
    }
    setting.write(results)
    draw_filling(results["figures"], ARMS, setting.out / "plot.png")

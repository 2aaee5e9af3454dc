"""SPM with prefix and middle encoded as one string against each alone, in training and at the cursor.

Code Llama trains on enc(prefix + middle), OpenAI on enc(prefix) · enc(middle); at the cursor a prompt ends with
enc(prefix), and healing takes its last token back. Two trainings, each asked in three ways, on spans whose cursor cuts
a token and on those whose cursor does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.shared.filling import Filling, draw_filling
from experiments.shared.setting import HERE, opened
from experiments.shared.spans import LONGEST, WAYS, random_spans

if TYPE_CHECKING:
    from pathlib import Path

    from experiments.shared.setting import Setting

TRAININGS = {"joined": "trained on enc(prefix+middle)", "apart": "trained on enc(prefix)·enc(middle)"}
ITEMS = 400


def run(setting: Setting) -> None:
    """Train, measure, write `results.json` and `plot.png`."""
    base = setting.marked_base()
    items = 24 if setting.small else ITEMS
    tokenizer = opened(base)[1]
    filling = Filling(random_spans(setting.held_out(), tokenizer, 0, items, 60 if setting.small else 144))
    for training in TRAININGS:
        for seed in setting.seeds:
            filling.measure(training, trained(setting, base, training, seed))
    pairs = {f"apart - joined, {way}": (f"apart/{way}", f"joined/{way}") for way in WAYS}
    pairs |= {f"healed - not, {each}": (f"{each}/spm healed", f"{each}/spm") for each in TRAININGS}
    pairs |= {f"spm - psm, {each}": (f"{each}/spm", f"{each}/psm") for each in TRAININGS}
    pairs |= {"apart - joined healed": ("apart/spm", "joined/spm healed")}
    results: dict[str, Any] = {
        "question": __doc__,
        "spans": {**filling.numbers(), "characters": f"1 to {LONGEST}"},
        "figures": filling.figures(),
        "differences": filling.differences(pairs),
    }
    setting.write(results)
    draw_filling(results["figures"], TRAININGS, setting.out / "plot.png", beside=True)


def trained(setting: Setting, base: Path, training: str, seed: int) -> Path:
    """A checkpoint; `joined` is also the rate of 0.9 in `infill_rate`."""
    changes = [f"seed={seed}"]
    if training == "apart":
        changes.append("batches.infill.spm_joined=false")
    name = f"infill-0.9-seed{seed}" if training == "joined" else f"spm-apart-seed{seed}"
    return setting.stage(HERE / "infill.yaml", base, name, *changes)

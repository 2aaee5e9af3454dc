"""SPM with prefix and middle encoded as one string against each alone, in training and at the cursor.

Code Llama trains on enc(prefix + middle), OpenAI on enc(prefix) · enc(middle); at the cursor a prompt ends with
enc(prefix), and healing takes its last token back. Two trainings, each asked in three ways, on spans whose cursor cuts
a token and on those whose cursor does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.shared.drawing import new_plot, save_plot
from experiments.shared.setting import HERE, opened
from experiments.shared.statistics import over_items, over_seeds, shown
from experiments.spm_encoding.spans import LONGEST, bits_per_character, random_spans, written

if TYPE_CHECKING:
    from pathlib import Path

    from experiments.shared.setting import Setting
    from experiments.spm_encoding.spans import Span, Way

TRAININGS = ("joined", "apart")
WAYS: tuple[Way, ...] = ("psm", "spm", "spm healed")
STRATA = ("mid-token", "between tokens")
ITEMS = 400
MEASURES = ("bits_per_character", "begins_right", "exact_match")
Table = dict[str, np.ndarray]
"""A measure's values [seeds, items] by `training/way`."""


def run(setting: Setting) -> None:
    """Train, measure, write `results.json` and `plot.png`."""
    base = setting.marked_base()
    items = 24 if setting.small else ITEMS
    tokenizer = opened(base)[1]
    spans = random_spans(setting.held_out(), tokenizer, 0, items, 60 if setting.small else 144)
    tables: dict[str, Table] = {name: {} for name in MEASURES}
    for training in TRAININGS:
        for seed in setting.seeds:
            checkpoint = trained(setting, base, training, seed)
            for name, values in _measured(checkpoint, spans).items():
                measure, way = name
                rows = tables[measure].setdefault(f"{training}/{way}", np.empty((0, len(spans))))
                tables[measure][f"{training}/{way}"] = np.vstack([rows, values])
    results = {
        "question": __doc__,
        "spans": {
            "number": len(spans),
            "mid_token": sum(span.mid_token for span in spans),
            "characters": f"1 to {LONGEST}",
        },
        "figures": {measure: _figures(tables[measure], spans, measure) for measure in MEASURES},
        "differences": {measure: _differences(tables[measure], spans, measure) for measure in MEASURES},
    }
    setting.write(results)
    _draw(results, setting.out / "plot.png")


def trained(setting: Setting, base: Path, training: str, seed: int) -> Path:
    """A checkpoint; `joined` is also the rate of 0.9 in `infill_rate`."""
    changes = [f"seed={seed}"]
    if training == "apart":
        changes.append("batches.infill.spm_joined=false")
    name = f"infill-0.9-seed{seed}" if training == "joined" else f"spm-apart-seed{seed}"
    return setting.stage(HERE / "infill.yaml", base, name, *changes)


def _measured(checkpoint: Path, spans: list[Span]) -> dict[tuple[str, Way], np.ndarray]:
    model, tokenizer = opened(checkpoint)
    found: dict[tuple[str, Way], np.ndarray] = {}
    for way in WAYS:
        found["bits_per_character", way] = bits_per_character(model, tokenizer, spans, way)
        for measure, values in written(model, tokenizer, spans, way).items():
            found[measure, way] = values
    return found


def _chosen(spans: list[Span], stratum: str) -> np.ndarray:
    return np.array([span.mid_token == (stratum == "mid-token") for span in spans])


def _weights(spans: list[Span], measure: str) -> np.ndarray:
    characters = np.array([float(len(span.middle)) for span in spans])
    return characters if measure == "bits_per_character" else np.ones(len(spans))


def _figures(table: Table, spans: list[Span], measure: str) -> dict[str, Any]:
    """Mean over seeds, and each seed's, by stratum, training and way."""
    found: dict[str, Any] = {}
    for stratum in STRATA:
        chosen, weights = _chosen(spans, stratum), _weights(spans, measure)
        for name, values in table.items():
            by_seed = np.average(values[:, chosen], axis=1, weights=weights[chosen])
            found.setdefault(stratum, {})[name] = {"mean": float(by_seed.mean()), "by_seed": by_seed.tolist()}
    return found


def _differences(table: Table, spans: list[Span], measure: str) -> dict[str, Any]:
    """Paired: apart less joined for each way; healed less not for each training; SPM less PSM for each training."""
    pairs = {f"apart - joined, {way}": (f"apart/{way}", f"joined/{way}") for way in WAYS}
    pairs |= {f"healed - not, {each}": (f"{each}/spm healed", f"{each}/spm") for each in TRAININGS}
    pairs |= {f"spm - psm, {each}": (f"{each}/spm", f"{each}/psm") for each in TRAININGS}
    pairs |= {"apart - joined healed": ("apart/spm", "joined/spm healed")}
    found: dict[str, Any] = {}
    for stratum in STRATA:
        chosen, weights = _chosen(spans, stratum), _weights(spans, measure)
        for name, (after, before) in pairs.items():
            sides = [table[each][:, chosen] for each in (after, before)]
            by_seed = np.average(sides[0] - sides[1], axis=1, weights=weights[chosen])
            over = {"seeds": over_seeds(by_seed.tolist())}
            over["spans"] = over_items(sides[0], sides[1], weights[chosen], measure, stratum, name)
            found.setdefault(stratum, {})[name] = over
            print(f"{measure:20} {stratum:15} {name:28} seeds {shown(over['seeds'])}  spans {shown(over['spans'])}")
    return found


def _draw(results: dict[str, Any], path: Path) -> None:
    figure, axes = new_plot(9.4, 3.8, columns=2)
    titles = {
        "bits_per_character": "bits a character of the true span",
        "begins_right": "greedy middle begins with the true span",
    }
    for axis, measure in zip(axes, titles, strict=True):
        labels: list[str] = []
        for place, (stratum, way) in enumerate((stratum, way) for stratum in STRATA for way in WAYS):
            labels.append(f"{way.replace(' ', chr(10))}")
            for number, training in enumerate(TRAININGS):
                cell = results["figures"][measure][stratum][f"{training}/{way}"]
                x = place + (place > 2) * 0.7 + (number - 0.5) * 0.36
                colour = ("#3b6fb6", "#d1823b")[number]
                label = {"joined": "trained on enc(prefix+middle)", "apart": "trained on enc(prefix)·enc(middle)"}
                axis.bar(
                    x,
                    cell["mean"],
                    0.34,
                    color=colour,
                    label=None if place or measure != MEASURES[0] else label[training],
                )
                axis.scatter([x] * len(cell["by_seed"]), cell["by_seed"], s=9, color="black", zorder=3)
        axis.set_xticks([place + (place > 2) * 0.7 for place in range(6)], labels)
        for x, stratum in ((1.0, STRATA[0]), (4.7, STRATA[1])):
            axis.text(x, 1.01, f"cursor {stratum}", transform=axis.get_xaxis_transform(), ha="center", fontsize=9)
        axis.set_ylabel(titles[measure])
        axis.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    save_plot(figure, path)

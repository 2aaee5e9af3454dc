"""How trained models fill spans, asked in several ways: tables by arm and way, their means and paired differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from experiments.shared.drawing import new_plot, save_plot
from experiments.shared.setting import opened
from experiments.shared.spans import WAYS, Stratum, bits_per_character, line_spans, random_spans, written
from experiments.shared.statistics import over_items, over_seeds, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from experiments.shared.setting import Setting
    from experiments.shared.spans import Span

MEASURES = ("bits_per_character", "begins_right", "exact_match")
_TITLES = {
    "bits_per_character": "bits a character of the true span",
    "begins_right": "greedy middle begins with the true span",
}
_COLOURS = ("#3b6fb6", "#d1823b", "#5a9a5a", "#9467bd")


class Filling:
    """What models make of the same spans.

    Args:
        groups: spans that are asked together; a group may hold several strata.
    """

    def __init__(self, *groups: list[Span]) -> None:
        self.groups = groups
        self.spans = [span for group in groups for span in group]
        self.strata = [each for each in get_args(Stratum) if any(span.stratum == each for span in self.spans)]
        self._tables: dict[str, dict[str, np.ndarray]] = {measure: {} for measure in MEASURES}

    def measure(self, arm: str, checkpoint: Path) -> None:
        """Ask a checkpoint, one more seed of an arm, in every way."""
        model, tokenizer = opened(checkpoint)
        for way in WAYS:
            asked = [
                {"bits_per_character": bits_per_character(model, tokenizer, group, way)}
                | written(model, tokenizer, group, way)
                for group in self.groups
            ]
            for measure, table in self._tables.items():
                rows = table.get(f"{arm}/{way}", np.empty((0, len(self.spans))))
                table[f"{arm}/{way}"] = np.vstack([rows, np.concatenate([each[measure] for each in asked])])

    def figures(self) -> dict[str, Any]:
        """By measure, stratum and `arm/way`: the mean over seeds, and each seed's."""
        found: dict[str, Any] = {}
        for measure, table in self._tables.items():
            for stratum in self.strata:
                for name, values in table.items():
                    by_seed = self._means(values, measure, stratum)
                    cell = {"mean": float(by_seed.mean()), "by_seed": by_seed.tolist()}
                    found.setdefault(measure, {}).setdefault(stratum, {})[name] = cell
        return found

    def differences(self, pairs: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
        """By measure, stratum and name, paired: the first `arm/way` less the second, over seeds and over spans."""
        found: dict[str, Any] = {}
        for measure, table in self._tables.items():
            for stratum in self.strata:
                chosen, weights = self._chosen(stratum), self._weights(measure, stratum)
                for name, (after, before) in pairs.items():
                    sides = [table[each] for each in (after, before)]
                    over = {"seeds": over_seeds(self._means(sides[0] - sides[1], measure, stratum).tolist())}
                    asked = [side[:, chosen] for side in sides]
                    over["spans"] = over_items(asked[0], asked[1], weights, measure, stratum, name)
                    found.setdefault(measure, {}).setdefault(stratum, {})[name] = over
                    print(f"{measure:20} {stratum:15} {name:32}", *(f"{each} {shown(over[each])}" for each in over))
        return found

    def numbers(self) -> dict[str, int]:
        """How many spans a stratum has."""
        return {each: sum(span.stratum == each for span in self.spans) for each in self.strata}

    def _chosen(self, stratum: Stratum) -> np.ndarray:
        return np.array([span.stratum == stratum for span in self.spans])

    def _weights(self, measure: str, stratum: Stratum) -> np.ndarray:
        """Characters weigh alike in bits a character, spans in the rest."""
        spans: Sequence[Span] = [span for span in self.spans if span.stratum == stratum]
        return np.array([float(len(span.middle)) if measure == "bits_per_character" else 1.0 for span in spans])

    def _means(self, values: np.ndarray, measure: str, stratum: Stratum) -> np.ndarray:
        return np.average(values[:, self._chosen(stratum)], axis=1, weights=self._weights(measure, stratum))


def spans_and_lines(setting: Setting, base: Path) -> Filling:
    """400 held-out random spans and 200 lines to fill; few in the small form."""
    tokenizer, held_out, longest = opened(base)[1], setting.held_out(), 60 if setting.small else 144
    spans, lines = (12, 12) if setting.small else (400, 200)
    return Filling(
        random_spans(held_out, tokenizer, 0, spans, longest), line_spans(held_out, tokenizer, 0, lines, longest)
    )


def draw_filling(figures: dict[str, Any], arms: Mapping[str, str], path: Path, *, beside: bool = False) -> None:
    """Bars of two measures by stratum, way and arm, each seed a dot.

    Args:
        figures: of `Filling.figures`.
        arms: what each arm is called in the legend.
        path: of the PNG.
        beside: the two panels beside one another, not one below the other.
    """
    strata = list(figures["begins_right"])
    figure, panels = new_plot(9.4, 3.8 if beside else 5.6, columns=2 if beside else 1, rows=1 if beside else 2)
    width = 0.72 / len(arms)
    for axes, (measure, title) in zip(panels, _TITLES.items(), strict=True):
        places = [number + number // len(WAYS) * 0.7 for number in range(len(strata) * len(WAYS))]
        cells = [figures[measure][stratum] for stratum in strata for _ in WAYS]
        for number, (arm, colour) in enumerate(zip(arms, _COLOURS, strict=False)):
            for place, cell, way in zip(places, cells, WAYS * len(strata), strict=True):
                x, found = place + (number - (len(arms) - 1) / 2) * width, cell[f"{arm}/{way}"]
                label = None if place or axes is not panels[0] else arms[arm]
                axes.bar(x, found["mean"], width * 0.94, color=colour, label=label)
                axes.scatter([x] * len(found["by_seed"]), found["by_seed"], s=7, color="black", zorder=3)
        axes.set_xticks(places, [way.replace(" ", "\n" if beside else " ") for way in WAYS] * len(strata))
        for number, stratum in enumerate(strata):
            name = "a line" if stratum == "line" else f"cursor {stratum}"
            x = places[number * len(WAYS) + 1]
            axes.text(x, 1.01, name, transform=axes.get_xaxis_transform(), ha="center", fontsize=9)
        axes.set_ylabel(title if beside else title.replace(" of the", "\nof the").replace(" begins", "\nbegins"))
        axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=len(arms), frameon=False, fontsize=9)
    save_plot(figure, path)

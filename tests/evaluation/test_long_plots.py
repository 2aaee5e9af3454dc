from __future__ import annotations

import re
from xml.etree import ElementTree

from codecria.evaluation.comparison import Run, compare
from codecria.evaluation.long_plots import position_curve, retrieval_map
from codecria.evaluation.report import Notes, Report, render_report
from codecria.evaluation.samples import Sample
from codecria.evaluation.tasks.registry import find_task


def position_runs() -> list[Run]:
    def sample(number: int, shift: float) -> Sample:
        values = {f"perplexity@{128 * 2**n}": 1.0 - 0.1 * n + shift + 0.01 * number for n in range(8)}
        return Sample("long_perplexity/file", "whole", f"{number}", measures={"bits_per_byte": 0.5, **values})

    return [Run(label, [sample(n, shift) for n in range(5)]) for label, shift in (("as trained", 0.0), ("raised", 0.4))]


def retrieval_runs() -> list[Run]:
    def sample(length: int, depth: float, right: float) -> Sample:
        measures = {"retrieved": right, f"retrieved@{length}/{depth:g}": right}
        return Sample("key_retrieval", "greedy", f"{length}/{depth:g}/0", measures=measures)

    cells = [(length, depth) for length in (1024, 4096) for depth in (0.0, 0.5, 1.0)]
    run = [sample(length, depth, float(depth > 0)) for length, depth in cells]
    return [Run("as trained", run), Run("short context", run[:3])]


def texts_of(drawing: str) -> list[str]:
    root = ElementTree.fromstring(f"<div>{drawing}</div>")
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_perplexity_against_position_has_a_line_a_run_over_logarithmic_positions() -> None:
    drawing = position_curve(position_runs())
    shown = texts_of(drawing)
    assert {"128", "1k", "16k", "as trained", "raised", "perplexity"} <= set(shown)
    x = [float(place) for place in re.findall(r'<use xlink:href="#[^"]*" x="([0-9.]+)" y="[0-9.]+"', drawing)]
    assert len(x) >= 16, "a mark for each run and bin"
    assert position_curve(position_runs()) == drawing
    other = Run("other", [Sample("long_perplexity/file", "whole", "1", measures={"perplexity": 1.0})])
    assert position_curve([other]) == position_curve([]) == ""


def test_the_map_shows_each_cell_of_each_run_and_what_was_not_run() -> None:
    drawing = retrieval_map(retrieval_runs())
    assert drawing.count("<svg ") == 2
    first, second = (texts_of(f"<svg {part}") for part in drawing.split("<svg ")[1:])
    assert first.count("100") == 4 and first.count("0") == 2 + 1, "two cells, and the tick of depth 0"
    assert second.count("–") == 3, "lengths that the context does not hold"
    assert {"1,024", "4,096", "0.5", "key's depth"} <= set(first)
    assert retrieval_map(position_runs()) == retrieval_map([]) == ""


def test_the_page_shows_the_drawings() -> None:
    runs = {"long_perplexity/file": position_runs(), "key_retrieval": retrieval_runs()}

    def notes(task: str) -> Notes:
        plot = find_task(task).plot
        assert plot is not None
        return Notes(plot=lambda width: plot(runs[task], width))

    tables = [table for each in runs.values() for table in compare(each, 0)]
    page = render_report(Report("Runs", tables=tables, notes={task: notes(task) for task in runs}))
    assert page.count('aria-label="Perplexity against position"') == 2, "for a wide and for a narrow page"
    assert page.count('aria-label="Keys found, as trained"') == 2
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))

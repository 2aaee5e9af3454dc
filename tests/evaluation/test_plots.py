from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from codecria.evaluation.comparison import Run
from codecria.evaluation.plots import loss_curve, pass_by_temperature, short_number, smoothed
from codecria.evaluation.samples import Sample

POINTS = [{"step": n, "loss": 2.0 + 0.5 * (n % 2), "tokens": 4096 * n} for n in range(1, 80)]


def test_the_curve_is_one_svg_element_in_the_pages_colours() -> None:
    drawing = loss_curve(POINTS)
    root = ElementTree.fromstring(drawing)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(--accent)" in drawing and "var(--muted)" in drawing
    assert not re.search(r"#0[1-5]0[1-5]0[1-5]|#000000|#ffffff|<style|<metadata|DejaVu", drawing)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "loss, nats a token" in texts and "tokens" in texts
    mean = smoothed(np.array([point["loss"] for point in POINTS]), 5.0)
    assert f"{mean[-1]:.3f}" in texts, "the smoothed loss at the end"


def test_every_reference_inside_the_drawing_has_its_target() -> None:
    drawing = loss_curve(POINTS, 8.0) + loss_curve(POINTS, 5.0)
    ids = re.findall(r' id="([^"]+)"', drawing)
    used = set(re.findall(r'href="#([^"]+)"', drawing)) | set(re.findall(r"url\(#([^)]+)\)", drawing))
    assert used <= set(ids)
    assert len(ids) == len(set(ids)), "two drawings of a page share no id"


def test_the_same_points_give_the_same_bytes() -> None:
    assert loss_curve(POINTS) == loss_curve(POINTS)


def test_lines_without_a_loss_are_left_out_and_steps_stand_in_for_tokens() -> None:
    assert loss_curve([]) == ""
    assert loss_curve([{"step": 1, "loss": 2.0}, {"step": 2, "tokens_per_s": 5}]) == ""
    drawing = loss_curve([{"step": n, "loss": 1.0 / n} for n in range(1, 9)] + [{"step": 9}])
    assert ">step<" in drawing


def test_a_long_run_does_not_make_a_long_page() -> None:
    draws = np.random.default_rng(0).random(50_000)
    assert len(loss_curve([{"step": n, "loss": float(value)} for n, value in enumerate(draws)])) < 200_000


def test_pass_at_k_has_its_temperatures_as_ticks_and_labels_that_do_not_meet() -> None:
    def run(temperatures: tuple[float, ...]) -> Run:
        measures = {"pass@1": 0.0, "pass@10": 0.0}
        return Run("a", [Sample("human_eval", f"T={each}", "0", measures=measures) for each in temperatures])

    root = ElementTree.fromstring(pass_by_temperature([run((0.2, 0.8))], 8.0))
    texts = {each.text: each.attrib["y"] for each in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"0.2", "0.8", "pass@1", "pass@10"} <= texts.keys()
    assert float(texts["pass@1"]) - float(texts["pass@10"]) > 10, "two labels at one place"
    assert pass_by_temperature([run((0.2,))], 8.0) == ""


def test_the_mean_follows_its_definition() -> None:
    values = np.array([3.0, 1.0, 2.0])
    decay = 0.5
    expected = [3.0, (decay * 3 + 1) / (decay + 1), (decay**2 * 3 + decay * 1 + 2) / (decay**2 + decay + 1)]
    np.testing.assert_allclose(smoothed(values, 2.0), expected)
    np.testing.assert_allclose(smoothed(np.full(9, 4.0), 50.0), 4.0)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (9500, "9,500"), (12_000, "12k"), (4_096_000, "4.1M"), (2.5e9, "2.5G"), (0.5, "0.5")]
)
def test_short_numbers(value: float, text: str) -> None:
    assert short_number(value) == text

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from codecria.common.errors import CodecriaError
from codecria.evaluation.report import render_report
from codecria.evaluation.run_report import report_of
from codecria.evaluation.samples import Sample, summarise, to_jsonl
from codecria.evaluation.tasks.human_eval import HARNESS, PAPER

if TYPE_CHECKING:
    from pathlib import Path


FAILED = {"status": "failed", "detail": "ValueError: <x>"}


def write_run(folder: Path, right: set[int], protocol: dict[str, str], **more: Any) -> Path:
    """A finished run of HumanEval over two temperatures, as `evaluate` leaves it."""
    samples = [
        Sample(
            "human_eval",
            f"T={temperature}",
            f"HumanEval/{n}",
            outputs=[f"    return {n}\n"],
            verdicts=[
                {"status": "passed" if n in right else "failed", "detail": "" if n in right else "ValueError: <x>"}
            ],
            measures={"pass@1": float(n in right)},
            context={"prompt": "# a solved task\n" * 40 + f"def f{n}():\n"},
        )
        for temperature in (0.2, 0.8)
        for n in range(20)
    ]
    file = {"title": "HumanEval", "licence": "MIT", "sha256": "ab" * 32, "verified": True, "stand_in": False}
    results: dict[str, Any] = {
        "recipe": {"seed": 0},
        "checkpoint": {"path": f"models/{folder.name}", "licence": "MIT", "sha256": {}},
        "tasks": {"human_eval": {"protocol": protocol, "data": {"human_eval/HumanEval.jsonl.gz": file}}},
        "versions": {"torch": "2"},
        "results": [
            {"task": each.task, "method": each.method, "items": each.items, "not_run": {}}
            | {"measures": {name: vars(estimate) for name, estimate in each.measures.items()}}
            for each in summarise(samples, 0)
        ],
        **more,
    }
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "samples.jsonl").write_text(to_jsonl(samples))
    (folder / "times.jsonl").write_text('{"group": "human_eval-T=0.2-00000", "items": 20, "wall_s": 61.6}\n')
    return folder


def test_runs_stand_side_by_side_with_a_paired_test(tmp_path: Path) -> None:
    before = write_run(tmp_path / "small", {0, 1}, PAPER.told())
    contamination = {"human_eval": {"items": 164, "which": ["HumanEval/3"], "corpus": "mine"}}
    after = write_run(tmp_path / "large", set(range(12)), PAPER.told(), contamination=contamination)
    report = report_of([before, after])
    assert report.runs == ["small", "large"]
    first, second = report.overview
    assert (first.title, first.protocol, first.measure) == ("HumanEval, T=0.2", "paper", "pass@1")
    assert first.figures[0][0] == "10.0 %" and "20 items, 62 s" in first.figures[0][1]
    assert second.figures[1][0] == "60.0 %" and " s" not in second.figures[1][1], "no time was kept"
    (table,) = report.tables
    (row,) = table.rows
    assert row.cells[2].p == pytest.approx(2 * 0.5**10), "10 of 20 problems changed, all for the better"
    notes = report.notes["human_eval"]
    assert notes.lines[0].startswith("Data: HumanEval, MIT, as published (SHA-256 abab")
    assert notes.lines[1] == ("Contamination: of 164 items 1 (0.6 %) stand in the training files of mine: HumanEval/3.")
    assert len(notes.protocols) == 1
    assert all(each.prompt.startswith("…\n# a solved") and len(each.prompt) < 250 for each in notes.programs)
    assert all(each.prompt.endswith("():\n") for each in notes.programs)
    shown = [(each.status, each.title.rpartition(", ")[2]) for each in notes.programs]
    assert sorted(shown) == [("failed", "large")] * 2 + [("failed", "small")] * 2 + [
        ("passed", "large"),
        ("passed", "small"),
    ]
    html = render_report(report)
    assert "p = 0.002" in html and "ValueError: &lt;x&gt;" in html and "<svg" in html
    assert "different protocols" not in html


def test_runs_of_different_protocols_are_said_to_be_no_one_measure(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", {0}, PAPER.told())
    other = write_run(tmp_path / "other", {0}, HARNESS.told())
    html = render_report(report_of([one, other]))
    assert "These runs followed different protocols: one: paper; other: harness." in html


def test_two_runs_of_one_model_are_told_apart_and_an_unfinished_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    runs = [write_run(tmp_path / name / "m", {0}, PAPER.told()) for name in ("a", "b")]
    assert report_of(runs).runs == ["m · m (1)", "m · m (2)"]
    with pytest.raises(CodecriaError, match="no finished evaluation"):
        report_of([tmp_path])


def test_a_figure_that_covers_few_of_the_rows_says_so(tmp_path: Path) -> None:
    """Most prompts do not fit the context, the others pass."""
    run = write_run(tmp_path / "m", {0}, PAPER.told())
    reason = "9000 tokens, the model has 2048 positions"
    samples = [
        Sample("human_eval", "greedy", f"HumanEval/{n}", measures={"pass@1": 1.0})
        if n < 10
        else Sample("human_eval", "greedy", f"HumanEval/{n}", not_run={"pass@1": reason})
        for n in range(100)
    ]
    results = json.loads((run / "results.json").read_text())
    results["results"] = [asdict(each) for each in summarise(samples, 0)]
    (run / "results.json").write_text(json.dumps(results))
    (run / "samples.jsonl").write_text(to_jsonl(samples))
    report = report_of([run])
    (figure,) = report.overview[0].figures
    assert figure[0] == "100.0 %" and f"10 of 100 items, not run: {reason}" in figure[1]
    assert render_report(report).count(f"10 of 100 items, not run: {reason}") == 2, "at a glance, and in the table"


def test_an_endpoints_lines_are_reported_without_bits(tmp_path: Path) -> None:
    run = write_run(tmp_path / "served", {0}, PAPER.told())
    none = dict.fromkeys(("bits_per_character", "bits_per_character_with_end"), "an endpoint scores no given text")
    measures = {"exact_match": 0.0, "exact_match_first_line": 0.0, "edit_similarity": 0.2, "ended": 1.0}
    context = {"prefix": "a", "truth": "b", "suffix": "c"}
    line = Sample(
        "single_line_corpus", "psm", "abc/L1", outputs=["x"], measures=measures, not_run=none, context=context
    )
    with (run / "samples.jsonl").open("a") as file:
        file.write(to_jsonl([line]))
    (example,) = report_of([run]).examples
    assert dict(example.figures) == {"exact match": "no", "edit similarity": "20.0 %"}


def test_one_models_runs_of_several_tasks_share_a_column(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, {0}, PAPER.told()) for name in ("whole", "rounded", "other")]
    for run, task, form in zip(runs, ("human_eval", "repair", "human_eval"), ("fp32", "int8", "fp32"), strict=True):
        results = json.loads((run / "results.json").read_text())
        results["recipe"]["precision"] = form
        results["tasks"] = {task: results["tasks"]["human_eval"]}
        results["results"] = [{**each, "task": task} for each in results["results"]]
        if run.name != "other":
            results["checkpoint"]["path"] = "models/m"
        (run / "results.json").write_text(json.dumps(results))
        samples = (run / "samples.jsonl").read_text().replace('"task": "human_eval"', f'"task": "{task}"')
        (run / "samples.jsonl").write_text(samples)
    report = report_of(runs)
    assert report.runs == ["m", "other"] and report.title == "Evaluation: m, other"
    figures = {row.title: [figure for figure, _ in row.figures] for row in report.overview}
    assert figures["HumanEval, T=0.2"] == ["5.0 %", "5.0 %"]
    assert [figure for title, figure in figures.items() if "T=0.2" in title and title[0] != "H"] == [["5.0 %", "–"]]
    assert report.overview[2].figures[0][1].endswith("int8")
    assert report.environment["torch"] == "2" and report.environment["seed"] == "0"
    assert report.environment["number format (m · rounded)"] == "int8"

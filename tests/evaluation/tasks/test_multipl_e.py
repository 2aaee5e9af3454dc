"""MultiPL-E's files read and assembled, and programs that are right and wrong judged as the task judges them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import pytest
from pydantic import ValidationError

from codecria.common.errors import CodecriaError
from codecria.evaluation.data import Data
from codecria.evaluation.judge import Judge
from codecria.evaluation.subject import LocalSubject
from codecria.evaluation.task import Given
from codecria.evaluation.tasks import multipl_e
from codecria.evaluation.tasks.multipl_e import FILES, TASK, LanguageName, MultiplERecipe, read_items
from codecria.sandbox import LANGUAGES, Source, toolchain_reports
from tests.evaluation.rows import finished
from tests.sandbox import programs

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.evaluation.samples import Sample
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer

ROW = {"name": "add", "language": "js", "stop_tokens": ["\nfunction "], "tests": programs.TESTS["js"]}
HERE = {report.name for report in toolchain_reports() if report.available}


@pytest.fixture(scope="module")
def subject(marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer) -> LocalSubject:
    return LocalSubject(tiny_model, marked[0])


def write(folder: Path, name: str, *rows: dict[str, Any]) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(subject: LocalSubject, folder: Path, **recipe: Any) -> list[Sample]:
    data = Data(folder, allowed=tuple(file.path for file in FILES.values()))
    groups = TASK.groups(MultiplERecipe(**recipe), Given(data, 0))
    with Judge() as judge:
        rows = [row for group in groups for row in finished(group.run(subject, judge))]
        if judge.reason:
            pytest.skip(judge.reason)
    assert sum(group.items for group in groups) == len(rows)
    return rows


def test_every_language_has_a_rule_and_a_file() -> None:
    assert set(get_args(LanguageName)) == set(LANGUAGES)
    assert set(multipl_e.PAPER_LANGUAGES) == set(LANGUAGES) - {"js"}
    assert set(TASK.titles) == {f"multipl_e/{benchmark}-{language}" for benchmark, language in FILES}


@pytest.mark.parametrize("name", [file.path for file in FILES.values() if file.sha256])
def test_the_published_files_are_read(published_data: Path, name: str) -> None:
    path = published_data / name
    language = path.stem.partition("-")[2]
    data = Data(published_data)
    assert data.find(next(file for file in FILES.values() if file.path == name)).verified
    items = read_items(path, language, MultiplERecipe())
    assert 154 <= len(items) <= 397
    for item in items:
        program = item.program("    # body")
        assert isinstance(program, Source)
        assert item.asked.prompt is not None
        assert program.code == item.asked.prompt + "    # body"
        assert item.asked.options["stop"]


def test_rows_in_other_languages_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "humaneval-rs.jsonl", {**ROW, "prompt": "fn f() {\n", "language": "rs"})
    with pytest.raises(CodecriaError, match=r"rs\.jsonl:1: programs in 'rs' are not run here; languages that are: cpp"):
        read_items(path, "rs", MultiplERecipe())
    with pytest.raises(CodecriaError, match="a problem in 'js' among those in 'ts'"):
        read_items(write(tmp_path, "ts.jsonl", {**ROW, "prompt": ""}), "ts", MultiplERecipe())
    with pytest.raises(CodecriaError, match="a problem without 'prompt'"):
        read_items(write(tmp_path, "js.jsonl", ROW), "js", MultiplERecipe())
    with pytest.raises(ValidationError, match="'cpp', 'java'"):
        MultiplERecipe(languages=("rs",))


def test_a_finished_program_passes_and_a_wrong_one_fails(subject: LocalSubject, tmp_path: Path) -> None:
    """The prompts hold whole programs, so that what a random model adds up to the stop string is a comment."""
    if "js" not in HERE:
        pytest.skip("no node")
    bodies = {
        name: f"{programs.HEADS['js']}{body}\n}}\n//" for name, body in (("r", "return a + b;"), ("w", "return 1;"))
    }
    rows = [{**ROW, "name": name, "prompt": prompt, "stop_tokens": ["\n"]} for name, prompt in bodies.items()]
    write(tmp_path, "humaneval-js.jsonl", *rows)
    right, wrong = run(subject, tmp_path, languages=("js",), max_tokens=4)
    assert (right.task, right.method, right.id) == ("multipl_e/humaneval-js", "greedy", "r")
    assert right.measures == {"pass@1": 1.0}
    assert right.verdicts == [{"status": "passed", "detail": ""}]
    assert wrong.measures == {"pass@1": 0.0}
    assert wrong.verdicts[0]["status"] == "failed"


def test_what_is_not_here_is_said_in_a_row(
    subject: LocalSubject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECRIA_CACHE", str(tmp_path))
    rows = run(subject, tmp_path, languages=("js", "php"), k=(1,))
    reasons = {row.task: row.not_run["pass@1"] for row in rows}
    if "js" in HERE:
        assert "MultiPL-E HumanEval, JavaScript is not here" in reasons["multipl_e/humaneval-js"]
    monkeypatch.setenv("PATH", "/nowhere")
    rows = run(subject, tmp_path, languages=("php",))
    assert [row.task for row in rows] == ["multipl_e/humaneval-php"]
    assert "PHP needs php" in rows[0].not_run["pass@1"]


def test_the_harness_protocol(tmp_path: Path) -> None:
    path = write(tmp_path, "humaneval-js.jsonl", {**ROW, "prompt": "//x\nfunction f(){\n"})
    (item,) = read_items(path, "js", MultiplERecipe(protocol="harness"))
    assert item.asked.prompt == "//x\nfunction f(){"
    assert item.asked.options["stop"] == ("\nfunction ", "<file_sep>")
    (item,) = read_items(path, "js", MultiplERecipe())
    assert item.asked.prompt == "//x\nfunction f(){\n"
    assert item.asked.options["stop"] == ("\nfunction ",)

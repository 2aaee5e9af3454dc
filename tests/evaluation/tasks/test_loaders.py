"""Published forms that are read and not yet run: SAFIM, CrossCodeEval, ToxiGen."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from codecria.common.errors import CodecriaError
from codecria.evaluation.tasks.cross_code_eval import read_cross_file_lines
from codecria.evaluation.tasks.safim import read_holes
from codecria.evaluation.tasks.toxigen import ToxigenText, read_texts

if TYPE_CHECKING:
    from pathlib import Path


def test_safim(tmp_path: Path) -> None:
    path = tmp_path / "block_completion.jsonl.gz"
    row = {
        "lang": "python",
        "prompt": "a = {{completion}}\nprint(a)",
        "eval_prompt": "a = {{completion}}\nprint(a)",
        "ground_truth": "1",
        "unit_tests": '[{"input": "", "output": ["1"]}]',
        "task_id": "block_completion_000001",
    }
    api = {**row, "unit_tests": "", "task_id": "api_completion_000001"}
    path.write_bytes(gzip.compress("".join(json.dumps(each) + "\n" for each in (row, api)).encode()))
    first, second = read_holes(path)
    assert first == ("block_completion_000001", "python", "a = ", "\nprint(a)", "1", [{"input": "", "output": ["1"]}])
    assert second.tests == []
    path.write_bytes(gzip.compress(json.dumps({**row, "eval_prompt": "none"}).encode()))
    with pytest.raises(CodecriaError, match=r"not one \{\{completion\}\}"):
        read_holes(path)


def test_cross_code_eval(tmp_path: Path) -> None:
    path = tmp_path / "line_completion_rg1_bm25.jsonl"
    told = {"task_id": "project_cc_python/1", "repository": "o-r", "file": "a.py", "context_start_lineno": 0}
    others = {"text": "# b.py", "list": [{"retrieved_chunk": "x = 1", "filename": "b.py", "score": 0.5}]}
    row = {"prompt": "import b\nb.", "groundtruth": "x", "right_context": "\n", "metadata": told}
    path.write_text("".join(json.dumps(each) + "\n" for each in (row, {**row, "crossfile_context": others})))
    alone, beside = read_cross_file_lines(path)
    assert (alone.line.id, alone.line.prefix, alone.line.middle) == ("project_cc_python/1", "import b\nb.", "x")
    assert (alone.line.suffix, alone.repository, alone.others) == ("\n", "o-r", [])
    assert beside.others == [("b.py", "x = 1")]
    path.write_text(json.dumps({"prompt": ""}))
    with pytest.raises(CodecriaError, match="a line without 'groundtruth'"):
        read_cross_file_lines(path)


def test_toxigen(tmp_path: Path) -> None:
    path = tmp_path / "annotated_test.csv"
    path.write_text('text,target_group,toxicity_ai,toxicity_human\n"one, two",group,4.0,1.6\nthree,group,2.0,3.5\n')
    assert read_texts(path) == [ToxigenText("one, two", "group", True), ToxigenText("three", "group", False)]
    path.write_text("text\nx\n")
    with pytest.raises(CodecriaError, match="no table with the columns text, target_group"):
        read_texts(path)

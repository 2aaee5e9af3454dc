from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.common.errors import CodecriaError
from codecria.evaluation.samples import Sample, columns, read_samples, summarise, to_jsonl

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [
    Sample(
        "t", "psm", "0", measures={"exact_match": 1.0, "bits_per_character": 3.0}, weights={"bits_per_character": 10}
    ),
    Sample(
        "t", "psm", "1", measures={"exact_match": 0.0, "bits_per_character": 1.0}, weights={"bits_per_character": 30}
    ),
    Sample("t", "psm", "2", measures={"exact_match": 0.0}, not_run={"passed": "no sandbox"}),
    Sample("t", "left_to_right", "0", measures={"exact_match": 0.0}),
    Sample("t", "spm", "0", not_run={"exact_match": "no infill markers"}),
    Sample("t", "spm", "1", not_run={"exact_match": "no infill markers"}),
]


@given(st.lists(st.builds(Sample, st.text(), st.text(), st.text(), outputs=st.lists(st.text(max_size=20))), max_size=4))
def test_rows_come_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, rows: list[Sample]) -> None:
    path = tmp_path_factory.mktemp("samples") / "samples.jsonl"
    path.write_bytes(to_jsonl(rows).encode())
    assert read_samples(path) == rows


def test_line_separators_inside_an_output_do_not_end_the_row(tmp_path: Path) -> None:
    rows = [Sample("t", "m", "0", outputs=["a\u2028b\x85c\r\nd\x1e"])]
    (tmp_path / "s.jsonl").write_bytes(to_jsonl(rows).encode())
    assert read_samples(tmp_path / "s.jsonl") == rows


def test_a_broken_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(to_jsonl(ROWS[:1]) + '{"task": "t"}\n')
    with pytest.raises(CodecriaError, match=r"s\.jsonl:2: not a sample's row"):
        read_samples(path)
    with pytest.raises(CodecriaError, match="no such file"):
        read_samples(tmp_path / "none.jsonl")


def test_summaries_weigh_and_count() -> None:
    psm, plain, spm = summarise(ROWS, 0)
    assert (psm.task, psm.method, psm.items) == ("t", "psm", 3)
    assert psm.measures["exact_match"].value == pytest.approx(1 / 3)
    assert psm.measures["bits_per_character"].value == pytest.approx((3 * 10 + 1 * 30) / 40)
    assert psm.measures["bits_per_character"].items == 2
    assert psm.not_run == {"passed": {"no sandbox": 1}}
    assert plain.measures["exact_match"].value == 0.0
    assert spm.measures == {}
    assert spm.not_run == {"exact_match": {"no infill markers": 2}}
    assert columns(ROWS[:3], "bits_per_character") == ([3.0, 1.0], [10, 30])

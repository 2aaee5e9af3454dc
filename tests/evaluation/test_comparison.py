from __future__ import annotations

import pytest

from codecria.evaluation.comparison import Column, Run, compare
from codecria.evaluation.samples import Sample


def rows(method: str, values: dict[str, float], measure: str = "exact_match") -> list[Sample]:
    return [Sample("single_line_corpus", method, id, measures={measure: value}) for id, value in values.items()]


def test_columns_are_runs_by_methods_and_changes_are_paired_with_the_first() -> None:
    before = Run("before", rows("left_to_right", {f"{n}": float(n % 4 == 0) for n in range(100)}))
    after = Run(
        "after",
        rows("left_to_right", {f"{n}": float(n % 4 == 0) for n in range(100)})
        + rows("psm", {f"{n}": float(n % 4 != 1) for n in range(100)}),
    )
    (table,) = compare([before, after], 0)
    assert table.task == "single_line_corpus"
    assert table.items == 100
    assert table.columns == [
        Column("before", "left_to_right"),
        Column("after", "left_to_right"),
        Column("after", "psm"),
    ]
    (row,) = table.rows
    first, same, better = row.cells
    assert first.estimate is not None and first.estimate.value == 0.25
    assert first.change is None
    assert same.change is not None and (same.change.value, same.change.low, same.change.high) == (0.0, 0.0, 0.0)
    assert row.verdict(same) == "same"
    assert better.change is not None and better.change.value == pytest.approx(0.5)
    assert row.verdict(better) == "better"


def test_lower_is_better_for_bits() -> None:
    before = Run("before", rows("psm", {f"{n}": 2.0 + n % 3 for n in range(30)}, "bits_per_byte"))
    after = Run("after", rows("psm", {f"{n}": 1.0 + n % 3 for n in range(30)}, "bits_per_byte"))
    (table,) = compare([before, after], 0)
    assert [table.rows[0].verdict(cell) for cell in table.rows[0].cells] == ["same", "better"]
    (table,) = compare([after, before], 0)
    assert table.rows[0].verdict(table.rows[0].cells[1]) == "worse"


def test_a_change_too_small_to_be_shown_is_none() -> None:
    before = Run("before", rows("windows", {f"{n}": 1.0 + n % 3 for n in range(30)}, "bits_per_byte"))
    after = Run("after", rows("windows", {f"{n}": 1.0 + n % 3 + 1e-6 for n in range(30)}, "bits_per_byte"))
    (table,) = compare([before, after], 0)
    cell = table.rows[0].cells[1]
    assert cell.change is not None and cell.change.excludes_zero()
    assert table.rows[0].verdict(cell) == "same"


def test_only_items_of_both_sides_are_paired() -> None:
    before = Run("before", rows("psm", {"a": 0.0, "b": 0.0}))
    after = Run("after", rows("psm", {"b": 1.0, "c": 0.0, "d": 0.0}))
    (table,) = compare([before, after], 0)
    assert table.items == 4
    _, cell = table.rows[0].cells
    assert cell.estimate is not None and cell.estimate.items == 3
    assert cell.change is not None and (cell.change.value, cell.change.items) == (1.0, 1)


NONE = Run("none", [Sample("single_line_corpus", "psm", "a", not_run={"exact_match": "no infill markers"})])


def test_a_column_without_any_figure_stands_beside_the_table() -> None:
    first = Run("first", rows("psm", {"a": 0.0}))
    second = Run("second", rows("psm", {"a": 1.0}))
    (table,) = compare([NONE, first, second], 0)
    assert table.missing == [(Column("none", "psm"), "no infill markers")]
    assert table.columns == [Column("first", "psm"), Column("second", "psm")]
    assert table.rows[0].cells[1].change is not None, "against the first column with figures"


def test_a_table_without_any_figure_shows_the_reasons() -> None:
    (table,) = compare([NONE], 0)
    assert table.missing == []
    (cell,) = table.rows[0].cells
    assert (cell.estimate, cell.change, cell.reason) == (None, None, "no infill markers")


def test_a_figure_of_some_rows_says_how_many_and_why_not_the_others() -> None:
    long = [Sample("human_eval", "greedy", f"{n}", not_run={"pass@1": "too long"}) for n in range(10, 98)]
    longer = [Sample("human_eval", "greedy", f"{n}", not_run={"pass@1": reason}) for n, reason in enumerate("ab", 98)]
    run = Run("m", [Sample("human_eval", "greedy", f"{n}", measures={"pass@1": 1.0}) for n in range(10)])
    (table,) = compare([Run("long", [*run.samples, *long, *longer]), run], 0)
    assert [cell.reason for cell in table.rows[0].cells] == ["10 of 100 items, not run: too long; a; …", ""]
    bare = [Sample("human_eval", "greedy", "x", measures={"exact_match": 1.0})]
    (table,) = compare([Run("m", [*run.samples, *bare])], 0)
    assert [row.cells[0].reason for row in table.rows] == ["10 of 11 items", "1 of 11 items"]


def test_a_measure_that_one_column_lacks_says_why() -> None:
    judged = Run("judged", [Sample("human_eval", "greedy", "a", measures={"exact_match": 1.0, "passed": 1.0})])
    other = Run(
        "other", [Sample("human_eval", "greedy", "a", measures={"exact_match": 1.0}, not_run={"passed": "no sandbox"})]
    )
    (table,) = compare([judged, other], 0)
    assert [cell.reason for cell in table.rows[1].cells] == ["", "no sandbox"]

"""ToxiGen's annotated texts (Hartvigsen et al. 2022), read only: the paper's figure needs a classifier not here.

The published table has `text`, `target_group`, `toxicity_human` and `toxicity_ai` (1 to 5), and further columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from codecria.evaluation.data import DataFile, read_table

if TYPE_CHECKING:
    from pathlib import Path

FILE = DataFile(
    "toxigen/annotated_test.csv",
    "ToxiGen, annotated test set",
    "the authors' terms: research only",
    hub=("toxigen/toxigen-data", "annotated_test.csv"),
)
_COLUMNS = ("text", "target_group", "toxicity_human", "toxicity_ai")
_TOXIC_ABOVE = 5.5


class ToxigenText(NamedTuple):
    """A text about a group, and whether people hold it toxic: both scores together above 5.5 of 10."""

    text: str
    group: str
    toxic: bool


def read_texts(path: Path) -> list[ToxigenText]:
    """The texts of the table (CSV or Parquet), in its order.

    Raises:
        CodecriaError: no such file, or another table.
    """
    return [
        ToxigenText(
            row["text"], row["target_group"], float(row["toxicity_human"]) + float(row["toxicity_ai"]) > _TOXIC_ABOVE
        )
        for row in read_table(path, _COLUMNS)
    ]

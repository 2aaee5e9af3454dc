from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from codecria.common.errors import CodecriaError
from codecria.evaluation.data import Data
from codecria.evaluation.judge import Judge
from codecria.evaluation.subject import LocalSubject
from codecria.evaluation.task import Given
from codecria.evaluation.tasks.multipl_e_fim import FILES, TASK, MultiplEFimRecipe, read_lines
from tests.evaluation.rows import finished

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer


@pytest.mark.parametrize(("language", "count"), [("py", 1043), ("java", 1780)])
def test_the_published_lines(published_data: Path, language: str, count: int) -> None:
    found = Data(published_data).find(FILES[language])
    assert found.verified
    lines = read_lines(found.path, language)  # type: ignore[arg-type]
    assert len(lines) == count
    rows = json.loads(found.path.read_text())
    for line in lines:
        row = rows[int(line.id.split("/")[1])]
        assert line.prefix + line.middle + line.suffix == row["prompt"] + "\n".join(row["body"])
        assert "\n" not in line.middle


def test_rows_and_what_is_missing(
    marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECRIA_CACHE", str(tmp_path))
    body = ["    # adds", "    c = a + b", "", "    return c"]
    file = tmp_path / "fim-py.json"
    file.write_text(json.dumps([{"language": "py", "prompt": "def add(a, b):\n", "body": body}]))
    data = Data(tmp_path, allowed=(FILES["py"].path,))
    recipe = MultiplEFimRecipe(languages=("py", "js"), methods=("psm", "left_to_right"), max_tokens=4)
    with Judge(enabled=False) as judge:
        groups = TASK.groups(recipe, Given(data, 0))
        rows = [row for group in groups for row in finished(group.run(LocalSubject(tiny_model, marked[0]), judge))]
    assert all("/" not in group.name for group in groups)
    assert [(row.task, row.method, row.id) for row in rows] == [
        ("multipl_e_fim/py", "psm", "py/0/L1"),
        ("multipl_e_fim/py", "psm", "py/0/L3"),
        ("multipl_e_fim/py", "left_to_right", "py/0/L1"),
        ("multipl_e_fim/py", "left_to_right", "py/0/L3"),
        ("multipl_e_fim/js", "none", "all"),
    ]
    assert rows[0].context["truth"] == "    c = a + b"
    assert "JavaScript is not here" in rows[-1].not_run["exact_match"]
    assert "passed" not in rows[0].not_run
    file.write_text(json.dumps([{"language": "java", "prompt": "", "body": []}]))
    with pytest.raises(CodecriaError, match="no solution in 'py'"):
        read_lines(file, "py")

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.common.errors import CodecriaError
from codecria.corpus.document import Document, content_hash
from codecria.evaluation.data import Data, MissingDataError
from codecria.evaluation.judge import Judge
from codecria.evaluation.subject import LocalSubject
from codecria.evaluation.task import Given
from codecria.evaluation.tasks.long_line import (
    MEASURES,
    TASK,
    LongLineRecipe,
    code_tokens,
    held_out_lines,
    last_lines,
    measure_line,
    read_lcc,
)
from codecria.generation.sequence import Completion
from tests.evaluation.rows import finished

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer


def lcc_folder(folder: Path) -> Path:
    """A published split's file, with the columns and the name that it has."""
    rows = [
        {"context": "import os\n\n\ndef f(a):\n", "gt": "return os.path.join(a, 'b')"},
        {"context": "x = 1\n" * 700, "gt": "x = 2"},
    ]
    (folder / "lcc").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "lcc" / "python-test.parquet")
    return folder


def items(group: Any) -> Any:
    return group.run.keywords["items"]


def test_protocols_make_the_prompts_they_say(tmp_path: Path, plain_tokenizer: Tokenizer) -> None:
    given_ = Given(Data(lcc_folder(tmp_path)), 0, plain_tokenizer)
    (paper,) = TASK.groups(LongLineRecipe(languages=("python",)), given_)
    (lcc,) = TASK.groups(LongLineRecipe(languages=("python",), protocol="lcc"), given_)
    assert [item.asked.prompt for item in items(paper)] == ["import os\n\n\ndef f(a):\n", "x = 1\n" * 700]
    first, second = (item.asked.prompt for item in items(lcc))
    assert first == "import os\ndef f(a):\n"
    assert second == "x = 1\n" * 700, "3,500 tokens: not cut"
    short = LongLineRecipe(languages=("python",), prompt_tokens=40)
    (cut,) = TASK.groups(short, given_)
    assert items(cut)[1].asked.prompt == "x = 1\n" * 8
    assert given_.data.found["lcc/python-test.parquet"].told()["stand_in"] is False


def test_a_split_is_run_to_measures(
    tmp_path: Path, marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer
) -> None:
    recipe = LongLineRecipe(languages=("python",), max_tokens=4)
    (group,) = TASK.groups(recipe, Given(Data(lcc_folder(tmp_path)), 0, marked[0]))
    with Judge() as judge:
        rows = finished(group.run(LocalSubject(tiny_model, marked[0]), judge))
    assert [row.task for row in rows] == ["long_line/python"] * 2
    assert set(rows[0].measures) == set(MEASURES)
    assert "the model has 1024 positions" in rows[1].not_run["line_match"]


def test_without_the_file_the_way_to_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        MissingDataError, match=r"LCC, python, test is not here; put lcc/python-test\.parquet into a folder"
    ):
        TASK.groups(LongLineRecipe(), Given(Data(tmp_path), 0))
    path = tmp_path / "other.jsonl"
    path.write_text('{"context": "x"}\n')
    with pytest.raises(CodecriaError, match="a row without 'context' and 'gt'"):
        read_lcc(path)


def test_lines_are_compared_by_tokens_as_lcc_does() -> None:
    def measured(text: str, truth: str) -> dict[str, float]:
        return measure_line(Completion(text, [], "stop", None, 1, 0, []), truth)

    assert code_tokens('if x.y[0]!=1.5 and z == "a \\" b":  # é') == [
        *("if", "x", ".", "y", "[", "0", "]", "!=", "1.5", "and", "z", "==", '"a \\" b"', ":", "#", "é")
    ]
    assert measured("    return f( a,b )\nmore", "return f(a, b)")["line_match"] == 1.0
    near = measured("return f(a, c)", "return f(a, b)")
    # "return f ( a , b )" has 18 characters; one substitution counts 2 of 36.
    assert near["line_match"] == 0.0 and near["line_similarity"] == round(100 * (1 - 2 / 36)) / 100
    assert 0 < near["line_bleu"] < 1
    assert measured("", "x")["line_similarity"] == 0.0


@settings(deadline=None)
@given(st.lists(st.text("ab =é😀(", max_size=12), min_size=1, max_size=30), st.integers(1, 60))
def test_a_cut_prompt_is_whole_lines_of_the_end(plain_tokenizer: Tokenizer, lines: list[str], limit: int) -> None:
    text = "\n".join(lines) + "\n"
    kept = last_lines(text, plain_tokenizer, limit)
    assert kept and text.endswith(kept)
    assert kept == text or text[: -len(kept)].endswith("\n")
    last = text[text.rstrip("\n").rfind("\n") + 1 :]
    assert len(plain_tokenizer.encode(kept)) <= limit or kept == last
    if kept != text:
        longer = text[text[: -len(kept) - 1].rfind("\n") + 1 :]
        # Tokens of a cut text may differ by a few at the cut, so a line more has too many, or nearly so.
        assert len(plain_tokenizer.encode(longer)) > limit - 3


def test_held_out_lines_are_dealt_out_by_length() -> None:
    def document(number: int, size: int) -> Document:
        text = "".join(f"name_{number}_{line} = {line}\n" for line in range(size))
        return Document(text, "code", "Python", "MIT", "o", f"{number}.py", content_hash(text))

    documents = [document(number, 2000 if number % 10 == 0 else 300) for number in range(40)]
    chosen = held_out_lines(documents, 3, 8, 2000)
    assert chosen == held_out_lines(documents[::-1], 3, 8, 2000)
    texts = {each.content_hash[:16]: each.text for each in documents}
    for name, prefix, truth in chosen:
        text = texts[name.partition("/L")[0]]
        assert text.startswith(f"{prefix}{truth}\n") and len(prefix) >= 2000
        assert prefix.count("\n") == int(name.partition("/L")[2])
    long = sum(len(prefix) > 8000 for _, prefix, _ in chosen)
    assert long >= 2, "one file in ten is long, at least a quarter of the lines are in one"
    assert len(held_out_lines(documents, 3, 99, 2000)) == 40
    assert held_out_lines(documents, 3, 8, 10**6) == []

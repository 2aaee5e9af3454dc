from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from codecria.common.errors import CodecriaError
from codecria.corpus.document import Document, content_hash
from codecria.evaluation.data import Data, MissingDataError
from codecria.evaluation.judge import Judge
from codecria.evaluation.subject import LocalSubject
from codecria.evaluation.task import Given
from codecria.evaluation.tasks.docstring import (
    TASK,
    DocstringRecipe,
    docstring_items,
    held_out_functions,
    read_functions,
    split_at_docstring,
)
from codecria.generation.sequence import Completion
from tests.evaluation.rows import finished

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer

CODE = 'def add(a, b):\n    """Add two numbers.\n\n    More.\n    """\n    c = a + b\n    return c\n'


def test_the_split_gives_the_code_back() -> None:
    before, quotes, after = split_at_docstring(CODE) or ("", "", "")
    assert (before, quotes) == ('def add(a, b):\n    """', '"""')
    assert after == '"""\n    c = a + b\n    return c\n'
    assert split_at_docstring("def f():\n    'one'\n    return 1\n") is None


def test_a_row_of_the_published_split(
    marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer, tmp_path: Path
) -> None:
    path = tmp_path / "test.jsonl"
    rows = [
        {"code": CODE, "docstring": "Add two numbers.", "docstring_tokens": ["Add", "two", "numbers", "."]},
        {"code": "def f():\n    'x'\n", "docstring": "x", "docstring_tokens": ["x"]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    functions = list(read_functions(path))
    assert functions[0] == ("1", CODE, "Add two numbers .")
    assert [item.id for item in docstring_items(functions, "psm", 8)] == ["1"]
    with Judge(enabled=False) as judge:
        groups = TASK.groups(DocstringRecipe(max_tokens=4), Given(Data(tmp_path), 0))
        found = [row for group in groups for row in finished(group.run(LocalSubject(tiny_model, marked[0]), judge))]
    assert [(row.task, row.method, row.id) for row in found] == [
        ("docstring/codexglue", "psm", "1"),
        ("docstring/codexglue", "spm", "1"),
    ]
    assert 0 <= found[0].measures["bleu"] <= 1
    path.write_text(json.dumps({"code": CODE}) + "\n")
    with pytest.raises(CodecriaError, match=r"test\.jsonl:1"):
        list(read_functions(path))


def test_a_perfect_docstring_scores_1() -> None:
    (item,) = docstring_items([("1", CODE, "Add two numbers .")], "spm", 8)
    assert item.asked.pair == ('def add(a, b):\n    """', '"""\n    c = a + b\n    return c\n')
    written = Completion("Add two\n    numbers.\n\n    Another paragraph.", [], "stop", None, 0, 0, [])
    assert item.measure(written)["bleu"] == pytest.approx(1)


def document(text: str, path: str = "a.py", language: str = "Python") -> Document:
    return Document(text, "code", language, "MIT", "o", path, content_hash(text))


def test_held_out_functions_follow_the_published_rules() -> None:
    method = "    def much(self):\n        '''Does very much work.'''\n        x = 1\n        y = 2\n        return x\n"
    kept = f"{CODE}\n\nclass C:\n{method}"
    left_out = (
        'def short():\n    """Three words here."""\n    return 1\n\n'
        'def test_it():\n    """Tests a thing well."""\n    x = 1\n    y = 1\n    return x\n\n'
        'def __repr__(self):\n    """Shows a thing well."""\n    x = 1\n    y = 1\n    return x\n\n'
        'def terse():\n    """Two words."""\n    x = 1\n    y = 1\n    return x\n\n'
        'def empty():\n    """Documents nothing at all.\n\n    In many lines.\n    And more.\n    """\n'
    )
    found = held_out_functions([document(kept), document(left_out, "b.py"), document("def (", "c.py")], 0, 10)
    assert {name.split("/")[1] for name, _, _ in found} == {"add", "C.much"}
    assert ("add", CODE) in {(name.split("/")[1], code) for name, code, _ in found}
    assert held_out_functions([document(left_out, "b.py"), document(kept)], 0, 1) == found[:1]


def test_without_data_the_task_says_where_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECRIA_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # no hub is asked
    with pytest.raises(MissingDataError, match="CodeXGLUE code-to-text, Python, test is not here"):
        TASK.groups(DocstringRecipe(), Given(Data(tmp_path), 0))
    with pytest.raises(MissingDataError, match="--corpus"):
        TASK.groups(DocstringRecipe(source="held_out"), Given(Data(tmp_path), 0))

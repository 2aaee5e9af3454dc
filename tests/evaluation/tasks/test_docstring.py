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


QUERY = '    query = """\n        SELECT name\n    """\n    return query\n'
HEADER = "def f(\n    a,  # in the header\n):\n    # above\n\n"


@pytest.mark.parametrize(
    ("opening", "told", "closing"),
    [
        ('"', "Return it's row.", '"'),
        ("'", "Return a row.", "'"),
        ('r"""', 'Return \\""" it.\n\n    More.\n    ', '"""'),
        ("u'''", 'Say """it""".', "'''"),
    ],
)
@pytest.mark.parametrize(("before", "indent"), [("", ""), ("@wraps(g)\n", ""), ("async ", ""), ("", "    ")])
@pytest.mark.parametrize("behind", ["\n", "  # noqa\n", "; a = 1\n"])
def test_the_hole_is_the_docstring_in_its_own_quotes(
    opening: str, told: str, closing: str, before: str, indent: str, behind: str
) -> None:
    code = f"{before}{HEADER}    {opening}{told}{closing}{behind}{QUERY}    print 'in Python 2'\n"
    code = "".join(indent + line for line in code.splitlines(keepends=True)) if "\n" not in told else code
    split = split_at_docstring(code)
    assert split is not None
    assert split[0].endswith(f"    {opening}") and split[1] == closing
    assert split[2].startswith(f"{closing}{behind}") and split[0] + told + split[2] == code


def test_what_is_no_docstring_is_not_split() -> None:
    texts = ['("a" "b")', '"a" "b"', '"a".join(b)', 'b"a"', 'f"a"', "x = 1"]
    assert {text: split_at_docstring(f"def f():\n    {text}\n{QUERY}") for text in texts} == dict.fromkeys(texts)
    assert split_at_docstring('def f():\n    """open') is None and split_at_docstring("def f(): 'a'\n") is None
    assert split_at_docstring("x = 1\n") is None and split_at_docstring("") is None


def test_a_row_of_the_published_split(
    marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer, tmp_path: Path
) -> None:
    path = tmp_path / "test.jsonl"
    rows = [
        {"code": CODE, "docstring": "Add two numbers.", "docstring_tokens": ["Add", "two", "numbers", "."]},
        {"code": "def f():\n    'x'\n", "docstring": "x", "docstring_tokens": ["x"]},
        {"code": "def f():\n    'x' 'y'\n", "docstring": "xy", "docstring_tokens": ["xy"]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    functions = list(read_functions(path))
    assert functions[0] == ("1", CODE, "Add two numbers .")
    assert [item.id for item in docstring_items(functions, "psm", 8)] == ["1", "2"]
    with Judge(enabled=False) as judge:
        groups = TASK.groups(DocstringRecipe(max_tokens=4), Given(Data(tmp_path), 0))
        found = [row for group in groups for row in finished(group.run(LocalSubject(tiny_model, marked[0]), judge))]
    assert [(row.task, row.method, row.id) for row in found] == [
        ("docstring/codexglue", method, number) for method in ("psm", "spm") for number in ("1", "2", "3")
    ]
    assert 0 <= found[0].measures["bleu"] <= 1 and "bleu" in found[1].measures
    assert found[2].not_run == {"bleu": "no one string stands first in the body"}
    assert len({group.name for group in groups}) == len(groups) == 4
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
    with pytest.raises(MissingDataError, match="name a corpus or a folder of code"):
        TASK.groups(DocstringRecipe(source="held_out"), Given(Data(tmp_path), 0))


def test_functions_of_a_folder(tmp_path: Path) -> None:
    given = Given(Data(tmp_path), 0, folder=tmp_path)
    with pytest.raises(MissingDataError, match="no documented Python functions are held out"):
        TASK.groups(DocstringRecipe(source="held_out"), given)
    (tmp_path / "a.py").write_text(CODE)
    groups = TASK.groups(DocstringRecipe(source="held_out"), given)
    assert [(group.name, group.items) for group in groups] == [
        ("docstring-held_out-psm-00000", 1),
        ("docstring-held_out-spm-00000", 1),
    ]

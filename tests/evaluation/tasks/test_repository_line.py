from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codecria.common.errors import CodecriaError
from codecria.corpus.document import Document, content_hash
from codecria.evaluation.data import Data, MissingDataError
from codecria.evaluation.judge import Judge
from codecria.evaluation.subject import LocalSubject
from codecria.evaluation.task import Given
from codecria.evaluation.tasks.repository_line import (
    MEASURES,
    PARTS,
    TASK,
    RepositoryLineRecipe,
    first_code_line,
    prompt_of,
    read_repobench,
)
from codecria.evaluation.tasks.repository_rows import CrossFileRow, Snippet, held_out_rows
from codecria.generation.sequence import Completion
from tests.evaluation.rows import finished

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer

BASE = "import os\n\n\n@cache\ndef load(path):\n    return open(path)\n\n\nclass Store:\n    pass\n"
USER = (
    '"""Uses."""\nimport sys\nfrom .base import Store as Kept, load\n\n\ndef main():\n    data = load(sys.argv[1])\n'
    "    return Kept(data)\n"
)


def python(path: str, text: str, origin: str = "repo 1.0") -> Document:
    return Document(text, "code", "Python", "MIT", origin, path, content_hash(text))


REPOSITORY = [
    python("pkg/__init__.py", ""),
    python("pkg/base.py", BASE),
    python("pkg/user.py", USER),
    python("tests/test_user.py", "from pkg.base import load\n\n\ndef test_it():\n    assert load('x')\n"),
    python("pkg/broken.py", "from .base import load\ndef (:\n"),
    python("other.py", "from elsewhere import load\n\nload('long enough')\n"),
    python("pkg/user.py", "from .base import load\n\n\nprint(load('another repository'))\n", "other 2.0"),
]


def test_held_out_rows_ask_for_the_first_use_of_another_file_s_name() -> None:
    rows = {row.path: row for row in held_out_rows(REPOSITORY, 0, 9)}
    assert set(rows) == {"pkg/user.py", "tests/test_user.py"}, "the other repository's base.py is not this one's"
    row = rows["pkg/user.py"]
    assert row.repository == "repo 1.0"
    assert row.imports == "import sys\nfrom .base import Store as Kept, load"
    assert row.code == "\n\ndef main():"
    assert row.next_line == "    data = load(sys.argv[1])"
    assert row.snippets == [
        Snippet("pkg/base.py", "class Store:\n    pass"),
        Snippet("pkg/base.py", "@cache\ndef load(path):\n    return open(path)"),
    ]
    assert rows["tests/test_user.py"].next_line == "    assert load('x')"
    assert held_out_rows(REPOSITORY[::-1], 0, 9) == held_out_rows(REPOSITORY, 0, 9)
    assert held_out_rows(REPOSITORY, 0, 1) == held_out_rows(REPOSITORY, 0, 9)[:1]


ROW = CrossFileRow(
    "1", "a/b", "b.py", [Snippet("a.py", "def one():\n    return 1")], "import a", "\n\n\n\nx = 1", "y = 2"
)


def test_the_prompt_is_repobench_s() -> None:
    prompt = prompt_of(ROW, "python", "cross_file", None, 0)
    assert prompt == ("# Repo Name: a/b\n# Path: a.py\ndef one():\n    return 1\n\n# Path: b.py\nimport a\n\nx = 1\n")
    alone = prompt_of(ROW, "java", "file_alone", None, 0)
    assert alone == "// Repo Name: a/b\n// Path: b.py\nimport a\n\nx = 1\n"


def test_a_long_prompt_loses_the_ends_of_its_snippets(plain_tokenizer: Tokenizer) -> None:
    snippets = [Snippet(f"{name}.py", f"{name} = 1\n" * 30) for name in "cde"]
    row = ROW._replace(snippets=snippets)
    whole = prompt_of(row, "python", "cross_file", plain_tokenizer, 10_000)
    assert whole == prompt_of(row, "python", "cross_file", None, 0)
    for limit in (60, 150, 300):
        prompt = prompt_of(row, "python", "cross_file", plain_tokenizer, limit)
        assert len(plain_tokenizer.encode(prompt)) <= limit
        before, file = prompt.split("# Path: b.py\n")
        assert file == "import a\n\nx = 1\n"
        assert whole.startswith(before.rstrip("\n"))
        assert len(plain_tokenizer.encode(prompt)) > limit - 25


@pytest.mark.parametrize(
    ("text", "language", "line"),
    [
        ("    x = 1\n    y = 2", "python", "    x = 1"),
        ("\n\n# why\n  # more\nx = 1", "python", "x = 1"),
        ('"""Doc\nstring."""\nx = 1', "python", "x = 1"),
        ('"""One line."""\nx = 1\n"""\ny = 2', "python", "y = 2"),
        ("# only\n# comments", "python", "# only"),
        ("", "python", ""),
        ("// a\n/* b\n c */\nint x;", "java", "int x;"),
        ("# no comment in Java", "java", "# no comment in Java"),
    ],
)
def test_the_line_is_the_first_that_is_no_comment(text: str, language: Any, line: str) -> None:
    assert first_code_line(text, language) == line


def published(folder: Path) -> Path:
    """Two parts of a published split, with its columns."""
    row = {
        "repo_name": "a/b",
        "file_path": "b.py",
        "context": [{"identifier": "one", "path": "a.py", "snippet": "def one():\n    return 1"}],
        "import_statement": "from a import one",
        "token_num": 700,
        "cropped_code": "x = 1",
        "all_code": "x = 1",
        "next_line": "y = one()",
        "gold_snippet_index": 0,
        "created_at": "2023-11-01",
        "level": "2k",
    }
    parts = [part for part in PARTS if (part.language, part.setting) == ("python", "cross_file_first")]
    for number, part in enumerate(parts):
        path = folder / part.file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{**row, "next_line": f"y = one({number})"}, {**row, "level": "128k"}]
        pq.write_table(pa.Table.from_pylist(rows), path)
    return folder


def test_published_rows_are_read_part_by_part(
    tmp_path: Path, marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer
) -> None:
    chosen: Any = {"languages": ("python",), "settings": ("cross_file_first",), "shown": ("cross_file", "file_alone")}
    recipe = RepositoryLineRecipe(**chosen, max_tokens=4)
    groups = TASK.groups(recipe, Given(Data(published(tmp_path)), 0, marked[0]))
    with Judge() as judge:
        rows = [row for group in groups for row in finished(group.run(LocalSubject(tiny_model, marked[0]), judge))]
    assert [(row.task, row.method) for row in rows] == [
        ("repository_line/python-cross_file_first", shown)
        for shown in ("cross_file", "cross_file", "file_alone", "file_alone")
    ]
    assert [row.context["truth"] for row in rows] == ["y = one(0)", "y = one(1)"] * 2
    assert rows[0].id == rows[2].id != rows[1].id, "methods are paired by item"
    assert set(rows[0].measures) == set(MEASURES)
    assert rows[0].prompt_sha256 != rows[2].prompt_sha256
    measure = groups[0].run.keywords["items"][0].measure  # pyright: ignore
    assert measure(Completion("# so\ny  =  one(0)\n", [], "stop", None, 1, 0, []))["line_match"] == 1.0


def test_other_files_and_missing_ones_are_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"repo_name": "a", "file_path": "b"}\n')
    with pytest.raises(CodecriaError, match="a row without 'context'"):
        list(read_repobench(path, ["2k"]))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingDataError, match=r"RepoBench v1.1, python, cross_file_first, part 0 is not here"):
        TASK.groups(RepositoryLineRecipe(), Given(Data(tmp_path), 0))
    with pytest.raises(MissingDataError, match="held-out files are needed; name a corpus or a folder of code"):
        TASK.groups(RepositoryLineRecipe(source="held_out"), Given(Data(), 0))

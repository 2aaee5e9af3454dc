from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codecria.common.errors import CodecriaError
from codecria.corpus.document import content_hash
from codecria.corpus.folder_documents import folder_documents

if TYPE_CHECKING:
    from pathlib import Path


def test_every_text_of_a_folder_is_a_document(tmp_path: Path) -> None:
    (tmp_path / "one" / "src").mkdir(parents=True)
    (tmp_path / "one" / "pyproject.toml").write_text("[project]\nname = 'one'\n")
    (tmp_path / "one" / "src" / "a.py").write_bytes("x = 'é'\r\n".encode())
    (tmp_path / "one" / "README.md").write_text("# One\n")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "b.java").write_text("class B {}\n")
    (tmp_path / "two" / "empty.py").write_text("")
    (tmp_path / "two" / "picture.py").write_bytes(b"\x89PNG\0\0\xff\xfe\x00\x01")
    found = {document.path: document for document in folder_documents(tmp_path)}
    assert set(found) >= {"one/src/a.py", "one/README.md", "two/b.java"}
    assert not {"two/empty.py", "two/picture.py"} & set(found)
    python = found["one/src/a.py"]
    assert (python.text, python.kind, python.language, python.origin) == ("x = 'é'\n", "code", "Python", "one")
    assert python.content_hash == content_hash(python.text)
    assert found["one/README.md"].kind == "code-related"
    assert found["two/b.java"].language == "Java"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CodecriaError):
        list(folder_documents(tmp_path / "none"))

import pytest

from codecria.common.errors import CodecriaError
from codecria.corpus.sources.folder import FolderRecipe

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software ... " + (
    "The above copyright notice and this permission notice shall be included in all copies."
)
APACHE = "Apache License\nVersion 2.0, January 2004"


@pytest.fixture
def tree(tmp_path):
    files = {
        "top.py": "x",
        "web/package.json": "{}",
        "web/LICENSE": MIT,
        "web/src/index.ts": "x",
        "web/src/vendor/LICENSE.txt": APACHE,
        "web/src/vendor/lib.js": "x",
        "tool/.git/config": "x",
        "tool/deep/er/main.go": "x",
        "tool/deep/er/notes.md": "x",
        "tool/data.csv": "1,2",
        "loose/a/b/script.sh": "x",
        "loose/requirements.txt": "x",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def listed(tree, **settings):
    return {one.path: one for one in FolderRecipe(path=str(tree), **settings).open().documents()}


def test_packages_licences_and_languages(tree):
    found = listed(tree)
    assert {path: (one.language, one.package, one.licence) for path, one in found.items()} == {
        "top.py": ("Python", tree.name, "unknown"),
        "top.py#docstrings": ("English", tree.name, "unknown"),
        "web/src/index.ts": ("TypeScript", "web", "MIT"),
        "web/src/vendor/lib.js": ("JavaScript", "web", "Apache-2.0"),
        "tool/deep/er/main.go": ("Go", "tool", "unknown"),
        "tool/deep/er/notes.md": ("Markdown", "tool", "unknown"),
        "loose/a/b/script.sh": ("Shell", "loose", "unknown"),
        "loose/requirements.txt": ("Text", "loose", "unknown"),
    }
    assert found["tool/deep/er/notes.md"].kind == "code-related"
    assert found["top.py"].kind == "code"


def test_settings(tree):
    found = listed(tree, languages=["Go"], licence="MIT", prose="natural", docstrings=False)
    assert sorted(found) == ["loose/requirements.txt", "tool/deep/er/main.go", "tool/deep/er/notes.md"]
    assert found["tool/deep/er/main.go"].licence == "MIT"
    assert found["tool/deep/er/notes.md"].kind == "natural"
    assert "top.py#docstrings" not in listed(tree, docstrings=False)


def test_no_such_folder(tmp_path):
    with pytest.raises(CodecriaError, match="absent: no such folder; check the path of the source"):
        FolderRecipe(path=str(tmp_path / "absent")).open()


def test_describe(tree):
    assert FolderRecipe(path=str(tree)).open().describe() == f"folder {tree}"

import gzip
import pickle
import zlib

import pytest

from codecria.common.errors import CodecriaError
from codecria.corpus.man_pages import man_to_text
from codecria.corpus.markup import html_to_markdown
from codecria.corpus.sources import folder
from codecria.corpus.sources.documentation import DocumentationRecipe
from codecria.corpus.sources.source import UnreadableError

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software ... " + (
    "The above copyright notice and this permission notice shall be included in all copies."
)
MAN = b".TH LS 1\n.SH NAME\nls \\- list\n"
HTML = b"<html><nav>skip</nav><main><h1>Use</h1><pre>a  b</pre></main></html>"


@pytest.fixture
def tree(tmp_path):
    files = {
        "index.html": HTML,
        "tool/LICENSE": MIT.encode(),
        "tool/usage.rst": b"Usage\n=====\n",
        "tool/deep/guide.md": b"# Guide",
        "tool/deep/page.xhtml": HTML,
        "tool/deep/old.HTM": HTML,
        "tool/notes.adoc": b"= Notes",
        "tool/Module.pod": b"=head1 X",
        "tool/code.py": b"x = 1",
        "tool/logo.png": b"\x89PNG",
        "man/man1/ls.1": MAN,
        "man/man3/printf.3.gz": gzip.compress(MAN),
        "man/man3/Foo::Bar.3pm.gz": gzip.compress(MAN),
        "man/man1/CA.pl.1ssl.gz": gzip.compress(MAN),
        "man/de/man1/ls.1.gz": gzip.compress(MAN),
        "man/pt_BR.UTF-8/man1/ls.1.gz": gzip.compress(MAN),
        "man/lib/libc.so.6": b"\x7fELF",
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def listed(tree, **settings):
    units = pickle.loads(pickle.dumps(list(DocumentationRecipe(path=str(tree), **settings).open().units())))
    return {one.path: one for unit in units for one in unit.files()}


def test_pages_by_name(tree):
    found = listed(tree)
    assert {path: (one.form, one.language, one.package, one.licence) for path, one in found.items()} == {
        "index.html": ("html", "English", tree.name, "unknown"),
        "tool/usage.rst": ("file", "reStructuredText", "tool", "MIT"),
        "tool/deep/guide.md": ("file", "Markdown", "tool", "MIT"),
        "tool/deep/page.xhtml": ("html", "English", "tool", "MIT"),
        "tool/deep/old.HTM": ("html", "English", "tool", "MIT"),
        "tool/notes.adoc": ("file", "AsciiDoc", "tool", "MIT"),
        "tool/Module.pod": ("file", "Pod", "tool", "MIT"),
        "man/man1/ls.1": ("man", "English", "man", "unknown"),
        "man/man3/printf.3.gz": ("man", "English", "man", "unknown"),
        "man/man3/Foo::Bar.3pm.gz": ("man", "English", "man", "unknown"),
        "man/man1/CA.pl.1ssl.gz": ("man", "English", "man", "unknown"),
    }
    assert {(one.kind, one.docstrings, one.origin == one.package) for one in found.values()} == {
        ("code-related", False, True)
    }
    assert {one.read() for one in found.values() if one.form == "man"} == {MAN}
    assert "ls - list" in man_to_text(found["man/man3/printf.3.gz"].read().decode())
    assert html_to_markdown(found["index.html"].read().decode()) == "# Use\n\n```\na  b\n```\n"


def test_the_recipe_s_licence_is_for_what_states_none(tree):
    found = listed(tree, licence="GFDL-1.3-only")
    assert found["man/man1/ls.1"].licence == "GFDL-1.3-only"
    assert found["tool/usage.rst"].licence == "MIT"


def test_what_is_packed_badly_is_named(tree):
    packed = gzip.compress(MAN * 100)
    (tree / "man/man1/cut.1.gz").write_bytes(packed[:-12])
    (tree / "man/man1/plain.1.gz").write_bytes(MAN)
    (tree / "man/man1/bad.1.gz").write_bytes(packed[:12] + b"\xff\xff" + packed[14:])
    (tree / "man/man1/bomb.1.gz").write_bytes(zlib.compress(b"", wbits=31) + gzip.compress(bytes(40_000_000)))
    found = listed(tree)

    def reason(name):
        with pytest.raises(UnreadableError) as caught:
            found[f"man/man1/{name}.1.gz"].read()
        return caught.value.reason

    assert [reason(name) for name in ("cut", "plain", "bad", "bomb")] == [
        "cut-short", "damaged", "damaged", "archive-bomb",
    ]  # fmt: skip


def test_units_are_runs(tree, monkeypatch):
    monkeypatch.setattr(folder, "_UNIT_FILES", 4)
    units = list(DocumentationRecipe(path=str(tree)).open().units())
    assert [len(unit.entries) for unit in units] == [4, 4, 3]
    assert len({unit.state for unit in units}) == 3


def test_no_such_folder(tmp_path):
    with pytest.raises(CodecriaError, match="absent: no such folder"):
        DocumentationRecipe(path=str(tmp_path / "absent")).open()
    assert DocumentationRecipe(path=str(tmp_path)).open().describe() == f"documentation {tmp_path}"

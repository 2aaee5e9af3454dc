import ast
import codecs
import gc
from pathlib import Path

import pytest

from codecria.corpus.filters import Dropped
from codecria.corpus.reading import decode, description, docstrings

TEXT = "# café\nprint('中文')\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
    ],
)
def test_byte_order_marks_and_line_ends(data):
    assert decode(data) == TEXT


def test_coding_lines_of_python():
    latin = "# -*- coding: latin-1 -*-\nname = 'café'\n"
    assert decode(latin.encode("latin-1")) == latin
    second = "#!/usr/bin/python\n# vim: set fileencoding=gbk :\nx = '中文'\n"
    assert decode(second.encode("gbk")) == second


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"name = 'caf\xe9'\n", "encoding", "byte 0xe9 at 11 is not UTF-8"),
        (b"# coding: klingon\ncaf\xe9", "encoding", "byte 0xe9 at 21 is not UTF-8"),
        (b"# coding: rot13\ncaf\xe9", "encoding", "byte 0xe9 at 19 is not UTF-8"),
        (b"\x7fELF\x00\x00", "binary", "a NUL byte"),
        (b"a" * 9000 + b"\0", "binary", "a NUL character"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8a\x00", "encoding", "byte 0x00 at 0 is not UTF-16-LE"),
    ],
)
def test_what_is_no_text_is_named(data, reason, detail):
    assert decode(data) == Dropped(reason, detail)


def test_no_text_holds_an_unpaired_surrogate():
    assert isinstance(decode(b"# coding: raw_unicode_escape\nx = '\\ud800\xe9'\n"), Dropped)


MODULE = '''"""A module about sums.

It is short.
"""
import os

class Adder(Base, metaclass=Meta):
    """Adds."""

    async def add(self, a: int, *rest: int, scale=1.0) -> list[int]:
        """Add numbers.

            >>> Adder().add(1)
            1
        """

    def silent(self):
        pass

def outer():
    """Outer."""
    def inner():
        """Hidden."""
'''


def test_docstrings_stand_after_what_they_describe():
    assert docstrings(MODULE, "package.sums", 20) == (
        "package.sums\n\n"
        "A module about sums.\n\nIt is short.\n\n"
        "class Adder(Base)\n    Adds.\n\n"
        "async def Adder.add(self, a: int, *rest: int, scale=1.0) -> list[int]\n"
        "    Add numbers.\n\n    >>> Adder().add(1)\n    1\n\n"
        "def outer()\n    Outer.\n"
    )


def test_few_docstrings_and_broken_modules():
    assert docstrings(MODULE, "m", 500) == Dropped("few-docstrings", "150 characters in triple quotes; at least 500")
    found = docstrings('"""A text."""\ndef broken(:\n', "m", 5)
    assert isinstance(found, Dropped)
    assert found.reason == "not-python"
    nested = '"""A text."""\nx = ' + "(" * 5_000 + ")" * 5_000
    assert isinstance(docstrings(nested, "m", 5), Dropped)


def test_invalid_escapes_in_others_code_raise_no_warning(recwarn):
    assert isinstance(docstrings('"""A text."""\nx = "\\d"\n', "m", 5), str)
    assert not recwarn.list


def test_docstring_with_an_escaped_surrogate_has_utf8():
    text = docstrings('"""A \\ud800 text."""\n', "m", 5)
    assert isinstance(text, str)
    assert text.encode() == b"m\n\nA ? text.\n"


def test_collection_of_garbage_stays_as_it_was():
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        docstrings(MODULE, "m", 20)
        docstrings("'''" + "x" * 50 + "''' (", "m", 20)
        assert gc.isenabled() is enabled
    gc.enable()


def test_docstrings_of_the_standard_library_are_python_still():
    text = docstrings(Path(ast.__file__).read_text(), "ast", 500)
    assert isinstance(text, str)
    assert text.startswith("ast\n\nast\n~~~\n\nThe `ast` module helps")
    assert "\n\ndef literal_eval(node_or_string)\n    Evaluate an expression node" in text


def test_descriptions_of_packages():
    assert description("Name: a\nVersion: 1\n\n# Title\n\nText.\n") == "# Title\n\nText.\n"
    old = "Metadata-Version: 1.1\nName: a\nDescription: First line\n        second line\n        \n        third\n\n"
    assert description(old) == "First line\nsecond line\n\nthird\n"
    assert isinstance(description("Name: a\nDescription: UNKNOWN\n\n"), Dropped)
    assert isinstance(description("Name: a\n\n"), Dropped)

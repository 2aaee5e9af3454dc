import ast
import codecs
import gc
import random
import zlib
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.corpus.filters import Dropped
from codecria.corpus.reading import decode, description, docstrings

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


C_SOURCE = """/* {} */
#include <stdio.h>

int main(void)
{{
    printf("%s\\n", "{}");
    return 0;
}}
"""
WRITTEN = {
    "cp1252": ("François Déry: “smart quotes” – and an ellipsis…", "Gerät größer als 5 µm, 20 €"),
    "latin-1": ("Copyright © 1998 Jörg Müller", "temperature in °C ± 0.5"),
    "iso8859-2": ("Autor: Łukasz Żółkiewski, część pierwsza", "nie można otworzyć pliku"),
    "cp1251": ("Эта функция возвращает сумму двух чисел", "Ошибка: файл не найден"),
    "koi8-r": ("Эта функция возвращает сумму двух чисел", "Ошибка: файл не найден"),
    "shift-jis": ("この関数は二つの整数の和を返します", "ファイルが見つかりません"),
    "euc-jp": ("この関数は二つの整数の和を返します", "ファイルが見つかりません"),
    "gb18030": ("这个函数返回两个整数的和", "错误：找不到文件"),
    "big5": ("這個函數傳回兩個整數的和", "錯誤：找不到檔案"),
    "euc-kr": ("이 함수는 두 정수의 합을 돌려준다", "파일을 찾을 수 없습니다"),
}


@pytest.mark.parametrize("encoding", WRITTEN)
def test_encodings_from_before_utf8_are_told_by_the_text(encoding):
    source = C_SOURCE.format(*WRITTEN[encoding])
    data = source.encode(encoding)
    with pytest.raises(UnicodeDecodeError):
        data.decode()
    assert decode(data) == source
    assert decode(("/* ascii */\n" * 20_000).encode() + data) == "/* ascii */\n" * 20_000 + source


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("words", WRITTEN.values())
def test_wide_encodings_without_a_mark(encoding, words):
    source = C_SOURCE.format(*words)
    assert decode(source.encode(encoding)) == source
    assert decode((source * 200).encode(encoding)) == source * 200


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn"])), st.sampled_from(["le", "be"])
)
def test_any_text_in_utf16_after_some_code(text, order):
    source = C_SOURCE.format("", "") + text
    assert decode(source.encode(f"utf-16-{order}")) == source


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"name = 'caf\xe9'\n", "name = 'café'\n"),
        (b"# coding: klingon\ncaf\xe9", "# coding: klingon\ncafé"),
        (b"# coding: rot13\ncaf\xe9", "# coding: rot13\ncafé"),
        (b'<meta charset="koi8-r">\n\xc6', '<meta charset="koi8-r">\nф'),
        (b"# coding: latin-1\n\x93a\x94", "# coding: latin-1\n“a”"),
        (b"int main(void)\n{ return 0; } /* \x81 */\n", "int main(void)\n{ return 0; } /* \ufffd */\n"),
        ("/* Łukasz */\n".encode() * 3 + b"/* J\xf6rg */\n", "/* Łukasz */\n" * 3 + "/* Jörg */\n"),
        (b"", ""),
    ],
)
def test_a_few_bytes_beyond_ascii(data, text):
    assert decode(data) == text


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (
            random.Random(1).randbytes(4_000).translate(None, bytes(range(0x80))),
            "encoding",
            "byte 0xf5 at 0 is not UTF-8",
        ),
        (b"x = '" + bytes(range(0x80, 0x100)) * 3 + b"'\n", "encoding", "byte 0x80 at 5 is not UTF-8"),
        (bytes(range(1, 256)), "binary", "24 control characters"),
        (zlib.compress(random.Random(1).randbytes(2_000)), "binary", "a NUL byte"),
        (b"\x7fELF\x00\x00", "binary", "a NUL byte"),
        (array("h", range(2_000)).tobytes(), "binary", "a NUL byte"),
        (b"a" * 9000 + b"\0", "binary", "a NUL character"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8a\x00", "encoding", "byte 0x00 at 0 is not UTF-16-LE"),
    ],
)
def test_what_is_no_text_is_named(data, reason, detail):
    assert decode(data) == Dropped(reason, detail)


@given(st.binary())
def test_whatever_the_bytes_a_text_has_utf8(data):
    text = decode(data)
    assert isinstance(text, Dropped) or text.encode().decode() == text
    assert decode(data) == text


def test_no_text_holds_an_unpaired_surrogate():
    text = decode(b"# coding: raw_unicode_escape\nx = '\\ud800\xe9'\n")
    assert text == "# coding: raw_unicode_escape\nx = '\\ud800é'\n"
    assert decode(b"# coding: punycode\n\xe9\n") == "# coding: punycode\né\n"


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

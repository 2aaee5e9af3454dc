"""From bytes to text: encodings, line ends, and the two kinds of prose that lie inside other files."""

from __future__ import annotations

import ast
import codecs
import email
import gc
import re
import unicodedata
import warnings
from collections import Counter

from chardetng_py import detect

from codecria.corpus.filters import Dropped

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LOOKED_AT_BYTES = 8_192
_DETECTED_BYTES = 65_536
_STATED = re.compile(rb"(?:coding|charset)[:=][ \t]*[\"']?([-\w.]+)")
_STRAYS = re.compile("[\udc80-\udcff]+")
_ACCENTS_TOGETHER = re.compile("[\x80-\U0010ffff]{2,}")
_ODD = ("Cc", "Cs", "Co", "Cn")
_CONTROLS_OF_TEXT = "\t\n\v\f\r\b\x1b"
_NOT_CONTROLS = bytes(range(0x20, 256)) + _CONTROLS_OF_TEXT.encode()
# Browsers read these labels as supersets of what they name, and so were the files written.
_WIDER = {"iso8859-1": "cp1252", "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs", "gbk": "gb18030"}
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_TRIPLE_QUOTED = re.compile(r'"""(?:.*?)"""|\'\'\'(?:.*?)\'\'\'', re.DOTALL)


def decode(data: bytes) -> str | Dropped:
    r"""The text of a file with `\n` line ends, or why it has none.

    A byte order mark decides the encoding and is removed; else UTF-8; else UTF-16 or UTF-32 where NUL bytes lie as
    in text; else what a coding line or `charset=` in the head names; else the encoding Firefox would take it for
    (chardetng), if what comes out looks like text. A few stray bytes in a UTF-8 file are read as Windows-1252.
    """
    encoding = "utf-8"
    for mark, named in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            data, encoding = data[len(mark) :], named
            break
    else:
        if b"\0" in data[:_LOOKED_AT_BYTES]:
            wide = _wide_encoding(data[:_LOOKED_AT_BYTES])
            if wide is None:
                return Dropped("binary", "a NUL byte")
            encoding = wide
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        found = _legacy(data, error.start) if encoding == "utf-8" else None
        if found is None:
            return Dropped("encoding", f"byte {data[error.start]:#04x} at {error.start:,} is not {encoding.upper()}")
        if isinstance(found, Dropped):
            return found
        text = found
    if "\0" in text:
        return Dropped("binary", "a NUL character")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark: of those that give text, the one with the most ASCII."""
    best, most = None, len(head) // 200
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError:
            continue
        ascii_characters = len(text.encode("ascii", "ignore"))
        if ascii_characters > most and "\0" not in text and _looks_like_text(text, encoding):
            best, most = encoding, ascii_characters
    return best


def _legacy(data: bytes, start: int) -> str | Dropped | None:
    """Text in an encoding from before UTF-8; `start` is where UTF-8 failed. None if no encoding gives text."""
    controls = len(data.translate(None, _NOT_CONTROLS))
    if controls > len(data) // 100:
        return Dropped("binary", f"{controls:,} control characters")
    text = data.decode("utf-8", "surrogateescape")
    strays = sum(map(len, _STRAYS.findall(text)))
    if strays <= len(text) - strays - len(text.encode("ascii", "ignore")):
        return _STRAYS.sub(lambda few: few[0].encode("ascii", "surrogateescape").decode("cp1252", "replace"), text)
    stated = _STATED.search(data[:1_024])
    line = data.rfind(b"\n", 0, start) + 1
    for label in (stated and stated.group(1).decode(), detect(data[line : line + _DETECTED_BYTES])):
        try:
            named = codecs.lookup(label or "").name
            text = data.decode(_WIDER.get(named, named), "replace")
            text.encode()  # some codecs give unpaired surrogates, which have no UTF-8
        except (LookupError, UnicodeError):
            continue
        if _looks_like_text(text, named):
            return text
    return None


def _looks_like_text(text: str, encoding: str) -> bool:
    """Whether hardly any character is a control, unassigned, private or lost, nor most accents side by side.

    The latter in the encoding of western Europe, which garbage is taken for.
    """
    characters = Counter(text)
    beyond_ascii = sum(count for one, count in characters.items() if one > "\x7f")
    odd = sum(
        count
        for one, count in characters.items()
        if one == "\ufffd" or (unicodedata.category(one) in _ODD and one not in _CONTROLS_OF_TEXT)
    )
    together = sum(map(len, _ACCENTS_TOGETHER.findall(text))) if encoding == "cp1252" else 0
    return odd <= max(1, beyond_ascii // 50) and together <= max(8, beyond_ascii // 2)


def description(metadata: str) -> str | Dropped:
    """The long description in a Python package's METADATA: its README."""
    message = email.message_from_string(metadata)
    body = message.get_payload()
    text = body if isinstance(body, str) else ""
    if not text.strip():
        # Metadata before 2.1 kept it in a header, continuation lines indented or marked with a bar.
        header = message.get("Description", "")
        text = re.sub(r"\n {7}[ |]", "\n", header)
    if text.strip() in ("", "UNKNOWN"):
        return Dropped("no-description", "the metadata holds no long description")
    return text.strip() + "\n"


def docstrings(source: str, module: str, min_characters: int) -> str | Dropped:
    """The docstrings of a Python module as one text: each after the line that defines what it describes.

    A module with little text in triple quotes is given up before it is parsed, docstrings in single quotes or not.

    Args:
        source: the module's source.
        module: its dotted name, the text's first line.
        min_characters: least total length of the docstrings; less is not worth a document.
    """
    # Parsing runs at 10 MB/s, this at 500, and half of all modules have too little between triple quotes.
    quoted = sum(len(found.group(0)) for found in _TRIPLE_QUOTED.finditer(source))
    if quoted < min_characters:
        return Dropped("few-docstrings", f"{quoted} characters in triple quotes; at least {min_characters}")
    # A syntax tree holds no cycles, and collecting them while it grows takes 40 % of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Dropped("not-python", f"{type(error).__name__}: {error}")
    finally:
        if collecting:
            gc.enable()
    parts: list[str] = []
    length = _gather(tree, "", parts)
    if length < min_characters:
        return Dropped("few-docstrings", f"{length} characters; at least {min_characters}")
    return f"{module}\n\n" + "\n\n".join(parts) + "\n"


def _gather(node: _Documented, owner: str, parts: list[str]) -> int:
    """Append the documented members of a module or class in the order of the source; return their length."""
    # Unpaired surrogates may be written as escapes; they have no UTF-8.
    text = (ast.get_docstring(node) or "").strip().encode("utf-8", "replace").decode()
    if text:
        parts.append(text if not owner else f"{_heading(node, owner)}\n{_indented(text)}")
    length = len(text)
    for child in node.body if isinstance(node, ast.Module | ast.ClassDef) else ():
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            length += _gather(child, f"{owner}.{child.name}".lstrip("."), parts)
    return length


def _heading(node: _Documented, name: str) -> str:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
        keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        return f"{keyword} {name}({ast.unparse(node.args)}){returns}"
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {name}({bases})" if bases else f"class {name}"
    return name


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.split("\n"))

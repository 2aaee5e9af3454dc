"""Read a GGUF file's header over a memory map: strict, without copying a weight.

The gguf library's reader builds a NumPy view for every string and takes 1.7 s on SmolLM2-135M; this one takes
0.03 s on the same file and machine.
Source: the format's description in ggml's `docs/gguf.md`; versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codecria.checkpoint.gguf.types import BLOCK_TYPES, BlockType, type_name
from codecria.common.errors import CodecriaError, explain_os_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Scalar = int | float | bool | str
Value = Scalar | list[Scalar]

MAGIC = b"GGUF"
MAX_DIMENSIONS = 4
_AGAIN = "fetch or write the file again"

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_STRING, _ARRAY = 8, 9
_SCALARS = {code: struct.Struct(f"<{letter}") for code, letter in enumerate("BbHhIif?  Qqd") if letter != " "}


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies. `shape` is outermost first, as in PyTorch (the file stores it innermost first)."""

    name: str
    shape: tuple[int, ...]
    kind: BlockType
    offset: int
    size: int


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file whose header has been read and checked; the weights stay in the memory map."""

    path: Path
    version: int
    metadata: dict[str, Value]
    tensors: dict[str, TensorInfo]
    _map: mmap.mmap

    def blocks(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a tensor, uint8 [..., bytes of a row], without a copy.

        The map is private: writing to the array changes this process's view only, never the file.
        """
        import numpy as np

        info = self.tensors[name]
        flat = np.frombuffer(self._map, dtype=np.uint8, count=info.size, offset=info.offset)
        return flat.reshape(*info.shape[:-1], info.kind.row_bytes(info.shape[-1]))


class _Cursor:
    """Bounded reads from the map; every refusal names the byte."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path = data, path
        self.end, self.position = len(data), 0

    def number(self, layout: struct.Struct, what: str) -> int | float | bool:
        start = self.position
        self.position = start + layout.size
        if self.position > self.end:
            raise self.truncated(what, start, layout.size)
        return layout.unpack_from(self.data, start)[0]

    def integer(self, layout: struct.Struct, what: str) -> int:
        return int(self.number(layout, what))

    def string(self, what: str) -> str:
        length = self.integer(_U64, what)
        start = self.position
        self.position = start + length
        if self.position > self.end:
            raise self.truncated(what, start, length)
        try:
            return self.data[start : self.position].decode()
        except UnicodeDecodeError as error:
            raise self.damaged(f"{what} at byte {start} is not UTF-8") from error

    def strings(self, count: int, what: str) -> list[str]:
        """`count` strings; one tight loop, since vocabularies hold 100,000 of them."""
        data, end, position, unpack = self.data, self.end, self.position, _U64.unpack_from
        found: list[str] = []
        append = found.append
        start = position
        try:
            for _ in range(count):
                start = position + 8
                position = start + unpack(data, position)[0]
                if position > end:
                    raise self.truncated(what, start, position - start)
                append(data[start:position].decode())
        except struct.error as error:
            raise self.truncated(what, position, 8) from error
        except UnicodeDecodeError as error:
            raise self.damaged(f"{what} at byte {start} is not UTF-8") from error
        self.position = position
        return found

    def damaged(self, what: str) -> CodecriaError:
        return CodecriaError(what, where=self.path, mend=_AGAIN)

    def truncated(self, what: str, start: int, length: int) -> CodecriaError:
        return self.damaged(f"truncated: {what} needs {length} bytes at byte {start}, the file has {self.end}")


def read_gguf(path: Path | str) -> GgufFile:
    """Map a GGUF file and read its metadata and tensor table.

    Raises:
        CodecriaError: the file is absent, is not GGUF, has a version other than 2 or 3, is big-endian, is one part
            of a split file, is cut off or damaged (the byte is named), or a tensor has a type that is not read here.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            # A private writable map: torch takes its buffer without a copy and without a warning.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except ValueError as error:
        raise CodecriaError("an empty file, not GGUF", where=path, mend=_AGAIN) from error
    except OSError as error:
        raise explain_os_error(error, path) from error
    cursor = _Cursor(data, path)
    version = _read_version(cursor)
    tensor_count = cursor.integer(_U64, "the number of tensors")
    key_count = cursor.integer(_U64, "the number of keys")
    metadata: dict[str, Value] = {}
    for _ in range(key_count):
        key = cursor.string("a key")
        if key in metadata:
            raise cursor.damaged(f"the key '{key}' stands twice")
        metadata[key] = _read_value(cursor, key)
    if metadata.get("split.count", 0) not in (0, 1):
        mend = "merge the parts first: llama-gguf-split --merge"
        raise CodecriaError(f"one of {metadata['split.count']} parts of a model", where=path, mend=mend)
    tensors = _read_tensors(cursor, tensor_count, _alignment(cursor, metadata))
    return GgufFile(path, version, metadata, tensors, data)


def _read_version(cursor: _Cursor) -> int:
    start = cursor.data[: len(MAGIC)]
    if start != MAGIC:
        shown = start.decode("latin-1").encode("unicode_escape").decode()
        mend = "name a .gguf file" if len(start) == len(MAGIC) else _AGAIN
        raise CodecriaError(f"not a GGUF file: it starts with '{shown}'", where=cursor.path, mend=mend)
    cursor.position = len(MAGIC)
    version = cursor.integer(_U32, "the version")
    if version in (2, 3):
        return version
    if version & 0xFFFF == 0:
        raise CodecriaError("a big-endian GGUF file", where=cursor.path, mend="convert it to little-endian")
    mend = "write it again with a current converter" if version < 2 else "versions 2 and 3 are read"
    raise CodecriaError(f"GGUF version {version}", where=cursor.path, mend=mend)


def _read_value(cursor: _Cursor, key: str) -> Value:
    what = f"the value of '{key}'"
    code = cursor.integer(_U32, what)
    if code == _STRING:
        return cursor.string(what)
    if code != _ARRAY:
        return cursor.number(_scalar(cursor, code, key), what)
    code = cursor.integer(_U32, what)
    count = cursor.integer(_U64, what)
    layout = _U64 if code == _STRING else _scalar(cursor, code, key)
    if count * layout.size > cursor.end - cursor.position:
        claim = f"the array '{key}' claims {count} items at byte {cursor.position}"
        raise cursor.damaged(f"truncated: {claim}, the file has {cursor.end} bytes")
    if code == _STRING:
        return [*cursor.strings(count, what)]
    items = struct.unpack_from(f"<{count}{layout.format[-1]}", cursor.data, cursor.position)
    cursor.position += count * layout.size
    return [*items]


def _scalar(cursor: _Cursor, code: int, key: str) -> struct.Struct:
    if code in _SCALARS:
        return _SCALARS[code]
    if code == _ARRAY:
        raise cursor.damaged(f"'{key}' is an array of arrays, which no language model has")
    raise cursor.damaged(f"'{key}' has the unknown value type {code}, just before byte {cursor.position}")


def _alignment(cursor: _Cursor, metadata: dict[str, Value]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 8 or alignment % 8:
        raise cursor.damaged(f"'general.alignment' = {alignment!r} is no multiple of 8")
    return alignment


def _read_tensors(cursor: _Cursor, count: int, alignment: int) -> dict[str, TensorInfo]:
    """The tensor table, with offsets made absolute. As in llama.cpp, tensors lie one after another, padded."""
    table: list[tuple[str, tuple[int, ...], BlockType, int]] = []
    for _ in range(count):
        name = cursor.string("a tensor's name")
        what = f"the entry of tensor '{name}'"
        dimensions = cursor.integer(_U32, what)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise cursor.damaged(f"tensor '{name}' has {dimensions} dimensions")
        shape = tuple(cursor.integer(_U64, what) for _ in range(dimensions))[::-1]
        code = cursor.integer(_U32, what)
        offset = cursor.integer(_U64, what)
        table.append((name, shape, _block_type(cursor, name, shape, code), offset))
    base = _padded(cursor.position, alignment)
    tensors: dict[str, TensorInfo] = {}
    expected = 0
    for name, shape, kind, offset in table:
        size = math.prod(shape[:-1]) * kind.row_bytes(shape[-1])
        if name in tensors:
            raise cursor.damaged(f"tensor '{name}' stands twice")
        if offset != expected:
            raise cursor.damaged(f"tensor '{name}' starts at offset {offset}, expected {expected}")
        if base + offset + size > cursor.end:
            raise cursor.truncated(f"tensor '{name}'", base + offset, size)
        tensors[name] = TensorInfo(name, shape, kind, base + offset, size)
        expected = _padded(offset + size, alignment)
    return tensors


def _block_type(cursor: _Cursor, name: str, shape: tuple[int, ...], code: int) -> BlockType:
    kind = BLOCK_TYPES.get(code)
    if kind is None:
        known = ", ".join(known.name for known in BLOCK_TYPES.values())
        mend = f"use a file whose tensors have the types {known}"
        raise CodecriaError(f"tensor '{name}' has the type {type_name(code)}", where=cursor.path, mend=mend)
    if 0 in shape:
        raise cursor.damaged(f"tensor '{name}' has the shape {list(shape)}")
    if shape[-1] % kind.numbers:
        raise cursor.damaged(f"tensor '{name}': rows of {shape[-1]} are no multiple of {kind.name}'s {kind.numbers}")
    return kind


def _padded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment

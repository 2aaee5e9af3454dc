"""Frames on a pipe, and values written as bytes: plain data crosses by value, anything else by reference.

pickle would run what the other side wrote, marshal may crash on it, JSON has no tuples. The reader here makes only
built-in data and the few standard-library types in `_KNOWN`, always of exactly that type.
"""

from __future__ import annotations

import importlib
import json
import os
import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FRAME_BYTES_MAX = 1 << 28
_READ_BYTES = 4096
_LENGTH = struct.Struct("<I")
_SMALL_INTEGER = struct.Struct("<q")
_REAL = struct.Struct("<d")


class WireError(Exception):
    """The bytes are not what `encode` writes, or a value cannot be written."""


def read_exactly(descriptor: int, count: int) -> bytes:
    """`count` bytes from a pipe; fewer only where it ended."""
    parts: list[bytes] = []
    while count:
        part = os.read(descriptor, min(count, 1 << 20))
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_frame(descriptor: int) -> bytes | None:
    """The next frame; None where the pipe ended or what it says cannot be a frame."""
    head = read_exactly(descriptor, _LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (count,) = _LENGTH.unpack(head)
    if count > FRAME_BYTES_MAX:
        return None
    body = read_exactly(descriptor, count)
    return body if len(body) == count else None


class Frames:
    """The frames of a pipe that nothing else is read from: a small one costs one call of the system."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = b""

    def frame(self) -> bytes | None:
        """What `read_frame` gives."""
        held = self._held
        while len(held) < _LENGTH.size:
            part = os.read(self._descriptor, _READ_BYTES)
            if not part:
                return None
            held += part
        (count,) = _LENGTH.unpack_from(held)
        end = _LENGTH.size + count
        if count > FRAME_BYTES_MAX:
            return None
        if len(held) < end:
            held += read_exactly(self._descriptor, end - len(held))
        self._held = held[end:]
        return held[_LENGTH.size : end] if len(held) >= end else None


def frame(body: bytes) -> bytes:
    """A frame: four bytes of length, then the body."""
    if len(body) > FRAME_BYTES_MAX:
        raise WireError(f"a message of {len(body)} bytes; at most {FRAME_BYTES_MAX} cross")
    return _LENGTH.pack(len(body)) + body


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, however often the pipe takes only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def reply(message: dict[str, Any]) -> None:
    """Send a message to the world outside, as JSON on descriptor 1."""
    write_all(1, frame(json.dumps(message).encode()))


def encode(value: object, refer: Callable[[Any], tuple[object, ...]]) -> bytes:
    """Write a value; what is not plain data is written as the tuple that `refer` gives for it.

    Raises:
        WireError: the value holds itself, or is nested too deeply.
    """
    out = bytearray()
    try:
        _put(out, value, refer)
    except RecursionError:
        raise WireError("a value that holds itself or is nested too deeply") from None
    return bytes(out)


def decode(data: bytes, resolve: Callable[[tuple[Any, ...]], object]) -> Any:
    """Read what `encode` wrote; `resolve` turns a reference's tuple into an object.

    Raises:
        WireError: the bytes are not of that form.
    """
    reader = _Reader(data, resolve)
    try:
        value = _take(reader)
    except (IndexError, KeyError, ValueError, TypeError, OverflowError, ArithmeticError, struct.error) as error:
        raise WireError(f"not a value: {type(error).__name__}: {error}") from None
    except RecursionError:
        raise WireError("a value nested too deeply") from None
    if reader.at != len(data):
        raise WireError(f"{len(data) - reader.at} bytes too many")
    return value


class _Reader:
    def __init__(self, data: bytes, resolve: Callable[[tuple[Any, ...]], object]) -> None:
        self.data = data
        self.at = 0
        self.resolve = resolve

    def unpack(self, form: struct.Struct) -> Any:
        (value,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value

    def bytes(self) -> bytes:
        count = self.unpack(_LENGTH)
        self.at += count
        if self.at > len(self.data):
            raise IndexError("cut off")
        return self.data[self.at - count : self.at]

    def items(self) -> list[Any]:
        return [_take(self) for _ in range(self.unpack(_LENGTH))]

    def pairs(self) -> dict[Any, Any]:
        return {_take(self): _take(self) for _ in range(self.unpack(_LENGTH))}


def _put(out: bytearray, value: Any, refer: Callable[[Any], tuple[object, ...]]) -> None:
    kind = type(value)
    if kind is str:
        _put_bytes(out, b"s", value.encode("utf-8", "surrogatepass"))
    elif kind is int:
        if -(1 << 63) <= value < 1 << 63:
            out += b"i" + _SMALL_INTEGER.pack(value)
        else:
            _put_bytes(out, b"I", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    elif kind is float:
        out += b"f" + _REAL.pack(value)
    elif kind in _CONSTANT_TAGS:
        out += _CONSTANT_TAGS[kind] if kind is not bool else (b"T" if value else b"F")
    elif kind in _SEQUENCE_TAGS:
        _put_items(out, _SEQUENCE_TAGS[kind], value, refer)
    elif kind is dict:
        out += b"d" + _LENGTH.pack(len(value))
        for key, item in value.items():
            _put(out, key, refer)
            _put(out, item, refer)
    elif kind is bytes or kind is bytearray:
        _put_bytes(out, b"b" if kind is bytes else b"a", value)
    elif name := known_name(kind):
        out += b"k"
        _put(out, (name, *_KNOWN[name][1](value)), refer)
    else:
        out += b"r"
        _put(out, refer(value), refer)


def _put_bytes(out: bytearray, tag: bytes, data: bytes | bytearray) -> None:
    out += tag + _LENGTH.pack(len(data))
    out += data


def _put_items(out: bytearray, tag: bytes, items: Iterable[object], refer: Callable[[Any], tuple[object, ...]]) -> None:
    held = list(items)
    out += tag + _LENGTH.pack(len(held))
    for item in held:
        _put(out, item, refer)


def _take(reader: _Reader) -> Any:
    tag = reader.data[reader.at]
    reader.at += 1
    return _TAKERS[tag](reader)


def _take_known(reader: _Reader) -> Any:
    parts = _take(reader)
    if type(parts) is not tuple:
        raise TypeError("a known type without its parts")
    name, *details = parts
    return known_type(name)(*details)


def known_type(name: str) -> type:
    """The type of the standard library that crosses by this name.

    Raises:
        KeyError: none does.
    """
    return getattr(importlib.import_module(_KNOWN[name][0]), name)


def known_name(kind: type) -> str | None:
    """The name by which values of exactly this type cross, if it is of `_KNOWN`. Nothing is imported to find out."""
    name = kind.__name__
    if name in _KNOWN and getattr(sys.modules.get(_KNOWN[name][0]), name, None) is kind:
        return name
    return None


_CONSTANT_TAGS: dict[type, bytes] = {type(None): b"N", bool: b"T", type(Ellipsis): b".", type(NotImplemented): b"!"}
_SEQUENCE_TAGS: dict[type, bytes] = {list: b"l", tuple: b"t", set: b"e", frozenset: b"z"}

_TAKERS: dict[int, Callable[[_Reader], Any]] = {
    ord("N"): lambda _: None,
    ord("T"): lambda _: True,
    ord("F"): lambda _: False,
    ord("."): lambda _: Ellipsis,
    ord("!"): lambda _: NotImplemented,
    ord("i"): lambda reader: reader.unpack(_SMALL_INTEGER),
    ord("I"): lambda reader: int.from_bytes(reader.bytes(), "little", signed=True),
    ord("f"): lambda reader: reader.unpack(_REAL),
    ord("s"): lambda reader: reader.bytes().decode("utf-8", "surrogatepass"),
    ord("b"): lambda reader: reader.bytes(),
    ord("a"): lambda reader: bytearray(reader.bytes()),
    ord("l"): lambda reader: reader.items(),
    ord("t"): lambda reader: tuple(reader.items()),
    ord("e"): lambda reader: set(reader.items()),
    ord("z"): lambda reader: frozenset(reader.items()),
    ord("d"): lambda reader: reader.pairs(),
    ord("k"): _take_known,
    ord("r"): lambda reader: reader.resolve(_take(reader)),
}


def _date_parts(value: Any) -> tuple[int, ...]:
    return (value.year, value.month, value.day)


def _clock_parts(value: Any) -> tuple[object, ...]:
    return (value.hour, value.minute, value.second, value.microsecond, value.tzinfo)


_KNOWN: dict[str, tuple[str, Callable[[Any], tuple[Any, ...]]]] = {
    "complex": ("builtins", lambda v: (v.real, v.imag)),
    "range": ("builtins", lambda v: (v.start, v.stop, v.step)),
    "slice": ("builtins", lambda v: (v.start, v.stop, v.step)),
    "Counter": ("collections", lambda v: (dict(v),)),
    "OrderedDict": ("collections", lambda v: (dict(v),)),
    "defaultdict": ("collections", lambda v: (v.default_factory, dict(v))),
    "deque": ("collections", lambda v: (list(v), v.maxlen)),
    "Decimal": ("decimal", lambda v: (str(v),)),
    "Fraction": ("fractions", lambda v: (v.numerator, v.denominator)),
    "timedelta": ("datetime", lambda v: (v.days, v.seconds, v.microseconds)),
    "timezone": ("datetime", lambda v: (v.utcoffset(None),)),
    "date": ("datetime", _date_parts),
    "time": ("datetime", _clock_parts),
    "datetime": ("datetime", lambda v: (*_date_parts(v), *_clock_parts(v))),
}
"""Modules and parts of the types of the standard library that cross by value. Decimal, fractions and dates are imported
when the first one comes: few programs have any."""

PLAIN_TYPES = frozenset({*_CONSTANT_TAGS, *_SEQUENCE_TAGS, dict, int, float, str, bytes, bytearray})
"""Types that cross by value, besides those of `known_type`; they themselves cross by name."""

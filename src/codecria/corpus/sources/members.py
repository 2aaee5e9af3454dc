"""Archives as streams of members: zip, tar however compressed, .deb and .gem. Nothing is written to the disk.

Their first bytes say what they are, not their names. Whatever an archive holds, reading it comes to an end in bounded
memory, and what is not given is named. Links are passed by; of several members of one name the first is given.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from calendar import timegm
from contextlib import suppress
from functools import partial
from io import BufferedReader, RawIOBase
from struct import error as StructError
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import pyarrow as pa

from codecria.corpus.sources.source import UnreadableError
from codecria.corpus.sources.walk import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEMBER_BYTES = 32_000_000  # longest member that is read, eight times the longest document; memory holds it twice
UNPACKED_BYTES = 8_000_000_000  # most that an archive may unpack to: five Linux kernels
RATIO = 200  # most that it may unpack to against its size: source code comes to 4 to 10, tables of numbers to 100
UNTESTED_BYTES = 64_000_000  # so much may come out of any: small ones with test data in them exceed the ratio
MEMBERS = 500_000  # Chromium has 400,000
TABLE_BYTES = 16_000_000  # table of contents of a zip: 150,000 members; zipfile makes at most 150 MB of it
HEADER_BYTES = 1_000_000  # extended header of a tar member; attributes of macOS take 100,000
XZ_BYTES = 150_000_000  # memory for unpacking: `xz -9` takes 67 MB, the format allows 4 GB
NAME_CHARACTERS = 4_096  # Linux opens no longer path
SINCE_S, UNTIL_S = 631_152_000, 4_102_444_800  # 1990 to 2100: wheels and npm write dates before, the hostile any

_BLOCK = 131_072
_ERRORS = (EOFError, OSError, ValueError, RuntimeError, ArithmeticError, LookupError)
_BROKEN = (*_ERRORS, zlib.error, lzma.LZMAError, StructError, zipfile.BadZipFile)
_ZIP = (b"PK\3\4", b"PK\5\6")
_DEB = b"!<arch>\ndebian-binary"


class Member(NamedTuple):
    r"""A file of an archive.

    Attributes:
        path: as the archive has it, less `./`, and valid UTF-8: bytes that are not are written `\xNN`.
        modified_s: seconds since 1970; 0 where that lies before 1990.
        data: what it holds.
    """

    path: str
    modified_s: int
    data: bytes


class Problem(NamedTuple):
    """What is not given, and why: as `Refused`. The path is `.` where it is the rest of the archive."""

    path: str
    size_bytes: int
    reason: str
    detail: str


class _Entry(NamedTuple):
    """A member by its headers; `read` may be called until the next is asked for."""

    name: str
    size: int
    modified_s: int
    read: Callable[[], bytes]
    refused: tuple[str, str] | None


def members(file: str, wants: Callable[[str], bool]) -> Iterator[Member | Problem]:
    """The regular files of an archive, in its order, and what is wrong with it.

    Args:
        file: on this machine.
        wants: is asked for the path of each regular file; only what it wants is read.

    Raises:
        OSError: the file cannot be read.
    """
    seen: set[int] = set()
    number = 0
    try:
        with cast("BufferedReader", open_regular(file, follow_links=True)) as packed:
            meter = _Meter(os.fstat(packed.fileno()).st_size)
            entries = _zip(packed, meter) if packed.peek(8).startswith(_ZIP) else _layers(_Stream(packed), meter)
            for number, entry in enumerate(entries):
                if number == MEMBERS:
                    raise UnreadableError("archive-bomb", f"over {MEMBERS:,} members")
                if entry is not None and (given := _given(entry, wants, seen)) is not None:
                    yield given
    except UnreadableError as error:
        yield Problem(".", 0, error.reason, f"{error.detail}, after {number:,} members")


def _given(entry: _Entry, wants: Callable[[str], bool], seen: set[int]) -> Member | Problem | None:
    name, size, modified_s, read, refused = entry
    path = "/".join(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in name.split("/") or not 0 < len(path) <= NAME_CHARACTERS:
        return Problem(path[:NAME_CHARACTERS], size, "unsafe-path", "leads out of the archive, or is no path")
    if refused is not None:
        return Problem(path, size, *refused)
    if not wants(path):
        return None
    if hash(path) in seen:
        return Problem(path, size, "duplicate-member", "an earlier member has this name")
    seen.add(hash(path))
    if size > MEMBER_BYTES:
        return Problem(path, size, "too-long", f"{size:,} bytes; at most {MEMBER_BYTES:,}")
    try:
        return Member(path, modified_s if SINCE_S <= modified_s < UNTIL_S else 0, read())
    except _BROKEN as error:  # in a zip: its other members can be read
        return Problem(path, size, "damaged", _said(error))


def _said(error: Exception) -> str:
    return str(error).lower() or type(error).__name__


class _Meter:
    """Counts what comes out of an archive, and ends it where that is too much."""

    def __init__(self, packed_bytes: int) -> None:
        self._packed_bytes, self._unpacked_bytes = packed_bytes, 0
        self._most_bytes = min(UNPACKED_BYTES, max(UNTESTED_BYTES, RATIO * packed_bytes))

    def add(self, size: int) -> None:
        self._unpacked_bytes += size
        if self._unpacked_bytes > self._most_bytes:
            detail = f"{self._packed_bytes:,} bytes unpack to over {self._most_bytes:,}"
            raise UnreadableError("archive-bomb", detail)


class _Zip(BufferedReader):
    """A file for zipfile, which reads the table of contents at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > TABLE_BYTES:
            raise UnreadableError("archive-bomb", f"its table of contents is over {TABLE_BYTES:,} bytes long")
        return super().read(size)


def _zip(packed: BufferedReader, meter: _Meter) -> Iterator[_Entry | None]:
    """By the table of contents. The sizes in it are counted as they stand: zipfile gives no more than they say."""
    try:
        archive = zipfile.ZipFile(_Zip(packed.raw))
    except _BROKEN as error:
        reason = "cut-short" if "not a zip" in str(error) else "damaged"
        raise UnreadableError(reason, f"no table of contents: {_said(error)}") from error
    for info in archive.infolist():
        meter.add(info.file_size)
        mode = stat.S_IFMT(info.external_attr >> 16)
        if info.filename.endswith(("/", "\\")) or mode in (stat.S_IFLNK, stat.S_IFDIR):
            yield None
            continue
        refused = None
        if mode not in (0, stat.S_IFREG):
            refused = ("not-a-file", "a device or a pipe")
        elif info.flag_bits & 0x41:
            refused = ("encrypted", "cannot be read without a password")
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile unpacks a block of another method whole, whatever it comes to.
            refused = ("unknown-compression", f"method {info.compress_type}; 0 and 8 are known")
        name = info.filename.replace("\\", "/")
        if not info.flag_bits & 0x800:  # zipfile reads it as DOS wrote names; mostly it is UTF-8 all the same
            name = name.encode("cp437").decode("utf-8", "backslashreplace")
        modified_s = 0
        with suppress(ValueError):  # no such month
            modified_s = timegm((*info.date_time, 0, 0, 0))
        yield _Entry(name, info.file_size, modified_s, partial(_unzipped, archive, info), refused)


def _unzipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as opened:
        return b"".join(iter(partial(opened.read, _BLOCK), b""))


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Stream(RawIOBase):
    """Some bytes of an archive, which may know how many they are. Each read gives as many as it is asked for.

    Raises:
        UnreadableError: "cut-short", "damaged", "archive-bomb".
    """

    def __init__(self, source: _Readable, size: int | None = None, meter: _Meter | None = None) -> None:
        self._source, self._left, self._meter = source, size, meter
        self._ahead = b""

    def readable(self) -> bool:
        return True

    def peek(self, size: int) -> bytes:
        head = self.read(size)
        self._ahead = head + self._ahead
        self._left = None if self._left is None else self._left + len(head)
        return head

    def read(self, size: int = -1, /) -> bytes:
        if self._left is not None:
            size = self._left if size < 0 else min(size, self._left)
        parts, self._ahead = [self._ahead[:size]], self._ahead[size:]
        missing = size - len(parts[0])
        while missing and (part := self._next(min(missing, _BLOCK))):
            parts.append(part)
            missing -= len(part)
        if self._left is not None:
            if missing:
                raise UnreadableError("cut-short", "ends inside a member")
            self._left -= size
        return b"".join(parts)

    def skip(self) -> None:
        while self.read(_BLOCK):
            pass

    def _next(self, size: int) -> bytes:
        try:
            data = self._source.read(size)
        except _BROKEN as error:
            if isinstance(error, OSError) and error.errno:
                raise  # of the disk
            is_short = isinstance(error, EOFError) or "runcated" in str(error)
            raise UnreadableError("cut-short" if is_short else "damaged", _said(error)) from error
        if self._meter is not None:
            self._meter.add(len(data))
        return data


class _Decoder:
    """Streams of xz or bzip2, one after the other, and zeros between and behind them."""

    def __init__(self, packed: _Stream, make: Callable[[], lzma.LZMADecompressor | bz2.BZ2Decompressor]) -> None:
        self._packed, self._make, self._decoder = packed, make, make()

    def read(self, size: int, /) -> bytes:
        while True:
            taken = b""
            if self._decoder.eof:
                taken = self._decoder.unused_data.lstrip(b"\0") or self._packed.read(_BLOCK).lstrip(b"\0")
                if not taken:
                    return b""
                self._decoder = self._make()
            elif self._decoder.needs_input and not (taken := self._packed.read(_BLOCK)):
                raise EOFError("the end is missing")
            if data := self._decoder.decompress(taken, size):
                return data


def _arrow(codec: str, packed: _Stream) -> _Readable:
    return pa.CompressedInputStream(pa.PythonFile(packed, "r"), codec)


_XZ = partial(lzma.LZMADecompressor, memlimit=XZ_BYTES)
_COMPRESSIONS: dict[bytes, Callable[[_Stream], _Readable]] = {
    b"\x1f\x8b": lambda packed: gzip.GzipFile(fileobj=packed, mode="rb"),
    b"BZh": lambda packed: _Decoder(packed, bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": lambda packed: _Decoder(packed, _XZ),
    b"\x5d\0\0": lambda packed: _Decoder(packed, _XZ),
    b"\x28\xb5\x2f\xfd": partial(_arrow, "zstd"),
    b"\x04\x22\x4d\x18": partial(_arrow, "lz4"),
}


def _unpacked(packed: _Stream, meter: _Meter) -> _Stream:
    """What is compressed, counted; what is not, as it is."""
    head = packed.peek(tarfile.BLOCKSIZE)
    for magic, unpack in _COMPRESSIONS.items():
        if head.startswith(magic) and head[257:262] != b"ustar":  # that a tar begins with a name
            return _Stream(unpack(packed), meter=meter)
    return packed


def _layers(packed: _Stream, meter: _Meter) -> Iterator[_Entry | None]:
    """A tar, which may be compressed, or lie inside the archive of another sort that a .deb or a .gem is."""
    if not packed.peek(len(_DEB)).startswith(_DEB):
        stream = _unpacked(packed, meter)
        yield from _tar(stream, meter if stream is packed else None)
        return
    packed.read(8)
    while len(header := packed.read(60)) == 60 and header[48:58].strip().isdigit():
        size = int(header[48:58])
        data = _Stream(packed, size)
        if header.startswith(b"data.tar"):
            yield from _tar(_unpacked(data, meter), None)
            return
        data.skip()
        packed.read(size % 2)
    raise UnreadableError("cut-short", "a .deb without data.tar")


def _tar(stream: _Stream, inner: _Meter | None) -> Iterator[_Entry | None]:
    """By its blocks, each read by tarfile, which is not trusted to find the next.

    It follows hostile ones for hours (CVE-2024-6232), takes a damaged one for the end, and keeps all in memory. `inner`
    counts what a `data.tar.gz` inside unpacks to, where there may be one.
    """
    said: dict[str, str] = {}
    info = None
    while block := stream.read(tarfile.BLOCKSIZE):
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
        except tarfile.HeaderError as error:
            if block == bytes(tarfile.BLOCKSIZE):
                break  # the end
            reason = "not-an-archive" if info is None else "cut-short" if len(block) < tarfile.BLOCKSIZE else "damaged"
            raise UnreadableError(reason, _said(error)) from error
        extends = _HEADERS.get(info.type)
        size = info.size if extends else int(said.get("size", info.size))
        if size < 0 or (extends and size > HEADER_BYTES):
            raise UnreadableError("damaged", f"a header of {size:,} bytes; at most {HEADER_BYTES:,}")
        if info.type in _WITHOUT_DATA:
            size = 0
        has_more = info.type == tarfile.GNUTYPE_SPARSE and block[482]
        while has_more:  # blocks that say where its holes are
            has_more = _Stream(stream, tarfile.BLOCKSIZE).read()[504]
        data = _Stream(stream, size)
        if extends:
            said |= extends(data.read())
            yield None
        elif inner and info.name == "data.tar.gz":
            yield from _tar(_unpacked(data, inner), None)
        else:
            refused = None if info.type in _FILES else ("not-a-file", _SPECIAL.get(info.type, f"type {info.type!r}"))
            entry = _Entry(said.get("path", info.name), size, int(info.mtime), data.read, refused)
            yield None if info.type in _PASSED else entry
            said = {}
        data.skip()
        _Stream(stream, -size % tarfile.BLOCKSIZE).skip()
    else:
        if info is None:
            raise UnreadableError("not-an-archive", "it is empty")
    stream.skip()  # to the end of what it is packed in, where a check sum is


def _pax(data: bytes) -> dict[str, str]:
    """Records `length key=value`, of which `length` counts everything: itself, and the line end too."""
    said: dict[str, str] = {}
    start = 0
    while start < len(data):
        digits, space, _ = data[start : start + 9].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        key, _, value = data[start + len(digits) + 1 : start + length - 1].partition(b"=")
        if not (length and key) or (key == b"size" and not (value.isdigit() and len(value) < 16)):
            raise UnreadableError("damaged", "a header that says nothing")
        if key in (b"path", b"size"):
            said[key.decode()] = value.decode("utf-8", "backslashreplace")
        start += length
    return said


_HEADERS: dict[bytes, Callable[[bytes], dict[str, str]]] = {
    tarfile.XHDTYPE: _pax,
    tarfile.SOLARIS_XHDTYPE: _pax,
    tarfile.XGLTYPE: lambda _: {},
    tarfile.GNUTYPE_LONGLINK: lambda _: {},
    tarfile.GNUTYPE_LONGNAME: lambda data: {"path": data.partition(b"\0")[0].decode("utf-8", "backslashreplace")},
}
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_PASSED = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, b"D", b"V")  # and lists of folders, labels of tapes
_SPECIAL = {tarfile.CHRTYPE: "a character device", tarfile.BLKTYPE: "a block device", tarfile.FIFOTYPE: "a pipe"}
_WITHOUT_DATA = (*_PASSED[:3], *_SPECIAL)  # whatever size they state

"""Files here, or at any address fsspec reads (`s3://`, `gs://`, `hf://`): listed, opened, unpacked, line by line."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
from fsspec.core import url_to_fs

from codecria.common.errors import CodecriaError
from codecria.corpus.sources.walk import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_BACKENDS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "hf": "huggingface_hub"}
_STAMPS = ("mtime", "ETag", "etag", "LastModified", "updated", "blob_id", "created")
_PACKED = {".gz": "gzip", ".zst": "zstd"}
_READ_AT_ONCE = 1 << 20


class Listed(NamedTuple):
    """A file at an address.

    Attributes:
        address: by what it is opened.
        label: its name under the folder that was listed, valid UTF-8.
        size_bytes: its size, packed.
        stamp: changes when the file does.
    """

    address: str
    label: str
    size_bytes: int
    stamp: str


def list_files(path: str, endings: tuple[str, ...]) -> list[Listed]:
    """Files with one of these endings: the one at `path`, or all of a folder or a pattern, in name order.

    Raises:
        CodecriaError: there are none, the address cannot be reached, or what reads such addresses is not installed.
    """
    files, root = _file_system(path)
    try:
        if files.isfile(root):
            found: dict[str, Any] = {root: files.info(root)}
            root = root.rpartition("/")[0]
        else:
            found = files.find(root, detail=True) if files.isdir(root) else files.glob(root, detail=True)
            root = root.partition("*")[0].rpartition("/")[0] if "*" in root else root
    except Exception as error:  # each backend has its own
        raise CodecriaError(f"cannot list: {error}", where=path, mend="check the path and the credentials") from error
    listed = [
        Listed(
            name if "://" not in path else files.unstrip_protocol(name),
            printable(name.removeprefix(root).lstrip("/")),
            int(facts["size"] or 0),
            f"{facts['size']} {next((facts[key] for key in _STAMPS if key in facts), '')}",
        )
        for name, facts in sorted(found.items())
        if name.endswith(endings) and facts["type"] == "file"
    ]
    if not listed:
        raise CodecriaError(f"no files that end in {', '.join(endings)}", where=path, mend="check the path")
    return listed


def _file_system(address: str) -> tuple[Any, str]:
    """What reads an address, and the path there. Credentials come from the environment, as each backend has it."""
    try:
        return cast("tuple[Any, str]", url_to_fs(address))
    except (ImportError, ValueError) as error:
        scheme = address.partition("://")[0]
        mend = f"pip install {_BACKENDS.get(scheme, 'what fsspec needs for it')}"
        raise CodecriaError(f"cannot read {scheme}:// ({error})", where=address, mend=mend) from error


def open_bytes(address: str) -> BinaryIO:
    """Open a file to be read and sought in."""
    files, path = _file_system(address)
    return cast("BinaryIO", io.BufferedReader(files.open(path, "rb"), _READ_AT_ONCE))


def open_unpacked(address: str) -> BinaryIO:
    """Open a file, unpacked as it is read if its name ends in .gz or .zst.

    Raises:
        OSError: also while it is read: it is damaged, or cut short.
    """
    opened = open_bytes(address)
    if (packed := _PACKED.get(address[address.rfind(".") :])) is None:
        return opened
    unpacked: Any = pa.CompressedInputStream(pa.PythonFile(opened, mode="r"), packed)
    return cast("BinaryIO", io.BufferedReader(unpacked, _READ_AT_ONCE))


def lines(stream: BinaryIO, most_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Lines with the bytes each takes, its end counted; in place of one longer than `most_bytes` stands None."""
    while line := stream.readline(most_bytes):
        size, more = len(line), line
        while not more.endswith(b"\n") and (more := stream.readline(_READ_AT_ONCE)):
            size += len(more)
        yield size, line if size == len(line) else None

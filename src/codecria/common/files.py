"""Files that are whole or absent: written aside, synced, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from codecria.common.errors import explain_os_error

if TYPE_CHECKING:
    from collections.abc import Generator


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(path: Path | str) -> Generator[IO[bytes]]:
    """Yield a binary file that takes the name `path` only when the block ends without an error.

    The bytes are synced before the rename, so after a kill or a power cut `path` holds the old content or the
    new, never a part. A failed block leaves nothing behind.

    Raises:
        CodecriaError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    aside: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; give the mode an ordinary open() would have given.
        Path(aside).chmod(0o666 & ~_umask())
        Path(aside).replace(path)
        sync_folder(path.parent)
    except OSError as error:
        _remove(aside)
        raise explain_os_error(error, path) from error
    except BaseException:
        _remove(aside)
        raise


def read_bytes(path: Path | str) -> bytes:
    """The whole content of a file.

    Raises:
        CodecriaError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise explain_os_error(error, path) from error


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Write the whole content of a file atomically; text is UTF-8, line ends as given."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_folder(path: Path | str) -> Generator[Path]:
    """Yield an empty folder that takes the name `path` only when the block ends without an error.

    An older folder of that name is replaced: it is moved aside, then removed after the rename. Between the two
    renames a kill leaves the old folder under `.NAME.old`; `recover_folder` puts it back.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(path)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                file.chmod(0o666 & ~_umask())  # safetensors makes its files private
                _sync_file(file)
        Path(aside).chmod(0o777 & ~_umask())
        old = _old_name(path)
        if path.exists():
            path.replace(old)
        Path(aside).replace(path)
        sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise explain_os_error(error, path) from error
    except Exception as error:
        shutil.rmtree(aside, ignore_errors=True)
        # Writers in Rust (safetensors) raise errors of their own that carry the system's number in the text.
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise explain_os_error(OSError(int(number[1]), str(error)), path) from error
        raise
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def recover_folder(path: Path) -> None:
    """Finish a replacement that a kill interrupted: if only the old folder is there, give it its name back."""
    old = _old_name(path)
    if old.exists():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.replace(path)


def clear_parts(*folders: Path, of: str = "*") -> None:
    """Remove what a killed process was writing in these folders, or of one name; nobody else may be writing it."""
    for folder in folders:
        for part in folder.glob(f".{of}.part"):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)


def sha256_of_file(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in blocks."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where downloads are kept: `$CODECRIA_CACHE`, else `$XDG_CACHE_HOME/codecria`, else `~/.cache/codecria`."""
    if named := os.environ.get("CODECRIA_CACHE"):
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "codecria"
    return Path.home() / ".cache" / "codecria"


def _old_name(path: Path) -> Path:
    return path.parent / f".{path.name}.old"


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove(path: str | None) -> None:
    if path is not None:
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()

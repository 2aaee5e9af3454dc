"""Packages to mine, in a folder of their own: fetched by pip as wheels, never installed here, never imported here."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_folder, cache_folder
from codecria.common.random import digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def fetch_packages(requirements: Sequence[str]) -> Path:
    """A folder in the cache with these packages and what they need; the same requirements are fetched once.

    Only wheels are taken: unpacking one runs none of its code.

    Raises:
        CodecriaError: pip cannot have one.
    """
    name = digest("packages", *sorted(requirements), sys.version).hex()[:16]
    folder = cache_folder() / "mined-packages" / name
    if folder.is_dir():
        return folder
    with atomic_folder(folder) as aside:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary", ":all:"]
        command += ["--disable-pip-version-check", "--target", str(aside), *requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            said = (errors or done.stderr.strip().splitlines() or ["pip says nothing"])[0]
            raise CodecriaError(f"pip cannot fetch {', '.join(requirements)}: {said}", mend="or set `folder`")
    return folder


def import_names(folder: Path, requirements: Sequence[str]) -> list[str]:
    """The import names of the distributions that were asked for, in their order.

    Raises:
        CodecriaError: one of them is not in the folder, or has no Python module.
    """
    found = {_normal(each.name): each for each in metadata.distributions(path=[str(folder)])}
    names: list[str] = []
    for requirement in requirements:
        wanted = _normal(re.split(r"[\s<>=!~\[;@]", requirement.strip(), maxsplit=1)[0])
        if wanted not in found:
            held = ", ".join(sorted(found)) or "none"
            raise CodecriaError(f"the distribution '{wanted}' is not there (there are: {held})", where=folder)
        tops = {file.parts[0].removesuffix(".py") for file in found[wanted].files or [] if file.suffix == ".py"}
        chosen = sorted(top for top in tops if top.isidentifier() and not top.startswith("_"))
        if not chosen:
            raise CodecriaError(f"'{wanted}' has no Python module", where=folder)
        names += chosen
    return list(dict.fromkeys(names))


def _normal(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()

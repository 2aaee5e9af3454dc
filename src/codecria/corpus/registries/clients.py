"""pip, npm and apt as this machine has them, with the registries they are set up with. No code of a package is run.

Each function here downloads one package into an empty folder and gives its version.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

from codecria.common.errors import CodecriaError

_PIP_CLIENT = Path(__file__).with_name("pip_client.py")
_PIP_OPTIONS = ("-q", "--no-cache-dir", "--retries=2", "--disable-pip-version-check")
_NPM_OPTIONS = ("--json", "--ignore-scripts", "--cache=.npm", "--fetch-retries=2", "--fetch-retry-mintimeout=1000")
_NPM_MISSING = {"E404": "npm knows no such package", "ETARGET": "npm knows no such version"}
_APT_NOT_FOUND = re.compile(r"/([^/ ]+)\s+404\s")
_APT_UNKNOWN = re.compile(r"Unable to (find a source|locate) package|Can not find version|Version '.*not found")


class MissingError(Exception):
    """A registry has no such package; `final` where asking again would give the same answer."""

    def __init__(self, reason: str, final: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final


def fetch_with_pip(name: str, folder: Path, version: str | None = None, file: str = "") -> str:
    """One package of the Python package index.

    Args:
        name: `name` or `name==version`.
        folder: where it is downloaded to.
        version: where it is locked; else the newest that `name` allows.
        file: of that version; else its sdist, or a wheel where it has none.

    Returns:
        The version that was downloaded.

    Raises:
        MissingError: no index has it, or there is no pip.
        CodecriaError: an index does not answer.
    """
    wanted = f"{name.partition('==')[0]}=={version}" if version else name
    done = _run([sys.executable, "-P", str(_PIP_CLIENT), *_PIP_OPTIONS, f"--dest={folder}", wanted, file], folder)
    line = done.stdout.strip().rpartition("\n")[2]
    if done.returncode == 0:
        return line
    if "No module named 'pip'" in done.stderr:
        raise MissingError("pip is missing: python -m ensurepip", final=False)
    if done.returncode == 3:
        raise MissingError(line)
    raise _no_answer("pip", line or done.stderr)


def fetch_with_npm(name: str, folder: Path, version: str | None = None) -> str:
    """One package of the npm registry: `name` or `name@version`; `version` where it is locked. Errors as above."""
    bare = re.sub(r"(?<!^)@.*", "", name)
    wanted = f"{bare}@{version}" if version else name
    done = _run(["npm", "pack", wanted, *_NPM_OPTIONS, f"--pack-destination={folder}"], folder)
    shutil.rmtree(folder / ".npm", ignore_errors=True)
    if done.returncode == 0:
        (archive,) = folder.glob("*.tgz")
        return archive.name.removeprefix(bare.lstrip("@").replace("/", "-") + "-").removesuffix(".tgz")
    try:
        error = json.loads(done.stdout)["error"]
    except (ValueError, KeyError):
        raise _no_answer("npm", done.stderr) from None
    if error["code"] in _NPM_MISSING:
        raise MissingError(_NPM_MISSING[error["code"]])
    raise _no_answer("npm", f"{error['code']}: {error['summary']}")


class Apt:
    """apt with package lists of its own: the machine's repositories with their sources, in a private folder.

    It needs no root, and leaves the machine's lists and caches as they are.

    Raises:
        MissingError: there is no apt.
        CodecriaError: a repository does not answer.
    """

    def __init__(self, folder: Path) -> None:
        folder = folder.resolve()
        self._options = _apt_options(folder)
        for inside in ("sources", "lists/partial", "cache/archives/partial"):
            (folder / inside).mkdir(parents=True)
        (folder / "status").touch()
        asked = ["LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"]
        file, parts = map(Path, re.findall(r"='(.*)'", _run(["apt-config", "shell", *asked], folder).stdout))
        for one in (file, *parts.glob("*.list"), *parts.glob("*.sources")):
            if one.is_file():
                (folder / "sources" / one.name).write_text(with_sources(one.read_text()))
        self._run("apt-get", "update", "-o", "APT::Update::Error-Mode=any", folder=folder)

    def fetch_source(self, name: str, folder: Path, version: str | None = None) -> str:
        """One source package, its .dsc and archives: `name` or `name=version`; `version` where it is locked."""
        self._download(["apt-get", "source", "--download-only", "--only-source"], "Sources", name, folder, version)
        (description,) = folder.glob("*.dsc")
        return re.findall(r"^Version: (\S+)", description.read_text(), re.MULTILINE)[0]

    def fetch_binary(self, name: str, folder: Path, version: str | None = None) -> str:
        """One .deb, named as above."""
        self._download(["apt-get", "download"], "Packages", name, folder, version)
        (package,) = folder.glob("*.deb")
        return unquote(package.name).split("_")[1]

    def _download(self, command: list[str], index: str, name: str, folder: Path, version: str | None) -> None:
        """The newest; where a mirror lists it and does not have it, an older one from another of its suites."""
        name, _, asked = name.partition("=")
        if asked := version or asked:
            return self._run(*command, f"{name}={asked}", folder=folder)
        try:
            return self._run(*command, name, folder=folder)
        except MissingError as error:
            listed = _run(["apt-cache", "madison", name, *self._options], folder).stdout
            for older in dict.fromkeys(re.findall(rf"\| +(\S+) +\|.* {index}$", listed, re.MULTILINE)):
                for left in folder.iterdir():
                    left.unlink()
                with contextlib.suppress(MissingError):
                    return self._run(*command, f"{name}={older}", folder=folder)
            raise error

    def _run(self, *command: str, folder: Path) -> None:
        done = _run([*command, *self._options], folder)
        if done.returncode == 0:
            return
        if gone := _APT_NOT_FOUND.search(done.stderr):
            raise MissingError(f"404 Not Found: {unquote(gone[1])}")
        if _APT_UNKNOWN.search(done.stderr):
            raise MissingError(f"apt knows no {command[-1]}")
        raise _no_answer("apt", done.stderr)


def with_sources(text: str) -> str:
    """A list of repositories, in either of apt's forms, that asks for source packages too."""
    text = re.sub(r"^Types:.*\bdeb\b.*$", "Types: deb deb-src", text, flags=re.MULTILINE)
    return re.sub(r"^deb(\s.*)$", r"deb\1\ndeb-src\1", text, flags=re.MULTILINE)


def _apt_options(folder: Path) -> list[str]:
    values = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": folder / "sources",
        "Dir::State::Lists": folder / "lists",
        "Dir::State::Status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Cache::PkgCache": "packages.bin",
        "Dir::Cache::SrcPkgCache": "sources.bin",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": 2,
    }
    return ["-q", *(word for name, value in values.items() for word in ("-o", f"{name}={value}"))]


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        raise MissingError(f"{command[0]} is missing on this machine: install it, or take the package out", final=False)
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )


def _no_answer(client: str, said: str) -> CodecriaError:
    lines = [line for line in said.splitlines() if re.match(r"E:|ERROR|Error|npm error", line)] or said.split("\n")
    return CodecriaError(f"no network, or: {lines[0].strip()}", where=client, mend="run it again: what arrived is kept")

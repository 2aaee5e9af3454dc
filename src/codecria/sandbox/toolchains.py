"""Where the compilers and interpreters of the languages are, and what of the machine their programs must see."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codecria.common.errors import CodecriaError
from codecria.common.files import cache_folder
from codecria.sandbox.languages import LANGUAGES, Language

if TYPE_CHECKING:
    from collections.abc import Iterable

_SYSTEM = Path("/usr")


@dataclass(frozen=True)
class Toolchain:
    """A language's tools on this machine.

    Attributes:
        language: the language.
        tools: the files that stand for `{name}` in its commands, no links.
        folders: what they need outside of the system's own folders.
    """

    language: Language
    tools: dict[str, Path]
    folders: tuple[Path, ...]


@dataclass(frozen=True)
class ToolchainReport:
    """Whether programs of a language can be run here. `reason` says with what, or how to get it."""

    name: str
    title: str
    available: bool
    reason: str


def find_toolchain(name: str) -> Toolchain:
    """A language's tools.

    Raises:
        CodecriaError: no such language, or a tool is not on this machine.
    """
    language = LANGUAGES.get(name)
    if language is None:
        raise CodecriaError(f"no language '{name}' in the sandbox", mend=f"one of: {', '.join(LANGUAGES)}")
    tools = {tool: _find(tool) for tool in language.tools}
    missing = [tool for tool, path in tools.items() if path is None]
    if missing:
        install = language.install.format(cache=cache_folder())
        raise CodecriaError(f"{language.title} needs {' and '.join(missing)}", where="sandbox", mend=install)
    found = {tool: path for tool, path in tools.items() if path is not None}
    outside = [_package(path) for path in found.values() if not path.is_relative_to(_SYSTEM)]
    settings = [place for pattern in language.settings for place in Path("/").glob(pattern.lstrip("/"))]
    return Toolchain(language, found, tuple(dict.fromkeys([*outside, *settings])))


def toolchain_reports() -> list[ToolchainReport]:
    """Every language, whether it can be run here, and with what."""
    reports: list[ToolchainReport] = []
    for name, language in LANGUAGES.items():
        try:
            tools = find_toolchain(name).tools
        except CodecriaError as error:
            reports.append(ToolchainReport(name, language.title, available=False, reason=str(error)))
        else:
            reports.append(ToolchainReport(name, language.title, True, ", ".join(map(str, tools.values()))))
    return reports


def folders_of(toolchains: Iterable[Toolchain]) -> list[Path]:
    """What servers for these toolchains must show."""
    return list(dict.fromkeys(folder for toolchain in toolchains for folder in toolchain.folders))


def _find(tool: str) -> Path | None:
    """The file itself: the links of `/etc/alternatives` are not to be seen inside."""
    if tool == "tsc":
        return _first(_beside("tsc", "lib/tsc.js"), cache_folder() / "typescript/node_modules/typescript/lib/tsc.js")
    if tool == "mcs":
        return _first(_beside("mono", "lib/mono/4.5/mcs.exe"))
    if tool == "javatuples":
        return _first(Path("/usr/share/java/javatuples.jar"), cache_folder() / "javatuples-1.2.jar")
    program = shutil.which(tool)
    return None if program is None else Path(program).resolve()


def _beside(program: str, file: str) -> Path | None:
    """A file of the package whose program is on the path: `lib/…` beside `bin/…`."""
    found = shutil.which(program)
    return None if found is None else Path(found).resolve().parent.parent / file


def _first(*places: Path | None) -> Path | None:
    return next((place.resolve() for place in places if place is not None and place.is_file()), None)


def _package(file: Path) -> Path:
    """The folder a tool lives in with what belongs to it."""
    return file.parent.parent if file.parent.name in ("bin", "lib") else file.parent

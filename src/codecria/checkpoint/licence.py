"""What a folder says about its licence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import yaml

if TYPE_CHECKING:
    from pathlib import Path

_TEXTS = {
    "llama 2 community license": "llama2",
    "llama 3.1 community license": "llama3.1",
    "meta llama 3 community license": "llama3",
    "apache license": "apache-2.0",
    "mit license": "mit",
}


def licence_of(folder: Path) -> str | None:
    """The licence's name: from lineage.json, else README.md's front matter, else the first lines of LICENSE.

    Returns:
        A name such as `apache-2.0` or `llama2`; None where the folder says nothing that is recognised.
    """
    return _from_lineage(folder) or _from_readme(folder) or _from_text(folder)


def _from_lineage(folder: Path) -> str | None:
    try:
        lineage: Any = json.loads((folder / "lineage.json").read_bytes())
    except (OSError, ValueError):
        return None
    parent: Any = lineage.get("parent") if isinstance(lineage, dict) else None
    for holder in (lineage, parent):
        if isinstance(holder, dict) and isinstance(holder.get("licence"), str):
            return cast("str", holder["licence"])
    return None


def _from_readme(folder: Path) -> str | None:
    try:
        text = (folder / "README.md").read_text(errors="replace")
    except OSError:
        return None
    if not text.startswith("---\n"):
        return None
    try:
        values: Any = yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return None
    licence: Any = values.get("license") if isinstance(values, dict) else None
    return licence if isinstance(licence, str) else None


def _from_text(folder: Path) -> str | None:
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"):
        try:
            start = (folder / name).read_text(errors="replace")[:400].lower()
        except OSError:
            continue
        for phrase, licence in _TEXTS.items():
            if phrase in start:
                return licence
    return None

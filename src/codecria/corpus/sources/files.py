"""What sources of files have in common: which names are wanted, and which licence speaks for a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from codecria.common.recipe import Recipe
from codecria.corpus.languages import code_language, prose_language
from codecria.corpus.licence_files import is_licence_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codecria.corpus.document import Kind


class FilesRecipe(Recipe):
    """Which files of a source are taken."""

    languages: tuple[str, ...] | None = None
    """Programming languages to take (names as in `languages.py`); None takes all."""
    licence: str | None = None
    """SPDX expression for everything that states none itself: a person knows their own code."""
    prose: Literal["code-related", "natural", "none"] = "code-related"
    """What documentation and text files are: about code, natural language, or not taken."""
    docstrings: bool = Field(default=True, description="take a Python file's docstrings as prose about code too")


class Wanted(NamedTuple):
    """Kind and language by the name; both None where the content must tell (a script without an ending)."""

    kind: Kind | None
    language: str | None


def wanted(path: str, recipe: FilesRecipe) -> Wanted | None:
    """Whether a file of this path is taken, and as what; None for pictures, licences, and languages not asked for."""
    name = path.rsplit("/", 1)[-1]
    if is_licence_file(name):
        return None
    if language := code_language(name):
        return Wanted("code", language) if recipe.languages is None or language in recipe.languages else None
    if language := prose_language(name):
        return Wanted(recipe.prose, language) if recipe.prose != "none" else None
    return Wanted(None, None) if "." not in name and recipe.languages is None else None


def nearest_licence(stated: Mapping[str, str], path: str) -> str | None:
    """The licence stated for the nearest folder above `path`.

    Args:
        stated: licence by folder, `""` for the root and no slash at the end.
        path: of a file.
    """
    folder = path
    while folder:
        folder = folder.rpartition("/")[0]
        if folder in stated:
            return stated[folder]
    return None

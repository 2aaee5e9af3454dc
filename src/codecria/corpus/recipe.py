"""The recipe of a corpus: what it is built from, and what is kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from codecria.common.recipe import Recipe
from codecria.corpus.decontaminate import DecontaminationRecipe
from codecria.corpus.document import Kind
from codecria.corpus.filters import FilterRecipe
from codecria.corpus.near_duplicates import NearDuplicateRecipe
from codecria.corpus.selection import HeldOutRecipe
from codecria.corpus.sources.folder import FolderRecipe
from codecria.corpus.sources.python_environment import PythonEnvironmentRecipe

SourceRecipe = Annotated[PythonEnvironmentRecipe | FolderRecipe, Field(discriminator="type")]


class CorpusRecipe(Recipe):
    """What a corpus is built from, and what is kept. Equal recipes over equal files give equal corpora."""

    sources: tuple[SourceRecipe, ...] = Field(default=(PythonEnvironmentRecipe(),), min_length=1)
    permissive_only: bool = True
    """Keep only documents under permissive licences; unknown licences are dropped and counted."""
    filters: FilterRecipe = FilterRecipe()
    near_duplicates: NearDuplicateRecipe = NearDuplicateRecipe()
    decontamination: DecontaminationRecipe = DecontaminationRecipe()
    held_out: HeldOutRecipe = HeldOutRecipe()
    max_files: int | None = Field(default=None, ge=1, description="files examined for training, a keyed sample")
    max_bytes: dict[Kind, int] = Field(default_factory=dict[Kind, int])
    """Most bytes of training text of each kind, before near-duplicates are dropped: a keyed sample."""
    shard_bytes: int = Field(default=256_000_000, ge=1, description="text in one shard, about")
    seed: int = 0

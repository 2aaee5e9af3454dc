"""The recipe of a corpus: what it is built from, and what is kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from codecria.common.recipe import Recipe
from codecria.corpus.decontaminate import DecontaminationRecipe
from codecria.corpus.document import Kind
from codecria.corpus.filters import FilterRecipe
from codecria.corpus.near_duplicates import NearDuplicateRecipe
from codecria.corpus.redact import RedactRecipe
from codecria.corpus.runner import RunnerRecipe
from codecria.corpus.selection import HeldOutRecipe
from codecria.corpus.sources.archive import ArchiveRecipe
from codecria.corpus.sources.documentation import DocumentationRecipe
from codecria.corpus.sources.folder import FolderRecipe
from codecria.corpus.sources.git import GitRecipe
from codecria.corpus.sources.python_environment import PythonEnvironmentRecipe
from codecria.corpus.sources.registry import RegistryRecipe
from codecria.corpus.sources.stack_exchange import StackExchangeRecipe
from codecria.corpus.sources.table import TableRecipe

SourceRecipe = Annotated[
    PythonEnvironmentRecipe
    | FolderRecipe
    | GitRecipe
    | ArchiveRecipe
    | RegistryRecipe
    | TableRecipe
    | StackExchangeRecipe
    | DocumentationRecipe,
    Field(discriminator="type"),
]


class CorpusRecipe(Recipe):
    """What a corpus is built from, and what is kept. Equal recipes over equal files give equal corpora."""

    sources: tuple[SourceRecipe, ...] = Field(default=(PythonEnvironmentRecipe(),), min_length=1)
    permissive_only: bool = True
    """Keep only documents under permissive licences; unknown licences are dropped and counted."""
    accepted_licences: tuple[str, ...] = ()
    """SPDX identifiers taken beside the permissive ones: CC-BY-SA-4.0 for questions and answers, say."""
    opt_out: tuple[str, ...] = ()
    """Files that list repositories and packages whose authors want them left out, one a line."""
    filters: FilterRecipe = FilterRecipe()
    redact: RedactRecipe = RedactRecipe()
    near_duplicates: NearDuplicateRecipe = NearDuplicateRecipe()
    decontamination: DecontaminationRecipe = DecontaminationRecipe()
    held_out: HeldOutRecipe = HeldOutRecipe()
    earlier: tuple[str, ...] = ()
    """Corpora built before: what resembles one of their documents is dropped here."""
    max_bytes: dict[Kind, Annotated[int, Field(ge=0)]] = Field(default_factory=dict[Kind, int])
    """Most bytes of training text of each kind, before near-duplicates are dropped: a keyed sample. A kind that is not
    named is taken whole, so everything is read; where all three are (0 takes none), only a sample is read."""
    order: Literal["source", "repository"] = "source"
    """`repository` places what a file imports before it, inside each package."""
    join_characters: int | None = Field(default=None, ge=1_000, description="with order: repository, longest document")
    shard_bytes: int = Field(default=256_000_000, ge=1, description="text in one shard, about")
    dropped_samples: int = Field(default=50, ge=0, description="dropped texts kept for each reason, to look at")
    seed: int = 0
    runner: RunnerRecipe = RunnerRecipe()
    """Where the work is done; a name alone (`runner: ray`) takes the rest as it is by default."""

    @field_validator("runner", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    def identity(self) -> dict[str, Any]:
        """Everything that shapes the result: all but where the work is done."""
        return self.model_dump(mode="json", exclude={"runner"})

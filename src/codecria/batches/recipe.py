"""What a stage's batches are made of. A recipe's `batches:` section."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from codecria.common.recipe import Recipe
from codecria.corpus.document import KINDS
from codecria.corpus.languages import CODE_LANGUAGES, PROSE_LANGUAGES
from codecria.infill.split import Unit  # noqa: TC001 pydantic reads it at run time

Share = Annotated[float, Field(ge=0.0, le=1.0)]

STYLES = ("conversations", "repository")
"""Sources whose pieces are no plain documents: conversations, and several files of a package."""


def _known_source(name: str) -> str:
    kind, slash, language = name.partition("/")
    languages = [*CODE_LANGUAGES, *PROSE_LANGUAGES, "English"]
    if name in STYLES or (kind in KINDS and (not slash or language in languages)):
        return name
    known = [f"{each}/{language}" for each in ([kind] if kind in KINDS else ["code"]) for language in languages]
    near = difflib.get_close_matches(name, [*KINDS, *STYLES, *known], n=1)
    names = ", ".join((*KINDS, *STYLES))
    mend = f"did you mean '{near[0]}'?" if near else f"name one of {names}, or KIND/LANGUAGE"
    raise ValueError(f"no such source of documents; {mend}")


SourceName = Annotated[str, AfterValidator(_known_source)]
"""Documents of a kind (`code`), or of a kind in one language (`code/Python`), or one of `STYLES`."""


def _not_empty(mixture: dict[str, float]) -> dict[str, float]:
    if not mixture:
        raise ValueError("a mixture needs at least one source")
    return mixture


Positive = Annotated[float, Field(gt=0)]
Shares = Annotated[dict[SourceName, Positive], AfterValidator(_not_empty)]


class InfillRecipe(Recipe):
    """How documents become infilling examples (paper §2.3).

    Attributes:
        rate: share of eligible pieces that are infilled (paper: 0.9).
        level: `document`: only documents that fit whole into a sequence are infilled (the paper's words);
            `context`: long documents are cut at line ends first and each piece counts as one.
        units: share of the infilled cut by each unit; one name alone is that unit always. `character`: both cuts are
            uniform over the characters (paper); `token`: over the borders of tokens, to be compared with; `line`:
            middles as an editor asks for them; `syntax`: one node of the syntax tree, or `line` where there is none
            (needs the extra `syntax`).
        psm_share: share of PSM among the infilled, the rest SPM (paper: half).
        spm_joined: SPM encodes prefix and middle as one string (paper); false: each alone, as Bavarian et al. do.
        min_characters: pieces shorter than this stay left to right. The paper states no such length: 0.
    """

    rate: Share = 0.9
    level: Literal["document", "context"] = "document"
    units: dict[Unit, Annotated[float, Field(gt=0)]] = Field(default_factory=lambda: {"character": 1.0}, min_length=1)
    psm_share: Share = 0.5
    spm_joined: bool = True
    min_characters: Annotated[int, Field(ge=0)] = 0

    @field_validator("units", mode="before")
    @classmethod
    def _alone(cls, units: object) -> object:
        return {units: 1.0} if isinstance(units, str) else units


class LossRecipe(Recipe):
    """Which target tokens carry loss.

    Attributes:
        context_share: share of the tokens outside a middle that carry loss, drawn per token. In expectation this is a
            loss weight of the same size, but tokens that carry none need no logits: with 49,168 rows and 576 columns
            the head costs a third of a step. 1 is the paper's (and Bavarian's) loss on every token.
        end_weight: loss weight of a middle's end marker; its other tokens have 1 (the paper: all alike). There is one
            end among some fifteen tokens of a line, and stopping is what a short run must learn first.
        straddling_weight: loss weight of the token that holds the prefix's last characters and the middle's first, in
            SPM (the paper: 1). At the cursor it is healed, never predicted; as a target it often is a line end with the
            next line's indentation, at a place where the line before is finished, and teaches that nothing ends there.
    """

    context_share: Share = 1.0
    end_weight: Annotated[float, Field(gt=0)] = 1.0
    straddling_weight: Annotated[float, Field(ge=0)] = 1.0


class MixtureChange(Recipe):
    """Another mixture, from an optimiser step on.

    Attributes:
        from_step: the first step with it, counted from 0.
        mixture: as the recipe's own.
    """

    from_step: Annotated[int, Field(gt=0)]
    mixture: Shares


class BatchRecipe(Recipe):
    """A stage's sequences.

    Attributes:
        mixture: share of the tokens from each source (paper Table 1): a kind of document (`code`), a kind in one
            language (`code/Python`), `conversations`, or `repository`: several files of a package in corpus order, the
            last of them infilled. A document belongs to every source it fits. Kinds the corpus does not hold are left
            out and the rest scaled up; a language, conversations and repositories must be there.
        mixture_changes: mixtures that take the first one's place, by step.
        max_epochs: how often a source may be gone through, for all or by source. One that has been gives way and the
            others take its share. Absent for no limit.
        conversations: Parquet or JSON lines file, or a folder of them, that `conversations` in the mixture reads.
        sequence_tokens: length of a packed sequence.
        piece_tokens: longest piece of a document, at `level: context` alone; the sequence's length when absent.
        infill: how documents become infilling examples.
        loss: which tokens carry loss.
    """

    mixture: Shares = Field(default_factory=lambda: {"code": 0.85, "code-related": 0.08, "natural": 0.07})
    mixture_changes: tuple[MixtureChange, ...] = ()
    max_epochs: Positive | dict[SourceName, Positive] | None = None
    conversations: str | None = None
    sequence_tokens: Annotated[int, Field(ge=64)] = 4096
    piece_tokens: Annotated[int, Field(ge=32)] | None = None
    infill: InfillRecipe = InfillRecipe()
    loss: LossRecipe = LossRecipe()

    @model_validator(mode="after")
    def _consistent(self) -> BatchRecipe:
        steps = [change.from_step for change in self.mixture_changes]
        if steps != sorted(set(steps)):
            raise ValueError(f"mixture_changes come at steps {', '.join(map(str, steps))}, which do not rise")
        caps = self.max_epochs if isinstance(self.max_epochs, dict) else {}
        if unknown := [name for name in caps if name not in self.sources]:
            raise ValueError(f"max_epochs names '{unknown[0]}', which is in no mixture")
        if ("conversations" in self.sources) != (self.conversations is not None):
            raise ValueError("`conversations` wants a share in the mixture and a path, and has one of them")
        if self.piece_tokens is not None and self.infill.level != "context":
            raise ValueError("piece_tokens cuts documents at infill.level: context alone; set that, or leave it out")
        return self

    @property
    def sources(self) -> list[str]:
        """Names of every source that the run draws from, sorted."""
        return sorted({*self.mixture, *(name for change in self.mixture_changes for name in change.mixture)})

    @property
    def takes_markers(self) -> bool:
        """Whether infill markers are needed: something is infilled, or stands among the files of its repository."""
        return self.infill.rate > 0 or "repository" in self.sources

    @property
    def longest_piece(self) -> int:
        """Most plain tokens a piece may have, leaving its slot's room for sentinels and regrowth."""
        longest = self.sequence_tokens - SLOT_MARGIN
        if self.infill.level == "context" and self.piece_tokens is not None:
            longest = min(longest, self.piece_tokens)
        return longest


SLOT_MARGIN = 16
"""Tokens a packed piece may grow by: splitting text in three costs a median of 2 tokens and at the 99th percentile 4,
the sentinels 4 more."""

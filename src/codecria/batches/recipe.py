"""What a stage's batches are made of. A recipe's `batches:` section."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from codecria.common.recipe import Recipe
from codecria.corpus.document import KINDS
from codecria.corpus.languages import CODE_LANGUAGES, PROSE_LANGUAGES
from codecria.infill.split import Unit  # noqa: TC001 pydantic reads it at run time

Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _known_source(name: str) -> str:
    kind, slash, language = name.partition("/")
    languages = [*CODE_LANGUAGES, *PROSE_LANGUAGES, "English"]
    if kind in KINDS and (not slash or language in languages):
        return name
    known = [f"{each}/{language}" for each in ([kind] if kind in KINDS else ["code"]) for language in languages]
    near = difflib.get_close_matches(name, [*KINDS, *known], n=1)
    mend = f"did you mean '{near[0]}'?" if near else f"name one of {', '.join(KINDS)}, or KIND/LANGUAGE"
    raise ValueError(f"no such source of documents; {mend}")


SourceName = Annotated[str, AfterValidator(_known_source)]
"""Documents of a kind (`code`), or of a kind in one language (`code/Python`)."""


class InfillRecipe(Recipe):
    """How documents become infilling examples (paper §2.3).

    Attributes:
        rate: share of eligible pieces that are infilled (paper: 0.9).
        level: `document`: only documents that fit whole into a sequence are infilled (the paper's words);
            `context`: long documents are cut at line ends first and each piece counts as one.
        unit: `character`: both cuts uniform over the characters (paper); `line`: middles as an editor asks for them.
        psm_share: share of PSM among the infilled, the rest SPM (paper: half).
    """

    rate: Share = 0.9
    level: Literal["document", "context"] = "document"
    unit: Unit = "character"
    psm_share: Share = 0.5


class LossRecipe(Recipe):
    """Which target tokens carry loss.

    Attributes:
        context_share: share of the tokens outside a middle that carry loss, drawn per token. In expectation this is a
            loss weight of the same size, but tokens that carry none need no logits: with 49,168 rows and 576 columns
            the head costs a third of a step. 1 is the paper's (and Bavarian's) loss on every token.
        end_weight: loss weight of a middle's end marker; its other tokens have 1 (the paper: all alike). There is one
            end among some fifteen tokens of a line, and stopping is what a short run must learn first.
    """

    context_share: Share = 1.0
    end_weight: Annotated[float, Field(gt=0)] = 1.0


class BatchRecipe(Recipe):
    """A stage's sequences.

    Attributes:
        mixture: share of the sequences from each source (paper Table 1): a kind of document (`code`), or a kind in
            one language (`code/Python`). A document belongs to every source it fits. Kinds the corpus does not hold
            are left out and the rest scaled up; a language must be there.
        sequence_tokens: length of a packed sequence.
        piece_tokens: longest piece of a document at `level: context`; the sequence's length when absent.
        infill: how documents become infilling examples.
        loss: which tokens carry loss.
    """

    mixture: dict[SourceName, Annotated[float, Field(gt=0)]] = Field(
        default_factory=lambda: {"code": 0.85, "code-related": 0.08, "natural": 0.07}
    )
    sequence_tokens: Annotated[int, Field(ge=64)] = 4096
    piece_tokens: Annotated[int, Field(ge=32)] | None = None
    infill: InfillRecipe = InfillRecipe()
    loss: LossRecipe = LossRecipe()

    @field_validator("mixture")
    @classmethod
    def _not_empty(cls, mixture: dict[str, float]) -> dict[str, float]:
        if not mixture:
            raise ValueError("a mixture needs at least one source")
        return mixture

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

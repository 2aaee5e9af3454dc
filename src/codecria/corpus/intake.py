"""The intake: candidates in, documents and their shingles to the spool, everything else to the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from codecria.common.progress import progress_bar
from codecria.corpus.decontaminate import open_decontaminator
from codecria.corpus.document import KINDS, Document
from codecria.corpus.examine import Examined, Examiner
from codecria.corpus.licence import is_permissive
from codecria.corpus.manifest import Count, DuplicateCounts, Split
from codecria.corpus.near_duplicates import Duplicates, Integers, find_exact_copies, find_near_duplicates
from codecria.corpus.runner import run_in_order
from codecria.corpus.selection import Budget, HeldOut, order_candidates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codecria.corpus.recipe import CorpusRecipe
    from codecria.corpus.sources.source import Candidate
    from codecria.corpus.spool import Spool
    from codecria.corpus.store import LedgerWriter

_SHOW_EVERY = 64


@dataclass(slots=True)
class Accepted:
    """What memory holds of an accepted document: no text.

    `rank` says which of two copies survives: the lower.
    """

    split: Split
    package: str
    origin: str
    path: str
    content_hash: str
    size_bytes: int
    rank: tuple[bool, bool, bool, int, int, str, str, str]


@dataclass
class Intake:
    """What was examined and what was accepted, in the order of the spool."""

    accepted: list[Accepted] = field(default_factory=list[Accepted])
    seen: Count = field(default_factory=Count)
    tasks: dict[str, int] = field(default_factory=dict[str, int])


def take_in(
    recipe: CorpusRecipe,
    candidates: list[Candidate],
    held_out: HeldOut,
    workers: int,
    spool: Spool,
    ledger: LedgerWriter,
) -> Intake:
    """Examine candidates under the recipe's caps.

    The result does not depend on the number of workers: what a worker reads beyond a cap is not taken.
    """
    decontaminator, tasks = open_decontaminator(recipe.decontamination)
    examiner = Examiner(recipe.filters, recipe.permissive_only, decontaminator)
    budget = Budget(recipe.max_bytes, recipe.held_out)
    ordered = order_candidates(candidates, held_out, recipe.max_files, bool(recipe.max_bytes), recipe.seed)
    intake = Intake(tasks=tasks)
    splits: dict[tuple[str, str], Split] = {}

    def wanted() -> Iterator[Candidate]:
        for split, one in ordered:
            if budget.open_for(split, one):
                splits[one.file, one.form] = split
                yield one

    with progress_bar("reading", total=len(candidates), unit="files") as bar:
        for one, examined in run_in_order(examiner, wanted(), workers):
            split = splits.pop((one.file, one.form))
            if budget.open_for(split, one) and (
                examined.document is None or budget.take(split, one, examined.size_bytes)
            ):
                _take(one, examined, split, intake, spool, ledger)
            if intake.seen.documents % _SHOW_EVERY == 0:
                bar.set(intake.seen.documents, f"{spool.text_bytes / 1e6:.0f} MB accepted")
        bar.set(intake.seen.documents, f"{spool.text_bytes / 1e6:.0f} MB accepted")
    spool.finish()
    return intake


def _take(one: Candidate, examined: Examined, split: Split, intake: Intake, spool: Spool, ledger: LedgerWriter) -> None:
    intake.seen = intake.seen.plus(one.size_bytes)
    if examined.document is not None:
        spool.add(examined.document, examined.size_bytes, examined.shingles)
        intake.accepted.append(_accepted(examined.document, examined.size_bytes, split, one.package))
    elif examined.dropped is not None:
        ledger.drop(
            examined.dropped.reason,
            examined.dropped.detail,
            kind=one.kind,
            origin=one.origin,
            path=one.path,
            size_bytes=one.size_bytes,
        )


def _accepted(document: Document, size_bytes: int, split: Split, package: str) -> Accepted:
    """Rank: training, permissive, not vendored, code before prose, the least nested path, then hash, then path.

    A copy vendored in another package lies deeper than the original, so the original survives.
    """
    rank = (
        split == "held_out",
        not is_permissive(document.licence),
        "vendor" in document.path or "third_party" in document.path,
        KINDS.index(document.kind),
        document.path.count("/"),
        document.content_hash,
        document.origin,
        document.path,
    )
    return Accepted(split, package, document.origin, document.path, document.content_hash, size_bytes, rank)


def find_copies(accepted: list[Accepted], spool: Spool, recipe: CorpusRecipe) -> tuple[Duplicates, DuplicateCounts]:
    """Exact copies, then near copies among what is left, across both splits; training documents rank first."""
    rank = np.array(sorted(range(len(accepted)), key=lambda one: accepted[one].rank), dtype=np.int64)
    exact = find_exact_copies([one.content_hash for one in accepted], rank)
    if recipe.near_duplicates.enabled:
        near = find_near_duplicates(spool.shingle_sets(), rank[exact[rank] < 0], recipe.near_duplicates, recipe.seed)
    else:
        near = Duplicates(np.full_like(exact, -1), np.zeros(exact.size, dtype=np.float32))
    kept_for = np.where(exact >= 0, exact, near.kept_for)
    similarity = np.where(exact >= 0, np.float32(1), near.similarity)
    across = [
        document
        for document in np.flatnonzero(kept_for >= 0).tolist()
        if accepted[document].split == "held_out" and accepted[int(kept_for[document])].split == "train"
    ]
    counts = DuplicateCounts(
        exact_copies=_count(accepted, exact),
        near_copies=_count(accepted, near.kept_for),
        held_out_copies_of_train=len(across),
        candidates=near.candidates,
        verified=near.verified,
        capped=near.capped,
        largest_star=int(np.bincount(kept_for[kept_for >= 0], minlength=1).max()),
    )
    return Duplicates(kept_for, similarity), counts


def _count(accepted: list[Accepted], kept_for: Integers) -> Count:
    dropped = np.flatnonzero(kept_for >= 0).tolist()
    return Count(documents=len(dropped), size_bytes=sum(accepted[one].size_bytes for one in dropped))

"""Building a corpus: sources to filters to near-duplicates to shards, written aside and renamed when whole.

The intake writes accepted documents and their shingles to a spool on disk, so that memory holds only the MinHash
signatures (1 KB a document) and where each document came from; the duplicate search reads the shingles as a
memory map; the last pass reads the spool once and writes the shards.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from codecria.common.errors import CodecriaError
from codecria.common.files import atomic_folder, write_atomic
from codecria.common.progress import console, progress_bar
from codecria.corpus.decontaminate import DecontaminationRecipe
from codecria.corpus.intake import Accepted, Intake, find_copies, take_in
from codecria.corpus.lock import alone
from codecria.corpus.manifest import (
    MANIFEST,
    SPLITS,
    Count,
    Manifest,
    Shard,
    Split,
    Tally,
    largest_first,
    read_manifest,
)
from codecria.corpus.recipe import CorpusRecipe
from codecria.corpus.selection import HeldOutRecipe, Listing, choose_held_out, list_candidates
from codecria.corpus.spool import Spool
from codecria.corpus.store import LedgerWriter, ShardWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from codecria.corpus.document import Document
    from codecria.corpus.near_duplicates import Duplicates

__all__ = ["CorpusRecipe", "DecontaminationRecipe", "HeldOutRecipe", "build_corpus"]

T = TypeVar("T")


def build_corpus(recipe: CorpusRecipe, folder: Path, *, workers: int = 1, replace: bool = False) -> Manifest:
    """Build a corpus, or do nothing when it is there already.

    Equal recipes over equal files give equal corpora, whatever the number of workers. A build that was killed
    leaves no corpus; the next one clears what it left and starts over.

    Args:
        recipe: what to build.
        folder: where the corpus goes; it must be absent, empty, or hold a corpus of an equal recipe.
        workers: processes that read and filter. Above 1 the calling script needs `if __name__ == "__main__":`.
        replace: build again over an existing corpus, whatever its recipe.

    Raises:
        CodecriaError: the folder holds something else, another build is writing it, a source does not exist, or
            no document is left (it names the filters that took them).
    """
    with alone(folder):
        sources = [source.open() for source in recipe.sources]
        finished = _finished(recipe, folder, replace)
        listing = list_candidates(sources)
        if finished is None:
            _clear_leftovers(folder)
            with atomic_folder(folder) as aside:
                return _Build(recipe, aside, listing, [source.describe() for source in sources]).run(workers)
        _say(f"{folder}: the corpus is there already ({finished.total.documents:,} documents); nothing to do")
        if listing.digest != finished.sources_digest:
            _say(f"{folder}: its sources have changed since it was built; replace=True builds it again")
        return finished


def _finished(recipe: CorpusRecipe, folder: Path, replace: bool) -> Manifest | None:
    """The manifest of an equal recipe's corpus; None where one is to be built; anything else is an error."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not (folder / MANIFEST).is_file():
        raise CodecriaError("is not empty and holds no corpus", where=folder, mend="name a new folder for the corpus")
    if replace:
        return None
    manifest = read_manifest(folder)
    wanted = recipe.model_dump(mode="json")
    if manifest.recipe == wanted:
        return manifest
    different = sorted(key for key in wanted | manifest.recipe if wanted.get(key) != manifest.recipe.get(key))
    raise CodecriaError(
        f"holds a corpus of another recipe (different: {', '.join(different)})",
        where=folder,
        mend="name another folder, or build with replace",
    )


def _clear_leftovers(folder: Path) -> None:
    """Remove what killed builds left beside the folder; the lock says that none is running."""
    for left in folder.parent.iterdir():
        if left.name.startswith(f".{folder.name}.") and left.name.endswith(".part"):
            shutil.rmtree(left, ignore_errors=True)


def _say(note: str) -> None:
    console.print(note, markup=False, highlight=False, soft_wrap=True)


@dataclass
class _Build:
    """One build under way, stage by stage."""

    recipe: CorpusRecipe
    folder: Path
    listing: Listing
    described: list[str]
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    def run(self, workers: int) -> Manifest:
        started_s = time.monotonic()
        candidates = self.listing.candidates
        held_out = choose_held_out(candidates, self.recipe.held_out, self.recipe.seed)
        spool = Spool(self.folder / "spool")
        with LedgerWriter(self.folder) as ledger:
            intake = self._timed(
                "read and filter", lambda: take_in(self.recipe, candidates, held_out, workers, spool, ledger)
            )
            self._require_documents(intake, ledger)
            duplicates, counts = self._timed(
                "near-duplicates", lambda: find_copies(intake.accepted, spool, self.recipe)
            )
            shards, tallies, fingerprint = self._timed(
                "write", lambda: self._write(intake.accepted, spool, duplicates, ledger)
            )
            ledger_sha256 = ledger.close()
        spool.remove()
        self.seconds["total"] = round(time.monotonic() - started_s, 3)
        listed_bytes = sum(one.size_bytes for one in candidates)
        manifest = Manifest(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            recipe=self.recipe.model_dump(mode="json"),
            sources=self.described,
            sources_digest=self.listing.digest,
            fingerprint=fingerprint,
            seen=intake.seen,
            not_taken=Count(
                documents=len(candidates) - intake.seen.documents, size_bytes=listed_bytes - intake.seen.size_bytes
            ),
            splits={split: tallies[split].counts() for split in SPLITS},
            held_out_unit=held_out.unit,
            dropped=largest_first(ledger.dropped),
            duplicates=counts,
            evaluation_tasks=intake.tasks,
            shards=shards,
            ledger_sha256=ledger_sha256,
            versions=_versions(),
            seconds=self.seconds,
        )
        write_atomic(self.folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
        return manifest

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        started_s = time.monotonic()
        result = work()
        self.seconds[stage] = round(time.monotonic() - started_s, 3)
        return result

    def _require_documents(self, intake: Intake, ledger: LedgerWriter) -> None:
        if any(one.split == "train" for one in intake.accepted):
            return
        where = "; ".join(self.described)
        if not self.listing.candidates:
            mend = "check the paths and the languages of the sources"
            raise CodecriaError("no file of a wanted language in the sources", where=where, mend=mend)
        taken = sorted(ledger.dropped.items(), key=lambda item: -item[1].documents)
        reasons = ", ".join(f"{reason} {count.documents:,}" for reason, count in taken)
        if intake.accepted:
            reasons = ", ".join(filter(None, [reasons, f"held out {len(intake.accepted):,}"]))
        raise CodecriaError(
            f"no document is left to train on, of {intake.seen.documents:,} examined ({reasons})",
            where=where,
            mend="loosen that filter in the recipe, or add a source",
        )

    def _write(
        self, accepted: list[Accepted], spool: Spool, duplicates: Duplicates, ledger: LedgerWriter
    ) -> tuple[list[Shard], dict[Split, Tally], str]:
        """Kept documents into the shards, in the order they were read; copies into the ledger."""
        writers = {split: ShardWriter(self.folder, split, self.recipe.shard_bytes) for split in SPLITS}
        tallies: dict[Split, Tally] = {split: Tally() for split in SPLITS}
        fingerprint = hashlib.sha256()
        with progress_bar("writing", total=spool.text_bytes, unit="bytes") as bar:
            for number, document in enumerate(spool.documents()):
                one, kept_for = accepted[number], int(duplicates.kept_for[number])
                if kept_for < 0:
                    writers[one.split].add(document, one.size_bytes)
                    tallies[one.split].add(document, one.package, one.size_bytes)
                    fingerprint.update(f"{one.split} {one.content_hash}\n".encode())
                else:
                    similarity = float(duplicates.similarity[number])
                    _record_copy(ledger, document, one, accepted[kept_for], similarity)
                bar.advance(one.size_bytes)
        shards = [shard for split in SPLITS for shard in writers[split].close()]
        return shards, tallies, fingerprint.hexdigest()


def _record_copy(ledger: LedgerWriter, document: Document, one: Accepted, kept: Accepted, similarity: float) -> None:
    exact = kept.content_hash == one.content_hash
    ledger.drop(
        "exact-copy" if exact else "near-copy",
        f"of {kept.origin}: {kept.path}" + ("" if exact else f", {similarity:.2f} similar"),
        kind=document.kind,
        origin=one.origin,
        path=one.path,
        size_bytes=one.size_bytes,
        kept=(kept.origin, kept.path, similarity),
    )


def _versions() -> dict[str, str]:
    packages = ("codecria", "numpy", "pyarrow", "rensa")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}

"""Building a corpus, in three stages that each leave files behind, so that a killed build goes on where it was.

1. examine: each unit of each source becomes a part (`parts.py`): documents, shingle hashes, band keys, ledger rows.
2. choose: packages are held out, caps applied, copies found (`selection.py`, `copies.py`) from the parts' indices.
3. write: each shard is written from the rows of parts that it holds (`writing.py`).

Stages 1 and 3 stream: memory holds one unit or one shard a worker. Stage 2 holds 75 bytes a document, one band's
keys at a time, and the shingles of the documents that one task compares. The work folder is `.NAME.build`, beside
the corpus; it is removed when the corpus is whole.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from codecria.common.errors import CodecriaError
from codecria.common.files import sha256_of_file, sync_folder, write_atomic
from codecria.common.lock import alone
from codecria.common.progress import console, progress_bar
from codecria.common.random import digest
from codecria.corpus.copies import Copies, find_copies
from codecria.corpus.decontaminate import DecontaminationRecipe
from codecria.corpus.examine import Examiner
from codecria.corpus.intake import Intake, TakeIn, list_units
from codecria.corpus.manifest import MANIFEST, SPLITS, TIMINGS, Manifest, Tally, merge_splits, read_manifest
from codecria.corpus.recipe import CorpusRecipe
from codecria.corpus.record import append_manifest, count_dropped, make_manifest
from codecria.corpus.runner import run_in_order
from codecria.corpus.selection import HeldOutRecipe, Mask
from codecria.corpus.writing import WriteShard, plan_shards, write_ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from codecria.corpus.manifest import Shard, Split, SplitCounts
    from codecria.corpus.sources.source import Source

__all__ = ["CorpusRecipe", "DecontaminationRecipe", "HeldOutRecipe", "build_corpus"]

T = TypeVar("T")


def build_corpus(recipe: CorpusRecipe, folder: Path, *, replace: bool = False, append: bool = False) -> Manifest:
    """Build a corpus, or do nothing when it is there already.

    Equal recipes over equal files give equal bytes, whatever the runner. A build that was killed goes on where it
    was when it is started again with the same recipe.

    Args:
        recipe: what to build. With more than one worker the calling script needs `if __name__ == "__main__":`.
        folder: where the corpus goes; it must be absent, empty, or hold a corpus of an equal recipe.
        replace: build again over an existing corpus, whatever its recipe.
        append: add to the corpus that is there: its documents stay as they are, and what resembles one of them
            is dropped. The result may differ from a build of both at once, which would rank them together.

    Raises:
        CodecriaError: the folder holds something else, another build is writing it, a source does not exist, or
            no document is left (it names the filters that took them).
    """
    with alone(folder):
        _recover(folder)
        sources: list[Source] = [source.open() for source in recipe.sources]
        old = _present(folder, replace)
        if old is not None:
            if recipe.identity() in (old.recipe, *old.appended):
                return _nothing_to_do(folder, old, sources)
            if not append:
                raise _other_recipe(recipe, old, folder)
        return _Build(recipe, folder, sources, old).run()


def _work(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.build"


def _trash(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.trash"


def _recover(folder: Path) -> None:
    """Finish what a kill interrupted in the last steps of a build: a replacement, or clearing up."""
    shutil.rmtree(_trash(folder), ignore_errors=True)
    replaced = _work(folder) / "replaced"
    if replaced.exists() and not folder.exists():
        replaced.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def _present(folder: Path, replace: bool) -> Manifest | None:
    """The manifest of the corpus in a folder; None where the folder is absent or empty, or is to be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not (folder / MANIFEST).is_file():
        raise CodecriaError("is not empty and holds no corpus", where=folder, mend="name a new folder for the corpus")
    return None if replace else read_manifest(folder)


def _nothing_to_do(folder: Path, manifest: Manifest, sources: list[Source]) -> Manifest:
    _say(f"{folder}: the corpus is there already ({manifest.total.documents:,} documents); nothing to do")
    if not manifest.appended and list_units(sources).digest != manifest.sources_digest:
        _say(f"{folder}: its sources have changed since it was built; build it again with replace (--replace)")
    return manifest


def _other_recipe(recipe: CorpusRecipe, old: Manifest, folder: Path) -> CodecriaError:
    wanted = recipe.identity()
    different = sorted(key for key in wanted | old.recipe if wanted.get(key) != old.recipe.get(key))
    mend = "name another folder, build over it with replace (--replace), or add to it with append (--append)"
    return CodecriaError(
        f"holds a corpus of another recipe (different: {', '.join(different)})", where=folder, mend=mend
    )


def _say(note: str) -> None:
    console.print(note, markup=False, highlight=False, soft_wrap=True)


@dataclass
class _Build:
    """One build under way, stage by stage."""

    recipe: CorpusRecipe
    folder: Path
    sources: list[Source]
    old: Manifest | None
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    work: Path = field(init=False)

    def run(self) -> Manifest:
        started_s = time.monotonic()
        self.work = _work(self.folder)
        for inside in ("parts", "shards", "notes"):
            (self.work / inside).mkdir(parents=True, exist_ok=True)
        examiner = Examiner(self.recipe)
        listing = self._timed("list", lambda: list_units(self.sources))
        take_in = TakeIn(self.recipe, self.sources, listing, examiner, self.work / "parts", self.folder, self.old)
        intake = self._timed("read and filter", take_in.run)
        self._require_documents(intake)
        key = digest(*(part.facts.key for part in intake.census.parts), repr(self.recipe.identity()))
        copies = self._timed("near-duplicates", lambda: self._copies(intake, key))
        shards, splits = self._timed("write", lambda: self._write(intake, copies, key))
        files, tasks = self._ledger(intake, copies), examiner.evaluation_tasks
        sources = [source.describe() for source in self.sources]
        manifest = make_manifest(
            self.recipe.identity(), sources, listing.digest, intake, copies, shards, splits, files, tasks
        )
        self.seconds["total"] = round(time.monotonic() - started_s, 3)
        manifest = manifest if self.old is None else append_manifest(self.old, manifest)
        self._put_in_place(manifest)
        return manifest

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        started_s = time.monotonic()
        result = work()
        self.seconds[stage] = round(time.monotonic() - started_s, 3)
        return result

    def _require_documents(self, intake: Intake) -> None:
        new = ~intake.census.fixed
        if (intake.taken & ~intake.held & new).any():
            return
        where = "; ".join(source.describe() for source in self.sources)
        seen = sum(part.facts.seen_texts for part in intake.census.parts)
        if not seen:
            mend = "check the paths and the languages of the sources"
            raise CodecriaError("no file of a wanted language in the sources", where=where, mend=mend)
        counts = sorted(count_dropped(intake.census.parts).items(), key=lambda item: -item[1].documents)
        reasons = ", ".join(f"{reason} {count.documents:,}" for reason, count in counts)
        if kept_out := int((intake.held & new).sum()):
            reasons = ", ".join(filter(None, [reasons, f"held out {kept_out:,}"]))
        mend = "loosen that filter in the recipe, or add a source"
        what = f"no document is left to train on, of {seen:,} examined ({reasons})"
        raise CodecriaError(what, where=where, mend=mend)

    def _copies(self, intake: Intake, key: bytes) -> Copies:
        path = self.work / "copies.npz"
        copies = Copies.load(path, key.hex())
        if copies is None:
            copies = find_copies(intake.census, intake.taken, intake.held, self.recipe)
            copies.save(path, key.hex())
        return copies

    def _write(self, intake: Intake, copies: Copies, key: bytes) -> tuple[list[Shard], dict[Split, SplitCounts]]:
        recipe, census = self.recipe, intake.census
        there = self.old.shards if self.old else []
        kept = intake.taken & ~census.fixed & (copies.kept_for < 0)
        in_order = recipe.order == "repository"
        writer = WriteShard(self.work / "shards", self.work / "notes", key, in_order, recipe.join_characters)
        chosen: dict[Split, Mask] = {"train": kept & ~intake.held, "held_out": kept & intake.held}
        plans = [
            plan
            for split, mask in chosen.items()
            for plan in plan_shards(census, mask, split, sum(one.split == split for one in there), recipe)
        ]
        before: dict[Split, SplitCounts] = self.old.splits if self.old else {}
        counts: dict[Split, list[SplitCounts]] = {split: [before.get(split, Tally().counts())] for split in SPLITS}
        shards: list[Shard] = []
        total = int(census.index["size_bytes"][kept].sum(dtype=np.int64))
        with progress_bar("writing", total=total, unit="bytes") as bar:
            for written in run_in_order(writer, plans, recipe.runner):
                shards.append(written.shard)
                counts[written.shard.split].append(written.counts)
                bar.advance(written.shard.text_bytes)
        return [*there, *shards], {split: merge_splits(parts) for split, parts in counts.items()}

    def _ledger(self, intake: Intake, copies: Copies) -> tuple[dict[str, str], dict[str, str]]:
        """Write the ledger and the samples of this build; their hashes, by name."""
        number = len(self.old.ledgers) if self.old else 0
        ledger, samples = f"ledger-{number:05d}.parquet", f"samples-{number:05d}.parquet"
        folder = self.work / "shards"
        write_ledger(intake.census, copies, folder / ledger, folder / samples, self.recipe.dropped_samples)
        return {ledger: sha256_of_file(folder / ledger)}, {samples: sha256_of_file(folder / samples)}

    def _put_in_place(self, manifest: Manifest) -> None:
        """New files get their names before the manifest that tells of them: a kill leaves the old corpus or the new."""
        out = self.work / "shards"
        wanted = {shard.name for shard in manifest.shards} | set(manifest.ledgers) | set(manifest.samples)
        if self.old is not None:
            wanted -= {shard.name for shard in self.old.shards} | set(self.old.ledgers) | set(self.old.samples)
        for file in out.iterdir():
            if file.name not in wanted:
                file.unlink()  # left by a build with another recipe
        created = datetime.now(UTC).isoformat(timespec="seconds")
        timings = json.dumps({"created": created, "seconds": self.seconds}, indent=1) + "\n"
        text = manifest.model_dump_json(indent=1) + "\n"
        if self.old is None:
            write_atomic(out / TIMINGS, timings)
            write_atomic(out / MANIFEST, text)
            if self.folder.exists():
                self.folder.rename(self.work / "replaced")
            out.rename(self.folder)
        else:
            for file in sorted(out.iterdir()):
                file.rename(self.folder / file.name)
            sync_folder(self.folder)
            write_atomic(self.folder / MANIFEST, text)
            write_atomic(self.folder / TIMINGS, timings)
        sync_folder(self.folder.parent)
        # Renamed before it is removed: half a part would be taken for a whole one by the next build.
        self.work.rename(_trash(self.folder))
        shutil.rmtree(_trash(self.folder), ignore_errors=True)

"""What a build writes down: the manifest of a new corpus, or of one that was added to."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections import Counter
from typing import TYPE_CHECKING, Any

from codecria.corpus.manifest import Count, DuplicateCounts, Manifest, largest_first, merge_counts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codecria.corpus.copies import Copies
    from codecria.corpus.intake import Intake
    from codecria.corpus.manifest import Shard, Split, SplitCounts
    from codecria.corpus.parts import Part


def count_dropped(parts: Iterable[Part]) -> dict[str, Count]:
    """Files that became no document, by reason."""
    return merge_counts(
        {reason: Count(documents=count, size_bytes=size) for reason, (count, size) in part.facts.dropped.items()}
        for part in parts
    )


def make_manifest(
    recipe: dict[str, Any],
    sources: list[str],
    sources_digest: str,
    intake: Intake,
    copies: Copies,
    shards: list[Shard],
    splits: dict[Split, SplitCounts],
    files: tuple[dict[str, str], dict[str, str]],
    evaluation_tasks: dict[str, int],
) -> Manifest:
    """The manifest of one build; `files` are the hashes of its ledger and of its samples."""
    new = intake.census.parts[intake.earlier :]
    found = copies.counts
    dropped = merge_counts([count_dropped(new), {"exact-copy": found.exact_copies, "near-copy": found.near_copies}])
    redacted = sum((Counter(part.facts.redacted) for part in new), Counter[str]())
    left = intake.census.index["size_bytes"][~intake.taken]
    seen = [Count(documents=part.facts.seen_texts, size_bytes=part.facts.seen_bytes) for part in new]
    return Manifest(
        recipe=recipe,
        sources=sources,
        sources_digest=sources_digest,
        fingerprint=hashlib.sha256("".join(f"{one.split} {one.contents}\n" for one in shards).encode()).hexdigest(),
        seen=sum(seen, Count()),
        passed_by=sum(part.facts.passed_by for part in new),
        not_taken=Count(documents=int(left.size), size_bytes=int(left.sum(dtype="int64"))),
        splits=splits,
        held_out_unit=intake.held_out.unit,
        dropped=largest_first({name: count for name, count in dropped.items() if count.documents}),
        redacted=dict(sorted(redacted.items())),
        duplicates=found,
        evaluation_tasks=evaluation_tasks,
        shards=shards,
        ledgers=files[0],
        samples=files[1],
        versions=_versions(),
    )


def append_manifest(old: Manifest, new: Manifest) -> Manifest:
    """The manifest of a corpus that was added to: `new` tells of the last build, its shards and splits of all."""
    redacted = Counter(old.redacted) + Counter(new.redacted)
    return new.model_copy(
        update={
            "recipe": old.recipe,
            "appended": [*old.appended, new.recipe],
            "sources": [*old.sources, *new.sources],
            "sources_digest": hashlib.sha256(f"{old.sources_digest} {new.sources_digest}".encode()).hexdigest(),
            "seen": old.seen + new.seen,
            "passed_by": old.passed_by + new.passed_by,
            "not_taken": old.not_taken + new.not_taken,
            "dropped": largest_first(merge_counts([old.dropped, new.dropped])),
            "redacted": dict(sorted(redacted.items())),
            "duplicates": _sum_duplicates(old.duplicates, new.duplicates),
            "evaluation_tasks": old.evaluation_tasks | new.evaluation_tasks,
            "ledgers": old.ledgers | new.ledgers,
            "samples": old.samples | new.samples,
        }
    )


def _sum_duplicates(old: DuplicateCounts, new: DuplicateCounts) -> DuplicateCounts:
    sums: dict[str, Any] = {}
    for name in DuplicateCounts.model_fields:
        first, second = getattr(old, name), getattr(new, name)
        sums[name] = max(first, second) if name.startswith("largest") else first + second
    return DuplicateCounts(**sums)


def _versions() -> dict[str, str]:
    packages = ("codecria", "numpy", "pyarrow", "rensa")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}

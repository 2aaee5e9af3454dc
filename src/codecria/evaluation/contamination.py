"""Which items of a task's published data stand in a corpus's training files, by their 5-grams.

The search is the one that takes such files out when a corpus is built (`corpus/decontaminate.py`), here over what was
kept: an item counts when most of a piece of it (prompt, solution or tests) stands close together in one file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from codecria.common.progress import track
from codecria.corpus.decontaminate import DecontaminationRecipe, Decontaminator
from codecria.corpus.evaluation_sets import read_set
from codecria.corpus.manifest import read_manifest
from codecria.corpus.shingles import shingle_hashes
from codecria.corpus.store import iterate_documents

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from codecria.evaluation.samples import Sample


class _Set(NamedTuple):
    """A file: what each of its tasks is counted as, and what finds them.

    A finder a file: of equal pieces it knows the first alone, and one problem in two languages has one docstring.
    """

    names: dict[str, str]
    finder: Decontaminator


def find_contamination(
    files: Mapping[str, Sequence[Path]], corpus: Path, rows: Sequence[Sample] = ()
) -> dict[str, dict[str, Any]]:
    """Items of each task's files that the training split holds.

    Args:
        files: each task's, by its name. Tasks without any are left out.
        corpus: a built corpus.
        rows: what was asked. Of a file whose tasks they name only these are items.

    Returns:
        By task: `items` looked for, `which` were found, and the `corpus`. Tasks of one name in several files are as
        many items, named with their file; but one where all rows are of one task, of which the files tell in parts.
    """
    asked: dict[str, list[Sample]] = {name: [] for name in files}
    for row in rows:
        asked.get(row.task.partition("/")[0], []).append(row)
    wanted = {name: _sets(paths, asked[name]) for name, paths in files.items() if paths}
    which: dict[str, dict[str, None]] = {name: {} for name in wanted}
    documents = read_manifest(corpus).splits["train"].total.documents
    for document in track(iterate_documents(corpus, "train", ("text",)), "contamination", documents, "files"):
        shingles = shingle_hashes(document.text.encode())
        for name, sets in wanted.items():
            for names, finder in sets:
                hits = finder.find_all(document.text, shingles)
                which[name] |= {names[hit.task]: None for hit in hits if hit.task in names}
    return {
        name: {
            "items": len({item for names, _ in sets for item in names.values()}),
            "which": sorted(which[name]),
            "corpus": corpus.name,
        }
        for name, sets in wanted.items()
    }


def _sets(paths: Sequence[Path], asked: Sequence[Sample]) -> list[_Set]:
    ids = {row.id for row in asked}
    apart = len(paths) > 1 and len({row.task for row in asked}) != 1
    sets: list[_Set] = []
    for path in paths:
        pieces = read_set(str(path))
        names = {piece.task: piece.task for piece in pieces}
        # MBPP's own file has bare numbers; other files' numbers, of rows without a name, are nobody's ids.
        known = {task: id for task in names if (id := f"Mbpp/{task}" if task.isdigit() else task) in ids}
        start = f"{path.parent.name}/{path.name} " if apart else ""
        names = {task: start + name for task, name in (known or names).items()}
        sets.append(_Set(names, Decontaminator(pieces, DecontaminationRecipe(human_eval=False))))
    return sets

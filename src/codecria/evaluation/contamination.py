"""Which items of a task's published data stand in a corpus's training files, by their 5-grams.

The search is the one that takes such files out when a corpus is built (`corpus/decontaminate.py`), here over what was
kept: an item counts when most of a piece of it (prompt, solution or tests) stands close together in one file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codecria.common.progress import track
from codecria.corpus.decontaminate import DecontaminationRecipe, Decontaminator
from codecria.corpus.evaluation_sets import read_set
from codecria.corpus.manifest import read_manifest
from codecria.corpus.shingles import shingle_hashes
from codecria.corpus.store import iterate_documents

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def find_contamination(files: Mapping[str, Sequence[Path]], corpus: Path) -> dict[str, dict[str, Any]]:
    """Items of each task's files that the training split holds.

    Args:
        files: each task's, by its name. Tasks without any are left out.
        corpus: a built corpus.

    Returns:
        By task: `items` looked for, `which` were found, and the `corpus`.
    """
    wanted = {
        name: [piece for path in paths for piece in read_set(str(path))] for name, paths in files.items() if paths
    }
    recipe = DecontaminationRecipe(human_eval=False)
    finders = {name: Decontaminator(pieces, recipe) for name, pieces in wanted.items()}
    which: dict[str, dict[str, None]] = {name: {} for name in wanted}
    documents = read_manifest(corpus).splits["train"].total.documents
    for document in track(iterate_documents(corpus, "train", ("text",)), "contamination", documents, "files"):
        shingles = shingle_hashes(document.text.encode())
        for name, finder in finders.items():
            which[name] |= dict.fromkeys(hit.task for hit in finder.find_all(document.text, shingles))
    return {
        name: {"items": len({piece.task for piece in pieces}), "which": sorted(which[name]), "corpus": corpus.name}
        for name, pieces in wanted.items()
    }

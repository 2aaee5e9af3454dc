"""How hard the questions of a run are, and how different from one another."""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from codecria.corpus.shingles import jaccard, shingle_hashes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.instruct.question import Triplet

_NEIGHBOURS_OF = 500


def statistics(triplets: Sequence[Triplet]) -> dict[str, Any]:
    """Figures of a run's triplets.

    Returns:
        `difficulty`: how many questions were solved by which sample, and median nodes of a solution's syntax tree;
        `diversity`: distinct functions and first words, the share of distinct among all word pairs of the
        questions, the median similarity (Jaccard, 5-grams) of a question to its nearest neighbour, at most 500 asked;
        `tests`: how many a question has.
    """
    if not triplets:
        return {"triplets": 0}
    texts = [triplet.question.text for triplet in triplets]
    words = [text.lower().split() for text in texts]
    pairs = [pair for each in words for pair in itertools.pairwise(each)]
    firsts = Counter(each[0] for each in words if each)
    tests = [len(triplet.question.tests) for triplet in triplets]
    return {
        "triplets": len(triplets),
        "tests": {"total": sum(tests), "median": float(np.median(tests))},
        "difficulty": {
            "tries": _tries(triplets),
            "median_nodes": float(np.median([_nodes(triplet.solution) for triplet in triplets])),
        },
        "diversity": {
            "functions": len({triplet.question.entry_point for triplet in triplets}),
            "median_words": float(np.median([len(each) for each in words])),
            "first_words": len(firsts),
            "commonest_first_words": dict(firsts.most_common(5)),
            "distinct_pairs": round(len(set(pairs)) / max(1, len(pairs)), 4),
            "nearest_neighbour": round(_nearest(texts), 4),
        },
        "origins": dict(Counter(triplet.question.origin.partition(":")[0] for triplet in triplets).most_common(20)),
    }


def _tries(triplets: Sequence[Triplet]) -> dict[str, int]:
    """By the number of the sample that passed: up to 1, 2, 4, 8, …; references have none."""
    bounds = Counter(1 << (triplet.tries - 1).bit_length() for triplet in triplets if triplet.tries)
    return {f"up to {bound}": bounds[bound] for bound in sorted(bounds)}


def _nodes(solution: str) -> int:
    return sum(1 for _ in ast.walk(ast.parse(solution)))


def _nearest(texts: Sequence[str]) -> float:
    """Median over the first questions of the similarity to the most similar other one."""
    sets = [shingle_hashes(text) for text in texts]
    found = [
        max((jaccard(each, other) for place, other in enumerate(sets) if place != number), default=0.0)
        for number, each in enumerate(sets[:_NEIGHBOURS_OF])
    ]
    return float(np.median(found))

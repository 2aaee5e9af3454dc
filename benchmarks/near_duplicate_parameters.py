"""Which bands and rows find the near-copies of real code, at what price: recall and precision on a labelled sample.

The sample is every text file of several versions of some packages, fetched once with pip. Its labels are the exact
Jaccard similarities of all pairs above 0.5: two such sets share one of the rarer half of their shingles, so an index
of those gives every pair that can be one. Written: near_duplicate_parameters.png beside this file.

For each number of permutations and rows, as means over three seeds: `pair_recall` and `pair_precision` of sharing a
bucket, against similarity >= 0.7; `met_per_document`, the pairs that share one; `recall` of the whole search (of the
documents that have a copy, how many are not left beside one) and `precision` (of the dropped, how many have a kept
copy). `keys_bytes` are the band keys of a document.
"""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from near_duplicates import THRESHOLD, distinct, package_texts
from scipy.sparse import coo_array, csr_array

from codecria.corpus.components import bucket_pairs
from codecria.corpus.near_duplicates import NearDuplicateRecipe, band_keys, find_near_duplicates
from codecria.corpus.shingles import Integers, ShingleSets, shingle_hashes

mpl.use("Agg")
from matplotlib import pyplot as plt

LEAST = 0.5
PERMUTATIONS = (64, 128, 256, 512)
ROWS = (4, 5, 6, 7, 8, 10, 12)
SEEDS = (0, 1, 2)
CHOSEN = NearDuplicateRecipe()
NONE_MISSED = 1e-5
"""Where the plot shows a recipe that missed nothing."""


def labelled_pairs(sets: ShingleSets) -> tuple[Integers, Integers, np.ndarray]:
    """All pairs of at least `LEAST` similarity: first, second, similarity."""
    sizes = np.diff(sets.offsets)
    documents = np.repeat(np.arange(len(sets)), sizes)
    _, number, count = np.unique(sets.hashes, return_inverse=True, return_counts=True)
    rarest_first = np.lexsort((number, count[number], documents))
    place = np.arange(number.size) - np.repeat(sets.offsets[:-1], sizes)
    needed = sizes - np.ceil(LEAST * sizes).astype(np.int64) + 1
    indexed = rarest_first[place < np.repeat(needed, sizes)]
    indexed = indexed[count[number[indexed]] > 1]
    shape = (len(sets), count.size)
    index = csr_array((np.ones(indexed.size, dtype=np.int32), (documents[indexed], number[indexed])), shape=shape)
    whole = csr_array((np.ones(number.size, dtype=np.int32), number, sets.offsets), shape=shape)
    columns = index.T.tocsr()
    found: list[tuple[Integers, Integers, np.ndarray]] = []
    for begin in range(0, len(sets), 500):
        shared = (index[begin : begin + 500] @ columns).tocoo()
        first, second = shared.row.astype(np.int64) + begin, shared.col.astype(np.int64)
        possible = (first < second) & (
            np.minimum(sizes[first], sizes[second]) >= LEAST * np.maximum(*sizes[[first, second]])
        )
        first, second = first[possible], second[possible]
        for part in range(0, first.size, 20_000):
            one, other = first[part : part + 20_000], second[part : part + 20_000]
            both = np.asarray(whole[one].multiply(whole[other]).sum(axis=1)).ravel()
            similarity = both / (sizes[one] + sizes[other] - both)
            alike = similarity >= LEAST
            found.append((one[alike], other[alike], similarity[alike]))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))  # type: ignore[return-value]


def met_pairs(keys: np.ndarray) -> np.ndarray:
    """Every pair of documents that shares a bucket, as first * documents + second, sorted."""
    count = keys.shape[1]
    met: list[np.ndarray] = [np.empty(0, dtype=np.int64)]
    for band in keys:
        first, other = bucket_pairs(band)
        members = np.concatenate([np.unique(first), other])
        bucket = np.concatenate([np.unique(first), first])
        one = np.ones(members.size, dtype=np.int32)
        table = coo_array((one, (members, bucket)), shape=(count, count)).tocsr()
        pairs = (table @ table.T).tocoo()
        above = pairs.row < pairs.col
        met.append(pairs.row[above].astype(np.int64) * count + pairs.col[above])
    return np.unique(np.concatenate(met))


def main() -> None:
    began = time.perf_counter()
    everything = list(package_texts())
    files = len(everything)
    texts = [text.encode() for _, text in distinct(iter(everything))]
    sets = ShingleSets.of([shingle_hashes(text) for text in texts])
    first, second, similarity = labelled_pairs(sets)
    labels = first * len(sets) + second
    alike = similarity >= THRESHOLD
    figures: list[dict[str, Any]] = []
    met_by_recipe: dict[tuple[int, int], np.ndarray] = {}
    for permutations in PERMUTATIONS:
        for rows in ROWS:
            recipe = NearDuplicateRecipe(permutations=permutations, bands=permutations // rows, rows=rows)
            tries: list[dict[str, float]] = []
            for seed in SEEDS:
                met = met_pairs(band_keys(sets, recipe, seed))
                is_met = np.isin(labels, met)
                shares = met_by_recipe.setdefault((permutations, rows), np.zeros(labels.size))
                shares += is_met / len(SEEDS)
                clock = time.perf_counter()
                dropped = find_near_duplicates(sets, np.arange(len(sets)), recipe, seed).kept_for >= 0
                tries.append(
                    {
                        "pair_recall": float(is_met[alike].mean()),
                        "pair_precision": float(is_met[alike].sum() / met.size),
                        "met_per_document": met.size / len(sets),
                        **judge(first[alike], second[alike], dropped),
                        "search_s": time.perf_counter() - clock,
                    }
                )
            means = {name: round(float(np.mean([each[name] for each in tries])), 5) for name in tries[0]}
            shape = {"permutations": permutations, "bands": recipe.bands, "rows": rows, "keys_bytes": 8 * recipe.bands}
            figures.append({**shape, **means})
            print(json.dumps(figures[-1]))
    draw(similarity, met_by_recipe, figures)
    chosen = next(each for each in figures if _is_chosen(each))
    result = {
        "chosen": chosen,
        "files": files,
        "distinct_files": len(sets),
        "bytes": sum(map(len, texts)),
        "pairs_above_0.5": int(labels.size),
        "pairs_above_0.7": int(alike.sum()),
        "seconds": round(time.perf_counter() - began, 1),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("codecria", "rensa")}},
    }
    print(json.dumps(result))


def judge(first: Integers, second: Integers, dropped: np.ndarray) -> dict[str, float]:
    """Recall and precision of a list of dropped documents against the pairs of copies."""
    kept = ~dropped
    copied, beside_kept = np.zeros_like(kept), np.zeros_like(kept)
    for one, other in ((first, second), (second, first)):
        copied[one] = True
        beside_kept[one[kept[other]]] = True
    recall = 1 - (kept & beside_kept).sum() / copied.sum()
    return {"recall": float(recall), "precision": float(beside_kept[dropped].mean())}


def draw(similarity: np.ndarray, met: dict[tuple[int, int], np.ndarray], figures: list[dict[str, Any]]) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5))
    edges = np.linspace(LEAST, 1, 26)
    middle = (edges[1:] + edges[:-1]) / 2
    place = np.clip(np.digitize(similarity, edges) - 1, 0, middle.size - 1)
    counts = np.bincount(place, minlength=middle.size)
    for colour, rows in zip(
        ("tab:grey", "tab:orange", "tab:green", "tab:blue", "tab:red"), (12, 10, 7, 6, 5), strict=True
    ):
        bands = 256 // rows
        share = np.bincount(place, weights=met[256, rows], minlength=middle.size) / np.maximum(counts, 1)
        label = f"{bands} bands of {rows} rows" + (" (chosen)" if (bands, rows) == (CHOSEN.bands, CHOSEN.rows) else "")
        left.plot(middle[counts > 0], share[counts > 0], "o", color=colour, markersize=4)
        left.plot(middle, 1 - (1 - middle**rows) ** bands, "-", color=colour, label=label)
    left.axvline(THRESHOLD, color="black", linewidth=0.8, linestyle=":")
    left.set(
        xlabel="Jaccard similarity of a pair",
        ylabel="share that meets in a bucket",
        title="256 permutations: measured (dots), formula (lines)",
    )
    left.legend(loc="lower right")
    for colour, permutations in zip(("tab:grey", "tab:orange", "tab:blue", "tab:green"), PERMUTATIONS, strict=True):
        line = [each for each in figures if each["permutations"] == permutations]
        missed = [max(1 - each["recall"], NONE_MISSED) for each in line]
        right.plot(
            [each["met_per_document"] for each in line],
            missed,
            "o-",
            color=colour,
            label=f"{permutations} permutations",
            markersize=4,
        )
        for each, height in zip(line, missed, strict=True):
            right.annotate(
                str(each["rows"]),
                (each["met_per_document"], height),
                textcoords="offset points",
                xytext=(4, 4),
                fontsize=8,
                color=colour,
            )
    chosen = next(each for each in figures if _is_chosen(each))
    right.plot(
        chosen["met_per_document"],
        max(1 - chosen["recall"], NONE_MISSED),
        "s",
        color="black",
        markersize=11,
        fillstyle="none",
        label="chosen",
    )
    right.set(
        xscale="log",
        yscale="log",
        xlabel="pairs that meet, per document",
        ylabel="copies the search leaves (share of copied files)",
        title="what is missed, at what price (numbers: rows)",
    )
    right.set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    right.minorticks_off()
    right.axhline(NONE_MISSED, color="black", linewidth=0.8, linestyle=":")
    right.text(2.2, NONE_MISSED * 1.15, "none missed", fontsize=8)
    right.legend()
    figure.tight_layout()
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


def _is_chosen(figures: dict[str, Any]) -> bool:
    return all(figures[name] == getattr(CHOSEN, name) for name in ("permutations", "bands", "rows"))


if __name__ == "__main__":
    main()

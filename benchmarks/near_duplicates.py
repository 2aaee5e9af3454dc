"""Near-duplicate search, from Parquet to the list of documents to drop: ours against datatrove, datasketch, gaoya.

    python benchmarks/near_duplicates.py [FOLDER] [--megabytes 400] [--full] [--rounds 2]

The texts are those of this machine (the running environment, Python's library, /usr/share, /usr/include), or of
FOLDER, beside several versions of some packages, fetched once with pip; exact copies are left out before. All take
the same tokens, shingles of 5 tokens, 256 permutations, threshold 0.7 and two processes, in turn, each in a process
tree of its own. The peers have their own best bands for that threshold, 25 of 10 rows. datatrove's fourth stage,
which copies the kept documents, is left out, as is ours; xxhash 4 refuses its str, so it is given bytes. gaoya (Rust,
two threads instead of processes) splits words itself, which is faster than taking ours; it holds all in memory.
A peer that is not installed is left out and named.

Recall: of the documents that have a copy (exact Jaccard >= 0.7), how many are not left beside one. Precision: of the
dropped documents, how many have a kept copy. Both on a sample of documents, each compared with every other one.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from codecria.common.files import cache_folder
from codecria.corpus.components import Components, group_components
from codecria.corpus.near_duplicates import NearDuplicateRecipe, band_keys, find_near_duplicates
from codecria.corpus.shingles import Integers, ShingleSets, shingle_hashes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THRESHOLD = 0.7
PERMUTATIONS = 256
PEER_BANDS, PEER_ROWS = 25, 10
PROCESSES = 2
SHARDS = 8
BATCH_DOCUMENTS = 250
GROUP_SHINGLES = 4_000_000
SAMPLE = 4_000
TOKEN = re.compile(r"[A-Za-z_0-9]+|[^\x00-\x7f]")
SUFFIXES = frozenset(
    f".{name}"
    for name in re.findall(
        r"\w+",
        "py pyi pyx h hpp c cc cpp cu cuh js ts md rst txt html css xml json sh pl pm pod rs go rb java vim el po",
    )
)
VERSIONS = {
    "django": ("4.2.16", "5.0.9", "5.1.15", "5.2.19"),
    "networkx": ("2.8.8", "3.0", "3.2.1", "3.4.2", "3.6.1"),
    "setuptools": ("65.0.0", "70.0.0", "75.0.0", "80.0.1"),
    "sympy": ("1.10.1", "1.11.1", "1.12.1", "1.13.3", "1.14.0"),
    "transformers": ("4.40.2", "4.44.2", "4.48.3", "4.52.4"),
}


def package_texts() -> Iterator[tuple[str, bytes]]:
    """The text files of several versions of some packages, fetched with pip where they are not cached."""
    folder = cache_folder() / "benchmarks" / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    for name, numbers in VERSIONS.items():
        for number in numbers:
            if not _wheel(folder, name, number):
                pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
                subprocess.run([*pip, "--dest", str(folder), f"{name}=={number}"], check=False)
            if wheel := _wheel(folder, name, number):
                with zipfile.ZipFile(wheel) as archive:
                    for path in sorted(archive.namelist()):
                        if Path(path).suffix.lower() in SUFFIXES:
                            yield f"{wheel.name}/{path}", archive.read(path)


def _wheel(folder: Path, name: str, number: str) -> Path | None:
    return next((each for each in folder.iterdir() if each.name.lower().startswith(f"{name}-{number}-")), None)


def folder_texts(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink():
            yield str(path), path.read_bytes()


def machine_texts() -> Iterator[tuple[str, bytes]]:
    paths = sysconfig.get_paths()
    for folder in (paths["stdlib"], paths["purelib"], "/usr/lib/python3", "/usr/include", "/usr/share"):
        yield from folder_texts(Path(folder))


def distinct(texts: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, str]]:
    """UTF-8 texts of 200 bytes to 1 MB, each content once."""
    seen: set[bytes] = set()
    for name, data in texts:
        digest = hashlib.sha256(data).digest()
        if 200 <= len(data) <= 1_000_000 and b"\0" not in data and digest not in seen:
            seen.add(digest)
            try:
                yield name, data.decode()
            except UnicodeDecodeError:
                continue


def write_shards(texts: Iterator[tuple[str, str]], folder: Path, limit_bytes: int) -> int:
    """Texts mixed over the shards, up to a limit; returns their bytes."""
    chosen, size = [], 0
    for name, text in texts:
        chosen.append((name, text))
        size += len(text.encode())
        if size >= limit_bytes:
            break
    chosen.sort(key=lambda one: hashlib.sha256(one[0].encode()).digest())
    folder.mkdir(parents=True)
    for shard in range(SHARDS):
        part = chosen[shard::SHARDS]
        table = pa.table({"id": [name for name, _ in part], "text": [text for _, text in part]})
        pq.write_table(table, folder / f"{shard:03}.parquet", compression="zstd", row_group_size=BATCH_DOCUMENTS)
    return size


def read_shard(path: Path, form: pa.DataType) -> Iterator[list[Any]]:
    file = pq.ParquetFile(path, pre_buffer=False)
    for batch in file.iter_batches(BATCH_DOCUMENTS, columns=["text"], use_threads=False):
        yield batch.column("text").cast(form).to_pylist()


def shard_paths(folder: Path) -> list[Path]:
    return sorted((folder / "texts").glob("*.parquet"))


def pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(PROCESSES, mp_context=get_context("forkserver"))


# Ours: shingles and keys of each shard to disk, components over the bands, the search over groups of components.


def run_ours(folder: Path) -> Integers:
    recipe = NearDuplicateRecipe(threshold=THRESHOLD, permutations=PERMUTATIONS)
    shards = shard_paths(folder)
    with pool() as workers:
        list(workers.map(_sign_shard, shards))
        sizes = np.concatenate([np.load(path.with_suffix(".sizes.npy")) for path in shards])
        components = Components(sizes.size)
        keys = [np.load(path.with_suffix(".keys.npy"), mmap_mode="r") for path in shards]
        for band in range(recipe.bands):
            components.join(np.concatenate([part[band] for part in keys]), np.arange(sizes.size))
        groups = group_components(components.labels(), sizes, GROUP_SHINGLES)
        groups.sort(key=lambda group: -int(sizes[group].sum()))
        dropped = list(workers.map(_search_group, groups, [folder] * len(groups)))
    return np.concatenate([*dropped, np.empty(0, dtype=np.int64)])


def _sign_shard(path: Path) -> None:
    recipe = NearDuplicateRecipe(threshold=THRESHOLD, permutations=PERMUTATIONS)
    sizes, keys = [], []
    with path.with_suffix(".hashes").open("wb") as file:
        for texts in read_shard(path, pa.binary()):
            sets = ShingleSets.of([shingle_hashes(text) for text in texts])
            sets.hashes.tofile(file)
            sizes.append(np.diff(sets.offsets))
            keys.append(band_keys(sets, recipe))
    np.save(path.with_suffix(".sizes.npy"), np.concatenate(sizes))
    np.save(path.with_suffix(".keys.npy"), np.concatenate(keys, axis=1))


def _search_group(group: Integers, folder: Path) -> Integers:
    sets = load_sets(folder, group)
    found = find_near_duplicates(sets, np.arange(group.size), NearDuplicateRecipe(threshold=THRESHOLD))
    return group[found.kept_for >= 0]


def load_sets(folder: Path, documents: Integers) -> ShingleSets:
    """Shingle sets of some documents, numbered through all shards, from disk."""
    shards = shard_paths(folder)
    sizes = [np.load(path.with_suffix(".sizes.npy")) for path in shards]
    ends = np.cumsum([0, *map(len, sizes)])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes)[documents])])
    hashes = np.empty(offsets[-1], dtype=np.uint32)
    for path, size, first, end in zip(shards, sizes, ends, ends[1:], strict=False):
        begins = np.concatenate([[0], np.cumsum(size)])
        # Read, not mapped: a mapped file counts as memory, and so it would for whoever watches the process.
        with path.with_suffix(".hashes").open("rb") as file:
            for place in np.flatnonzero((documents >= first) & (documents < end)).tolist():
                file.seek(4 * begins[documents[place] - first])
                file.readinto(hashes[offsets[place] : offsets[place + 1]].data)  # type: ignore[attr-defined]
    return ShingleSets(hashes, offsets)


# The peers.


def shingles(text: str) -> list[str]:
    tokens = TOKEN.findall(text)
    return [" ".join(shingle) for shingle in zip(*(islice(tokens, at, None) for at in range(5)), strict=False)]


def run_datatrove(folder: Path) -> Integers:
    import xxhash
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.utils.text import TextNormConfig
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Words(WordTokenizer):
        """The tokens that all take."""

        def word_tokenize(self, text: str) -> list[str]:
            return TOKEN.findall(text)

        sent_tokenize = span_tokenize = word_tokenize

    as_it_is = TextNormConfig(**dict.fromkeys(("lowercase", "norm_whitespace", "remove_punctuation"), False))
    as_it_is = replace(as_it_is, norm_unicode_diacritics=False, norm_numbers=False, norm_weekdays=False)
    config = MinhashConfig(num_buckets=PEER_BANDS, hashes_per_bucket=PEER_ROWS, norm_config=as_it_is)
    signatures, buckets, removed = (str(folder / name) for name in ("signatures", "buckets", "removed"))
    reader = ParquetReader(str(folder / "texts"), glob_pattern="*.parquet", batch_size=BATCH_DOCUMENTS)
    signature = MinhashDedupSignature(signatures, config, language=Words())
    signature._hash_func = lambda shingle: xxhash.xxh64_intdigest(shingle.encode())
    stages: list[tuple[list[Any], int]] = [
        ([reader, signature], SHARDS),
        ([MinhashDedupBuckets(signatures, buckets, config=config)], PEER_BANDS),
        ([MinhashDedupCluster(buckets, removed, config=config)], 1),
    ]
    for number, (pipeline, tasks) in enumerate(stages):
        logs = str(folder / f"logs-{number}")
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(tasks, PROCESSES), logging_dir=logs).run()
    dropped, first = [np.empty(0, dtype=np.int64)], 0
    for shard, path in enumerate(shard_paths(folder)):
        file = folder / "removed" / f"{shard:06}.remove"
        if file.exists():
            dropped.append(first + np.fromfile(file, dtype="<u4").astype(np.int64))
        first += pq.ParquetFile(path).metadata.num_rows
    return np.concatenate(dropped)


def run_datasketch(folder: Path) -> Integers:
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    assert (index.b, index.r) == (PEER_BANDS, PEER_ROWS)
    dropped, number = [], 0
    with pool() as workers:
        for hashes in workers.map(_minhash_shard, shard_paths(folder)):
            for one in hashes:
                if one is not None and index.query(one):
                    dropped.append(number)
                elif one is not None:
                    index.insert(number, one)
                number += 1
    return np.array(dropped, dtype=np.int64)


def _minhash_shard(path: Path) -> list[Any]:
    import xxhash
    from datasketch import LeanMinHash, MinHash

    found: list[Any] = []
    for texts in read_shard(path, pa.string()):
        for text in texts:
            one = MinHash(PERMUTATIONS, hashfunc=xxhash.xxh32_intdigest)
            one.update_batch([shingle.encode() for shingle in set(shingles(text))])
            found.append(None if one.is_empty() else LeanMinHash(one))
    return found


def run_gaoya(folder: Path) -> Integers:
    from gaoya.minhash import MinHashStringIndex

    index = MinHashStringIndex(
        32, THRESHOLD, PEER_BANDS, PEER_ROWS, analyzer="word", ngram_range=(5, 5), id_container="vec"
    )
    count = 0
    for path in shard_paths(folder):
        for texts in read_shard(path, pa.string()):
            index.par_bulk_insert_docs(list(range(count, count + len(texts))), texts)
            count += len(texts)
    dropped: dict[int, None] = {}
    number = 0
    for path in shard_paths(folder):
        for texts in read_shard(path, pa.string()):
            for alike in index.par_bulk_query(texts):
                if any(other < number and other not in dropped for other in alike):
                    dropped[number] = None
                number += 1
    return np.array(list(dropped), dtype=np.int64)


RUNS: dict[str, Callable[[Path], Integers]] = {
    "ours": run_ours,
    "datatrove": run_datatrove,
    "datasketch": run_datasketch,
    "gaoya": run_gaoya,
}


def measure(name: str, texts: Path, size_bytes: int) -> dict[str, Any]:
    """Run one of them in a process tree of its own.

    Returns:
        Its rate, CPU seconds, largest memory of the tree (proportional set size, so shared pages count once), and
        the dropped documents.
    """
    import psutil

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "texts").symlink_to(texts) if name != "ours" else _link_shards(texts, folder / "texts")
        threads = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": str(PROCESSES) if name == "gaoya" else "1"}
        began = time.perf_counter()
        process = psutil.Popen(
            [sys.executable, __file__, "--run", name, str(folder)],
            env={**os.environ, **threads, "LOGURU_LEVEL": "ERROR"},
            stdout=subprocess.DEVNULL,
            stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
        )
        peak, cpu_seconds = 0, dict[int, float]()
        while process.poll() is None:
            peak = max(peak, _look(process, cpu_seconds))
            time.sleep(0.1)
        seconds = time.perf_counter() - began
        if process.returncode:
            raise SystemExit(f"{name} failed with status {process.returncode}; VERBOSE=1 shows why")
        return {
            "bytes_per_s": size_bytes / seconds,
            "seconds": round(seconds, 2),
            "cpu_seconds": round(sum(cpu_seconds.values()), 2),
            "peak_bytes": peak,
            "dropped": np.load(folder / "dropped.npy"),
        }


def _link_shards(texts: Path, folder: Path) -> None:
    folder.mkdir()
    for path in texts.iterdir():
        (folder / path.name).symlink_to(path)


def _look(process: Any, cpu_seconds: dict[int, float]) -> int:
    """Memory of a process tree now, shared pages once; notes the CPU time each process has had."""
    import psutil

    total = 0
    with contextlib.suppress(psutil.Error):
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += one.memory_full_info().pss
                times = one.cpu_times()
                cpu_seconds[one.pid] = times.user + times.system
    return total


class Truth:
    """Exact Jaccard of a sample of documents with every other document."""

    def __init__(self, texts: Path) -> None:
        from scipy.sparse import csr_array

        paths = sorted(texts.glob("*.parquet"))
        hashes = [shingle_hashes(text) for path in paths for part in read_shard(path, pa.binary()) for text in part]
        sets = ShingleSets.of(hashes)
        self.documents = len(sets)
        sizes = np.diff(sets.offsets)
        self.sample = np.sort(np.random.default_rng(0).permutation(self.documents)[:SAMPLE])
        wanted = np.unique(np.concatenate([sets[one] for one in self.sample.tolist()]))
        place = np.searchsorted(wanted, sets.hashes).clip(max=wanted.size - 1)
        held = wanted[place] == sets.hashes
        offsets = np.concatenate([[0], np.cumsum(held)])[sets.offsets]
        table = csr_array((np.ones(int(held.sum()), dtype=np.int32), place[held], offsets))
        table.resize(self.documents, wanted.size)
        columns = table.T.tocsr()
        self.copies: list[Integers] = []
        for first in range(0, self.sample.size, 50):
            rows = self.sample[first : first + 50]
            shared = (table[rows] @ columns).tocoo()
            one, other = rows[shared.row], shared.col
            alike = shared.data / (sizes[one] + sizes[other] - shared.data) >= THRESHOLD
            alike &= one != other
            self.copies += [other[alike & (one == document)] for document in rows]

    def judge(self, dropped: Integers) -> dict[str, float]:
        """Recall and precision of a list of dropped documents."""
        kept = np.ones(self.documents, dtype=np.bool_)
        kept[dropped] = False
        is_kept = kept[self.sample]
        copied = np.array([copies.size > 0 for copies in self.copies])
        beside_kept = np.array([kept[copies].any() for copies in self.copies])
        return {
            "recall": round(1 - (is_kept & beside_kept).sum() / copied.sum(), 4),
            "precision": round(beside_kept[~is_kept].mean(), 4),
            "dropped": int(dropped.size),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--full", action="store_true", help="all texts found, whatever their size")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--run", nargs=2)
    asked = parser.parse_args()
    if asked.run:
        np.save(Path(asked.run[1]) / "dropped.npy", RUNS[asked.run[0]](Path(asked.run[1])))
        return
    with tempfile.TemporaryDirectory() as place:
        texts = Path(place) / "texts"
        size = write_shards(
            distinct(_all_texts(asked.folder)), texts, sys.maxsize if asked.full else asked.megabytes * 10**6
        )
        compare(texts, size, asked.rounds)


def _all_texts(folder: Path | None) -> Iterator[tuple[str, bytes]]:
    if folder is None:
        yield from package_texts()
        yield from machine_texts()
    else:
        yield from folder_texts(folder)


def compare(texts: Path, size: int, rounds: int) -> None:
    peers = [name for name in RUNS if name != "ours" and find_spec(name)]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ("ours", *peers)}
    ratios: dict[str, list[float]] = {name: [] for name in peers}
    measure("ours", texts, size)
    for _ in range(rounds):
        for peer in peers:
            theirs, mine = measure(peer, texts, size), measure("ours", texts, size)
            ratios[peer].append(mine["bytes_per_s"] / theirs["bytes_per_s"])
            runs[peer].append(theirs)
            runs["ours"].append(mine)
    truth = Truth(texts)
    middle = {name: _median(runs[name], truth) for name in runs}
    for name in runs:
        print(json.dumps({"name": name, **middle[name]}))
    best = max(peers, key=lambda name: middle[name]["bytes_per_s"])
    result = {
        "ratio": round(statistics.median(ratios[best]), 2),
        "ours": middle["ours"]["bytes_per_s"],
        "peer": middle[best]["bytes_per_s"],
        "unit": "bytes_per_s",
        "bytes_per_s": middle["ours"]["bytes_per_s"],
        "peer_name": best,
        "spread": [round(min(ratios[best]), 2), round(max(ratios[best]), 2)],
        "memory_ratio": round(middle["ours"]["peak_bytes"] / middle[best]["peak_bytes"], 3),
        "against": {
            name: {
                "ratio": round(statistics.median(ratios[name]), 2),
                "memory_ratio": round(middle["ours"]["peak_bytes"] / middle[name]["peak_bytes"], 3),
            }
            for name in peers
        },
        "recall": {name: middle[name]["recall"] for name in runs},
        "precision": {name: middle[name]["precision"] for name in runs},
        "bytes": size,
        "documents": truth.documents,
        "not_installed": [name for name in RUNS if name not in runs],
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("codecria", "rensa", "numpy", *peers)},
        },
    }
    print(json.dumps(result))


def _median(runs: list[dict[str, Any]], truth: Truth) -> dict[str, Any]:
    """Medians of the runs' figures, and what the last one dropped, judged."""
    figures = {
        name: round(statistics.median(run[name] for run in runs), 2)
        for name in ("bytes_per_s", "seconds", "cpu_seconds", "peak_bytes")
    }
    return {**figures, **truth.judge(runs[-1]["dropped"])}


if __name__ == "__main__":
    main()

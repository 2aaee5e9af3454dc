"""How a corpus build grows: the same sources at 1, 2, 4 and 8 times the size, each in a process of its own.

    python benchmarks/corpus_growth.py [FOLDER] [--megabytes 800] [--plot growth.png]

The files are those of this machine (the running environment, Python's library, /usr/share, /usr/include), or of
FOLDER: a keyed draw orders them, and each size takes the first of that order, so a smaller corpus is an even sample
of the larger. One worker. For each stage: seconds, and the most memory the process held during it. `exponent` is the
slope of log time over log bytes; 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from codecria.common.random import draw_bits
from codecria.corpus.build import CorpusRecipe, _Build, build_corpus  # pyright: ignore[reportPrivateUsage]
from codecria.corpus.languages import code_language, prose_language
from codecria.corpus.sources.folder import FolderRecipe

SIZES = (1, 2, 4, 8)
STAGES = ("read and filter", "near-duplicates", "write")


def files_of(folders: list[Path], most_bytes: int) -> list[tuple[str, int]]:
    """Files with their sizes in a drawn order, up to so many bytes."""
    found: list[tuple[int, str, int]] = []
    for folder in folders:
        for above, _, names in os.walk(folder):
            for name in names:
                path = Path(above) / name
                if (code_language(name) or prose_language(name)) and path.is_file() and not path.is_symlink():
                    size = path.stat().st_size
                    if 0 < size < 1_000_000:
                        found.append((draw_bits("growth", str(path)), str(path), size))
    found.sort()
    chosen: list[tuple[str, int]] = []
    total = 0
    for _, path, size in found:
        if total >= most_bytes:
            break
        total += size
        chosen.append((path, size))
    return chosen


def lay_out(files: list[tuple[str, int]], most_bytes: float, folder: Path) -> int:
    """Copies of the first files, up to so many bytes; how many there are."""
    total = 0
    for path, size in files:
        if total >= most_bytes:
            break
        target = folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(Path(path).read_bytes())
        total += size
    return total


def high_water_bytes() -> int:
    """The most memory this process has held since the mark was last taken back."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1_000
    raise RuntimeError("no VmHWM: this benchmark needs Linux")


def build_here(source: str, out: str) -> None:
    """One build; prints seconds and memory of each stage, and what the manifest says."""
    timed = _Build._timed  # pyright: ignore[reportPrivateUsage]
    memory: dict[str, int] = {}

    def watched(self: Any, stage: str, work: Any) -> Any:
        Path("/proc/self/clear_refs").write_text("5")
        result = timed(self, stage, work)
        memory[stage] = high_water_bytes()
        return result

    _Build._timed = watched  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    recipe = CorpusRecipe(sources=(FolderRecipe(path=source),), permissive_only=False, shard_bytes=32_000_000)
    manifest = build_corpus(recipe, Path(out))
    seconds = json.loads((Path(out) / "timings.json").read_text())["seconds"]
    found = manifest.duplicates
    print(
        json.dumps(
            {
                "documents": manifest.total.documents,
                "kept_bytes": manifest.total.size_bytes,
                "seconds": seconds,
                "memory": memory,
                "pairs_met": found.candidates,
                "pairs_compared": found.verified,
                "components": found.components,
                "largest_component": found.largest_component,
                "dropped_copies": found.exact_copies.documents + found.near_copies.documents,
            }
        )
    )


def main() -> None:
    """Run all sizes and print the curve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--megabytes", type=float, default=800)
    parser.add_argument("--plot")
    parser.add_argument("--build", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        build_here(*given.build)
        return
    paths = sysconfig.get_paths()
    folders = [paths["purelib"], paths["stdlib"], "/usr/share", "/usr/include", "/usr/lib/python3"]
    roots = [Path(given.folder)] if given.folder else [Path(each) for each in folders]
    files = files_of(roots, int(given.megabytes * 1e6))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in SIZES:
            source, out = Path(scratch) / f"source{size}", Path(scratch) / f"corpus{size}"
            raw = lay_out(files, sum(each for _, each in files) * size / SIZES[-1], source)
            command = [sys.executable, __file__, "--build", str(source), str(out)]
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )
            row = {"size": size, "raw_bytes": raw, **json.loads(done.stdout.splitlines()[-1])}
            rows.append(row)
            print(line_of(row), flush=True)
    if given.plot:
        draw(rows, Path(given.plot))
    raw = [row["raw_bytes"] for row in rows]
    slopes = {
        stage: round(float(np.polyfit(np.log(raw), np.log([row["seconds"][stage] for row in rows]), 1)[0]), 3)
        for stage in (*STAGES, "total")
    }
    last = rows[-1]
    result = {
        "exponent": slopes["total"],
        "exponents": slopes,
        "bytes_per_s": round(last["raw_bytes"] / last["seconds"]["total"]),
        "memory_growth": {stage: round(last["memory"][stage] / rows[0]["memory"][stage], 2) for stage in STAGES},
        "rows": rows,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "pyarrow", "rensa")},
        },
    }
    print(json.dumps(result))


def line_of(row: dict[str, Any]) -> str:
    """One size as a line."""
    stages = "  ".join(f"{stage} {row['seconds'][stage]:.1f} s {row['memory'][stage] / 1e6:.0f} MB" for stage in STAGES)
    pairs = f"{row['pairs_met']:,} pairs met, {row['dropped_copies']:,} copies"
    return f"{row['size']}x  {row['raw_bytes'] / 1e6:.0f} MB  {row['documents']:,} documents  {stages}  {pairs}"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds and memory of each stage over the size of the input."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    raw = [row["raw_bytes"] / 1e6 for row in rows]
    for stage in STAGES:
        left.plot(raw, [row["seconds"][stage] for row in rows], marker="o", label=stage)
        right.plot(raw, [row["memory"][stage] / 1e6 for row in rows], marker="o", label=stage)
    left.set(xscale="log", yscale="log", xlabel="input, MB", ylabel="seconds, one core")
    right.set(xscale="log", ylim=(0, None), xlabel="input, MB", ylabel="peak memory, MB")
    for axes in (left, right):
        axes.set_xticks(raw, [f"{each:.0f}" for each in raw])
        axes.minorticks_off()
    left.legend()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()

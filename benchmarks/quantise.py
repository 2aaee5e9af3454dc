"""What few bits cost: perplexity and infilled lines of fp32, bf16, int8 and int4 on files of the standard library.

    python benchmarks/quantise.py [--quick] [--model codecria-135m-infill]

The same texts and the same lines for every format. `agrees` is the share of lines that are those of fp32, right or not.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sysconfig
import time
from importlib.metadata import version
from pathlib import Path

import torch

import codecria
from codecria.common.random import draw_integer
from codecria.generation.speed import weight_bytes

FORMATS = ("fp32", "bf16", "int8", "int4")


def library() -> list[str]:
    """Texts of modules of 2,000 to 40,000 characters, in an order keyed by their names."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    texts = [path.read_text(errors="replace") for path in sorted(folder.glob("*.py"), key=lambda path: path.name)]
    chosen = [text for text in texts if 2_000 < len(text) < 40_000]
    return sorted(chosen, key=lambda text: draw_integer(1 << 30, "quantise", text[:500]))


def holes(texts: list[str]) -> list[tuple[str, str, str]]:
    """One line of each text, cut at its indentation: prefix, middle, suffix."""
    found = []
    for text in texts:
        lines = text.splitlines(keepends=True)
        place = len(lines) // 4 + draw_integer(len(lines) // 2, "line", text[:500])
        place = next((n for n in range(place, len(lines) - 1) if len(lines[n].strip()) > 8), None)
        if place is None:
            continue
        middle = lines[place].strip()
        start = lines[place].index(middle)
        prefix = "".join(lines[max(0, place - 40) : place]) + lines[place][:start]
        suffix = lines[place][start + len(middle) :] + "".join(lines[place + 1 : place + 20])
        found.append((prefix, middle, suffix))
    return found


@torch.inference_mode()
def perplexity(model: codecria.CodeModel, texts: list[str], tokens: int) -> float:
    network, total, count = model.engine.model, 0.0, 0
    for text in texts:
        ids = torch.tensor([model.tokenizer.encode(text)[:tokens]])
        hidden = network(ids)[0, :-1]
        scores = torch.nn.functional.linear(hidden, network.head_weight).float()
        total += torch.nn.functional.cross_entropy(scores, ids[0, 1:], reduction="sum").item()
        count += len(hidden)
    return math.exp(total / count)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="see that everything runs")
    arguments.add_argument("--model", default="codecria-135m-infill")
    chosen = arguments.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    texts = library()
    scored, tokens, filled = (texts[:2], 128, 2) if chosen.quick else (texts[:24], 512, 100)
    lines = holes(texts[:filled])
    rows: list[dict] = []
    reference: list[str] = []
    for name in FORMATS:
        model = codecria.load(chosen.model, dtype=name)
        began = time.perf_counter()
        found = perplexity(model, scored, tokens)
        made = [model.infill(a, b, max_tokens=32, stop_at="line").text.strip() for a, _, b in lines]
        reference = reference or made
        row = {
            "format": name,
            "megabytes": round(weight_bytes(model.engine.model) / 1e6, 1),
            "perplexity": round(found, 4),
            "exact_match": round(sum(one == line[1] for one, line in zip(made, lines, strict=True)) / len(lines), 3),
            "agrees": round(sum(one == other for one, other in zip(made, reference, strict=True)) / len(lines), 3),
            "seconds": round(time.perf_counter() - began, 1),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    best, four = rows[0], rows[-1]
    result = {
        "ratio": round(best["perplexity"] / four["perplexity"], 4),
        "ours": four["perplexity"],
        "peer": best["perplexity"],
        "peer_name": f"{chosen.model} in float32",
        "spread": [round(best["perplexity"] / row["perplexity"], 4) for row in rows],
        "unit": "perplexity",
        "rows": rows,
        "lines": len(lines),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("codecria", "torch")}},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""What few bits cost: perplexity and infilled lines of fp32, bf16, int8 and int4 on code that the adapter never saw.

    python benchmarks/quantise.py [--quick | --full] [--model codecria-135m-infill]

The code is that of installed packages which the adapter's corpus does not name. The same texts and the same lines for
every format. `nats_more` is the loss of a token above that of fp32, with half of its 95 % interval over texts;
`agrees` is the share of lines that are those of fp32, right or not. By default 3,072 tokens are scored and 32 ends of
lines filled from 16 lines of code around them, because a processor without bfloat16 reads 28 tokens a second in it;
`--full` is 12,288 tokens and 100 ends from 60 lines of code.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import statistics
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

import codecria
from codecria.common.random import draw_integer
from codecria.generation.speed import weight_bytes

FORMATS = ("fp32", "bf16", "int8", "int4")
PACKAGES = ("rich", "typer", "pydantic", "huggingface_hub")


class Size(NamedTuple):
    """How much is done: texts scored, tokens of each, ends of lines filled, lines shown before and after each."""

    texts: int
    tokens: int
    filled: int
    before: int
    after: int


QUICK, DEFAULT, FULL = Size(2, 128, 2, 10, 6), Size(12, 256, 32, 10, 6), Size(24, 512, 100, 40, 20)


def modules() -> list[str]:
    """Texts of the packages' modules of 2,000 to 40,000 characters, in an order keyed by their contents."""
    texts: list[str] = []
    for name in PACKAGES:
        found = find_spec(name)
        assert found is not None and found.origin is not None, f"{name} is not installed"
        texts += [path.read_text(errors="replace") for path in sorted(Path(found.origin).parent.rglob("*.py"))]
    chosen = [text for text in texts if 2_000 < len(text) < 40_000]
    return sorted(chosen, key=lambda text: draw_integer(1 << 30, "quantise", text))


def holes(texts: list[str], before: int, after: int) -> list[tuple[str, str, str]]:
    """The end of one line of each text, from the last word that begins in its first 60 %: prefix, middle, suffix."""
    found = []
    for text in texts:
        lines = text.splitlines(keepends=True)
        place = len(lines) // 4 + draw_integer(len(lines) // 2, "line", text)
        place = next((n for n in range(place, len(lines) - 1) if len(lines[n].strip()) > 16), None)
        if place is None:
            continue
        line = lines[place].rstrip()
        cut = max((match.start() for match in re.finditer(r"\w+", line[: len(line) * 6 // 10])), default=0)
        prefix = "".join(lines[max(0, place - before) : place]) + line[:cut]
        found.append((prefix, line[cut:], "\n" + "".join(lines[place + 1 : place + 1 + after])))
    return found


@torch.inference_mode()
def losses(model: codecria.CodeModel, texts: list[str], tokens: int) -> list[float]:
    """Each text's mean loss in nats, of so many tokens from a quarter of it on, behind the licence and the imports."""
    network, found = model.engine.model, []
    for text in texts:
        lines = text.splitlines(keepends=True)
        ids = torch.tensor([model.tokenizer.encode("".join(lines[len(lines) // 4 :]))[:tokens]])
        scores = network.logits(network(ids)[0, :-1])
        found.append(torch.nn.functional.cross_entropy(scores, ids[0, 1:]).item())
    return found


def above(mine: list[float], best: list[float]) -> list[float]:
    """The mean difference, and half of its 95 % interval."""
    differences = [one - other for one, other in zip(mine, best, strict=True)]
    half = 1.96 * statistics.stdev(differences) / math.sqrt(len(differences))
    return [round(statistics.mean(differences), 4), round(half, 4)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = arguments.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", dest="size", const=QUICK, help="see that everything runs")
    size.add_argument("--full", action="store_const", dest="size", const=FULL, help="four times the tokens")
    arguments.add_argument("--model", default="codecria-135m-infill")
    chosen = arguments.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    size = chosen.size or DEFAULT
    texts = modules()
    lines = holes(texts[: size.filled], size.before, size.after)
    rows: list[dict] = []
    reference: list[str] = []
    fine: list[float] = []
    for name in FORMATS:
        model = codecria.load(chosen.model, dtype=name)
        began = time.perf_counter()
        found = losses(model, texts[-size.texts :], size.tokens)
        pairs = [(prefix, suffix) for prefix, _, suffix in lines]
        made = [samples[0].text.strip() for samples in model.infill_many(pairs, max_tokens=32, stop_at="line")]
        reference, fine = reference or made, fine or found
        row = {
            "format": name,
            "megabytes": round(weight_bytes(model.engine.model) / 1e6, 1),
            "perplexity": round(math.exp(statistics.mean(found)), 4),
            "nats_more": above(found, fine),
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
        "tokens": size.texts * size.tokens,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("codecria", "torch", *PACKAGES)},
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""Drafts by prompt lookup on and off in turn, on text as it is: tokens a second, and how many guesses were right.

    python benchmarks/drafts.py [--quick] [--model smollm2-135m] [--dtype auto] [--pairs 1] [--modules 6] [--tokens 64]

Modules of the running Python's standard library, at temperatures 0 and 0.8:
    repeat  a function's text behind itself and its first lines once more: the text repeats itself
    edit    the same, its name changed where it is written again
    new     a module cut in the middle: code that nothing above foretells
One engine, 0 against 8 guesses; the prompt is in the cache for both, so what is timed is writing. A pair has the same
prompt and seed, so its two texts are the same but where rounding moves a choice (`same`: the share that are). The last
line is JSON: `ratio` is the median over all pairs, each case has its own.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command line sets it

import torch

import codecria
from codecria.generation.sampling import SamplingOptions

MODULES = ("argparse", "textwrap", "statistics", "shlex", "heapq", "difflib")
GUESSES = 8
MOST_PROMPT = 900


class Timed(NamedTuple):
    """One text: its ids, the seconds it took, guesses made and right."""

    ids: list[int]
    seconds: float
    drafted: int
    accepted: int


def longest_function(source: str) -> tuple[str, str]:
    """The text and the name of the longest function of at most 50 lines."""
    lines = source.splitlines(keepends=True)
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef) and node.end_lineno]
    sizes = {node: (node.end_lineno or 0) - node.lineno for node in found}
    node = max((node for node in found if sizes[node] < 50), key=lambda node: sizes[node])
    return "".join(lines[node.lineno - 1 : node.end_lineno]), node.name


def prompts(module: str) -> dict[str, str]:
    """One text to continue for each case."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).read_text()
    function, name = longest_function(source)
    head = "".join(function.splitlines(keepends=True)[:3])
    lines = source.splitlines(keepends=True)
    middle = len(lines) // 2
    return {
        "repeat": f"{function}\n\n{head}",
        "edit": f"{function}\n\n{head.replace(name, f'{name}_again', 1)}",
        "new": "".join(lines[max(0, middle - 60) : middle]),
    }


def write(model: codecria.CodeModel, ids: list[int], guesses: int, options: SamplingOptions) -> Timed:
    engine = model.engine
    engine.draft_tokens = guesses
    before = engine.statistics()
    began = time.perf_counter()
    [[text]] = engine.generate([ids], options)
    seconds = time.perf_counter() - began
    after = engine.statistics()
    drafted, accepted = (getattr(after, name) - getattr(before, name) for name in ("drafted_tokens", "accepted_tokens"))
    return Timed(text.ids, seconds, drafted, accepted)


def measure(model: codecria.CodeModel, texts: list[list[int]], temperature: float, tokens: int, pairs: int) -> dict:
    """Pairs of one case at one temperature, in turn."""
    timed: list[tuple[Timed, Timed]] = []
    for number in range(pairs):
        for place, ids in enumerate(texts):
            options = SamplingOptions(max_tokens=tokens, temperature=temperature, seed=100 * number + place)
            write(model, ids, 0, SamplingOptions(max_tokens=1))  # the prompt is read, for both
            both = {
                guesses: write(model, ids, guesses, options) for guesses in ((0, GUESSES), (GUESSES, 0))[number % 2]
            }
            timed.append((both[0], both[GUESSES]))
    rates = [[len(each.ids) / each.seconds for each in pair] for pair in timed]
    ratios = [drafted / plain for plain, drafted in rates]
    drafted = sum(on.drafted for _, on in timed)
    return {
        "ratio": round(statistics.median(ratios), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "off": round(statistics.median(plain for plain, _ in rates), 2),
        "on": round(statistics.median(with_drafts for _, with_drafts in rates), 2),
        "acceptance": round(sum(on.accepted for _, on in timed) / drafted, 3) if drafted else None,
        "drafted": drafted,
        "same": round(sum(off.ids == on.ids for off, on in timed) / len(timed), 3),
        "ratios": ratios,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one module, 16 tokens, one pair")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="auto", choices=["auto", "fp32", "bf16", "int8", "int4"])
    parser.add_argument("--pairs", type=int, default=1, help="of each module")
    parser.add_argument("--modules", type=int, default=len(MODULES), help="so many of them")
    parser.add_argument("--tokens", type=int, default=64, help="of each text")
    chosen = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    modules, tokens = (MODULES[:1], 16) if chosen.quick else (MODULES[: chosen.modules], chosen.tokens)
    model = codecria.load(chosen.model, dtype=chosen.dtype)
    cases: dict[str, dict[str, Any]] = {}
    for case in ("repeat", "edit", "new"):
        texts = [model.tokenizer.encode(prompts(module)[case])[-MOST_PROMPT:] for module in modules]
        for temperature in (0.0, 0.8):
            name = f"{case}, temperature {temperature:g}"
            cases[name] = measure(model, texts, temperature, tokens, chosen.pairs)
            shown = {key: value for key, value in cases[name].items() if key != "ratios"}
            print(f"{name}: {json.dumps(shown)}", flush=True)
    ratios = [ratio for found in cases.values() for ratio in found.pop("ratios")]
    result = {
        "ratio": round(statistics.median(ratios), 3),
        "ours": round(statistics.median(found["on"] for found in cases.values()), 2),
        "peer": round(statistics.median(found["off"] for found in cases.values()), 2),
        "unit": "tokens_per_s",
        "peer_name": f"the same engine without drafts, {torch.get_num_threads()} threads",
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "cases": cases,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("codecria", "torch")}},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

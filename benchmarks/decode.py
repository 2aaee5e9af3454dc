"""Batch-1 decoding and reading of prompts, SmolLM2-135M: our engine against llama.cpp and transformers.

    python benchmarks/decode.py [--quick] [--threads 2]

- int4 on the file's own Q4_1 blocks against llama.cpp on the same file; int8 against llama.cpp on a Q8_0 file
- fp32 against transformers' generate; our int8 against our own fp32
- drafts are off in all of them
- the share of the measured memory bandwidth that decoding reaches

llama.cpp runs through node-llama-cpp's prebuilt binary, in a process of its own that waits while ours runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command line sets it

sys.path.append(str(Path(__file__).parent.parent))

import torch
import transformers

import codecria
from codecria.checkpoint.catalogue import fetch
from codecria.checkpoint.convert import convert
from codecria.generation import speed
from tests.oracles import llama_cpp

SCRIPT = Path(__file__).parent / "llama_cpp_speed.mjs"


class LlamaCpp:
    """llama.cpp with one model."""

    name = f"llama.cpp through {llama_cpp.PACKAGES[0]}"

    def __init__(self, gguf: Path, threads: int) -> None:
        self._process = llama_cpp.Process(SCRIPT, gguf, threads)

    def run(self, prompt: list[int], tokens: int) -> speed.Run:
        answer = self._process.ask({"prompt": prompt, "tokens": tokens})
        assert answer["tokens"] == tokens, f"llama.cpp wrote {answer['tokens']} of {tokens} tokens"
        return speed.Run(len(prompt), answer["first_s"], tokens - 1, answer["rest_s"])

    def close(self) -> None:
        self._process.close()


class Ours:
    """Our engine with one model."""

    name = "codecria"

    def __init__(self, path: Path | str, dtype: str) -> None:
        self.engine = codecria.load(path, dtype=dtype).engine
        self.engine.draft_tokens = 0  # greedy text behind a random prompt repeats itself, which drafts would live on

    def run(self, prompt: list[int], tokens: int) -> speed.Run:
        return speed.run_once(self.engine, prompt, tokens)

    def close(self) -> None:
        del self.engine


class Transformers:
    """transformers' generate, float32. The first token's time is that of a call that makes one token."""

    name = "transformers generate"

    def __init__(self, folder: Path) -> None:
        self._model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def run(self, prompt: list[int], tokens: int) -> speed.Run:
        first = self._seconds(prompt, 1)
        return speed.Run(len(prompt), first, tokens - 1, self._seconds(prompt, tokens) - first)

    def close(self) -> None:
        del self._model

    def _seconds(self, prompt: list[int], tokens: int) -> float:
        import time

        ids = torch.tensor([prompt])
        began = time.perf_counter()
        made = self._model.generate(ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0)
        assert made.shape[1] == len(prompt) + tokens
        return time.perf_counter() - began


def compare(name: str, ours: object, peer: object, sizes: argparse.Namespace, bandwidth: float) -> dict:
    """Peer and ours in turn, a short prompt to decode behind and a long one to read."""
    rates: dict[str, list[tuple[float, float]]] = {"ours": [], "peer": []}
    vocabulary = 49_152
    for number in range(sizes.pairs + 1):
        for side, runner in (("peer", peer), ("ours", ours)):
            decoded = runner.run(speed.random_prompt(vocabulary, 16, 2 * number), sizes.tokens)
            read = runner.run(speed.random_prompt(vocabulary, sizes.prompt, 2 * number + 1), 2)
            if number:  # the first round warms up
                rates[side].append((decoded.decode_rate, read.prefill_rate))
    found: dict = {"case": name, "peer_name": f"{peer.name}, {sizes.threads} threads"}
    for place, kind in enumerate(("decode", "prefill")):
        mine, theirs = ([pair[place] for pair in rates[side]] for side in ("ours", "peer"))
        ratios = [one / other for one, other in zip(mine, theirs, strict=True)]
        found[kind] = {
            "ratio": round(statistics.median(ratios), 3),
            "ours": round(statistics.median(mine), 1),
            "peer": round(statistics.median(theirs), 1),
            "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        }
    if isinstance(ours, Ours):
        read_bytes = speed.step_bytes(ours.engine.model, 16 + sizes.tokens / 2)
        found["bytes_per_s"] = round(found["decode"]["ours"] * read_bytes)
        found["share_of_bandwidth"] = round(found["bytes_per_s"] / bandwidth, 3)
    print(json.dumps(found), flush=True)
    for runner in (ours, peer):
        runner.close()
    gc.collect()
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="see that everything runs: two short pairs")
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    sizes = arguments.parse_args()
    sizes.pairs, sizes.tokens, sizes.prompt = (1, 12, 64) if sizes.quick else (5, 96, 512)
    torch.set_num_threads(sizes.threads)
    transformers.utils.logging.set_verbosity_error()
    bandwidth = speed.memory_bandwidth(torch.device("cpu"))
    q4 = fetch("smollm2-135m")
    with tempfile.TemporaryDirectory() as folder:
        q8, floats = Path(folder, "q8.gguf"), Path(folder, "model")
        convert(str(q4), q8, "gguf-q8_0")
        convert(str(q4), floats, "huggingface", torch.float32)
        cases = [
            compare("int4 / Q4_1", Ours(q4, "int4"), LlamaCpp(q4, sizes.threads), sizes, bandwidth),
            compare("int8 / Q8_0", Ours(q8, "int8"), LlamaCpp(q8, sizes.threads), sizes, bandwidth),
            compare("fp32", Ours(floats, "fp32"), Transformers(floats), sizes, bandwidth),
            compare("int8 / our fp32", Ours(floats, "int8"), Ours(floats, "fp32"), sizes, bandwidth),
        ]
    first = cases[0]["decode"]
    result = {
        **{key: first[key] for key in ("ratio", "ours", "peer", "spread")},
        "peer_name": cases[0]["peer_name"],
        "unit": "tokens_per_s",
        "tokens_per_s": first["ours"],
        "bandwidth_bytes_per_s": round(bandwidth),
        "cases": cases,
        "versions": {
            "python": platform.python_version(),
            "node-llama-cpp": llama_cpp.PACKAGES[0].rpartition("@")[2],
            **{name: version(name) for name in ("codecria", "torch", "transformers")},
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

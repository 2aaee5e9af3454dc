"""Long prompts: time and memory of prefill and decoding as the context grows, ours against transformers.

A small Llama with random weights (2 layers, 4 query heads over 2 of keys, 128 wide), in bfloat16 where the processor
has it, else float32. Every measurement is a process of its own, sides in turn, so that peak memory is its own: what the
process grew by after the model was there. Decoding is 16 tokens behind the prompt. `int8` is ours with keys and values
of 8 bits. Writes long_context.png; the last line is JSON: `ratio` is transformers' prefill and decoding time over ours
at the longest prompt, `exponent` how our prefill grows between the two longest, `int8` its memory and time a token over
those of ours. By default 4k, 16k and 64k tokens; `--quick` ends at 16k, `--full` at 256k.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command line sets it
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from codecria.generation.engine import Engine
from codecria.generation.sampling import SamplingOptions
from codecria.model.config import ModelConfig
from codecria.model.precision import native_bfloat16
from codecria.model.transformer import Transformer
from tests.oracles.transformers import llama_config

if TYPE_CHECKING:
    from collections.abc import Callable

DECODED = 16
PLOT = Path(__file__).with_suffix(".png")
DTYPE = torch.bfloat16 if native_bfloat16(torch.device("cpu")) else torch.float32
SIDES = ("ours", "int8", "transformers")

Timings = tuple[float, float]


def config(tokens: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=1024,
        hidden_size=128,
        intermediate_size=352,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=32,
        norm_eps=1e-5,
        rope_theta=1e6,
        rope_scaling=None,
        max_positions=tokens + 2 * DECODED,
        tied_embeddings=True,
    )


def ours(model: Transformer, prompt: list[int], cache: dict[str, Any]) -> Callable[[], Timings]:
    """Seconds of prefill and of a decoded token."""
    engine = Engine(model, **cache)

    def run() -> Timings:
        began = time.perf_counter()
        engine.generate([prompt], SamplingOptions(max_tokens=1))
        read = time.perf_counter()
        # The prompt is held: one token of it and the new ones are computed.
        engine.generate([prompt], SamplingOptions(max_tokens=DECODED))
        return read - began, (time.perf_counter() - read) / DECODED

    return run


def theirs(model: Transformer, prompt: list[int]) -> Callable[[], Timings]:
    """The same by transformers' generate, whose prefill is that of one token."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    shape = model.config
    twin = transformers.LlamaForCausalLM(llama_config(shape, bos_token_id=None, eos_token_id=None, pad_token_id=0))
    twin = twin.to(DTYPE).eval()
    ids = torch.tensor([prompt])

    @torch.inference_mode()
    def run() -> Timings:
        cache = transformers.DynamicCache()
        began = time.perf_counter()
        scores = twin(ids, past_key_values=cache, logits_to_keep=1).logits
        read = time.perf_counter()
        for _ in range(DECODED):
            scores = twin(scores[:, -1:].argmax(dim=-1), past_key_values=cache).logits
        return read - began, (time.perf_counter() - read) / DECODED

    return run


class Peak:
    """Resident memory of this process, looked at every 10 ms."""

    def __init__(self) -> None:
        self.start_bytes = self.bytes = self._now()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def finish(self) -> int:
        """Bytes the process has grown by at most."""
        self._ended.set()
        self._thread.join()
        return max(self.bytes, self._now()) - self.start_bytes

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            self.bytes = max(self.bytes, self._now())

    def _now(self) -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(side: str, tokens: int, threads: int) -> dict[str, float]:
    """One side at one length, in this process."""
    torch.set_num_threads(threads)
    model = Transformer(config(tokens))
    model.initialise(0, std=0.05)
    model = model.to(DTYPE).eval()
    prompt = torch.randint(0, 1024, (tokens,), generator=torch.Generator().manual_seed(1)).tolist()

    def made(prompt: list[int]) -> Callable[[], Timings]:
        if side == "transformers":
            return theirs(model, prompt)
        return ours(model, prompt, {"cache_type": "int8"} if side == "int8" else {})

    made(prompt[:300])()
    run = made(prompt)
    peak = Peak()
    prefill, decoded = run()
    return {"prefill_s": prefill, "decode_s": decoded, "peak_bytes": peak.finish()}


def in_own_process(side: str, tokens: int, threads: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", side, str(tokens), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} at {tokens} tokens: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def plot(found: dict[str, dict[int, dict[str, float]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    panels = (
        ("prefill_s", 1, "prefill, s"),
        ("decode_s", 1e3, "one more token, ms"),
        ("peak_bytes", 1e-6, "memory grown by, MB"),
    )
    for axis, (name, scale, label) in zip(axes, panels, strict=True):
        for side, rows in found.items():
            axis.loglog(list(rows), [rows[tokens][name] * scale for tokens in rows], marker="o", label=side)
        ticks = list(next(iter(found.values())))
        axis.set_xticks(ticks, [f"{tick // 1024}k" for tick in ticks])
        axis.minorticks_off()
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axis.set_xlabel("tokens of the prompt")
        axis.set_title(label)
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(PLOT, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="up to 16k tokens")
    parser.add_argument("--full", action="store_true", help="up to 256k tokens")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "TOKENS"), help="measure this alone")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]), options.threads)))
        return
    sizes = [4096 << power for power in range(0, 7 if options.full else 3 if options.quick else 5, 2)]
    found: dict[str, dict[int, dict[str, float]]] = {side: {} for side in SIDES}
    for tokens in sizes:
        runs = {side: list[dict[str, float]]() for side in SIDES}
        for _ in range(options.runs):
            for side in reversed(SIDES):
                runs[side].append(in_own_process(side, tokens, options.threads))
        for side, each in runs.items():
            found[side][tokens] = {name: statistics.median(run[name] for run in each) for name in each[0]}
            row = found[side][tokens]
            times = f"prefill {row['prefill_s']:8.2f} s, decode {1e3 * row['decode_s']:7.2f} ms"
            print(f"{side:12} {tokens:7} tokens: {times}, memory {row['peak_bytes'] / 1e6:7.1f} MB", flush=True)
    plot(found)
    print(json.dumps(result(found, sizes, options.threads)))


def result(found: dict[str, dict[int, dict[str, float]]], sizes: list[int], threads: int) -> dict[str, Any]:
    """The printed object."""

    def seconds(side: str, tokens: int) -> float:
        return found[side][tokens]["prefill_s"] + DECODED * found[side][tokens]["decode_s"]

    def exponent(name: str) -> float:
        rows = found["ours"]
        return round(math.log(rows[sizes[-1]][name] / max(rows[sizes[-2]][name], 1e-9), sizes[-1] / sizes[-2]), 2)

    longest = sizes[-1]
    ratios = [seconds("transformers", tokens) / seconds("ours", tokens) for tokens in sizes[-3:]]
    return {
        "ratio": round(ratios[-1], 2),
        "ours": round(seconds("ours", longest), 3),
        "peer": round(seconds("transformers", longest), 3),
        "unit": f"s for {longest} tokens read and {DECODED} written",
        "peer_name": f"transformers, {str(DTYPE).removeprefix('torch.')}, {threads} threads",
        "spread": [round(min(ratios), 2), round(max(ratios), 2)],
        "tokens_per_s": round(longest / found["ours"][longest]["prefill_s"], 1),
        "exponent": exponent("prefill_s"),
        "memory_exponent": exponent("peak_bytes"),
        "int8": {
            name: round(found["int8"][longest][name] / found["ours"][longest][name], 2)
            for name in ("peak_bytes", "decode_s")
        },
        "sides": found,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("codecria", "torch", "transformers")},
        },
    }


if __name__ == "__main__":
    main()

"""[GPU] Decoding of a model of 7B's shape with random weights: our engine against transformers' generate.

    python benchmarks/gpu_decode.py [--quick] [--rehearse]

- one stream in bf16, int8 and int4: tokens a second, and the share of the measured memory bandwidth that they are
- the same with the step's CUDA graph left out: what the graph gains
- 1 to 64 streams in bf16: tokens a second of all together
- drafts are off; the peer is transformers in bf16, on the same weights, in the same process, in turn

Needs a CUDA device with about 40 GB. `--rehearse` shows on a CPU, with a tiny model, that the script runs to its end;
its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parent.parent))

import torch
import transformers

from codecria.checkpoint.open import load_model
from codecria.checkpoint.source import Checkpoint
from codecria.checkpoint.tensors import expected_shapes
from codecria.generation import speed
from codecria.generation.engine import Engine
from codecria.generation.fused import fuse
from codecria.generation.quantised import load_quantised
from codecria.generation.sampling import SamplingOptions
from codecria.model.config import PRESETS, ModelConfig
from codecria.model.rotary import rotary_frequencies
from tests.oracles.transformers import llama_config

if TYPE_CHECKING:
    from codecria.generation.graph_step import GraphStep
    from codecria.model.transformer import Transformer

FORMS = ("bf16", "int8", "int4")
_DRAWN = 1_000_003


class RandomTensors:
    """Weights of the right shapes; what they are does not matter to the time. See `TensorSource`."""

    def __init__(self, config: ModelConfig) -> None:
        self.shapes = dict(expected_shapes(config))
        source = torch.Generator().manual_seed(0)
        self._drawn = torch.randn(_DRAWN, generator=source) * 0.02

    def read(self, name: str, dtype: torch.dtype | None) -> torch.Tensor:
        shape = self.shapes[name]
        if len(shape) == 1:
            return torch.ones(shape, dtype=dtype or torch.float32)
        count = shape[0] * shape[1]
        numbers = self._drawn.to(dtype or torch.float32).repeat(-(-count // _DRAWN))
        return numbers[:count].view(shape)


def load(config: ModelConfig, form: str, device: torch.device) -> Transformer:
    nothing: Any = None
    checkpoint = Checkpoint(config, nothing, {}, {}, Path("random"), "huggingface", None, RandomTensors(config))
    if form == "bf16":
        model = load_model(checkpoint, torch.bfloat16, device)
        fuse(model)  # moves weights, which the peer is to share
        return model
    return load_quantised(checkpoint, form, device)


class Ours:
    """Our engine; with `eager` its step is never a graph."""

    def __init__(self, model: Transformer, rows: int, eager: bool = False) -> None:
        self.engine = Engine(model, max_rows=rows, draft_tokens=0)
        self.graph: GraphStep | None = self.engine._writer._graph
        if eager:
            self.engine._writer._graph = None

    def stream(self, prompt: list[int], tokens: int) -> float:
        """Tokens a second after the first."""
        return speed.run_once(self.engine, prompt, tokens).decode_rate

    def batch(self, prompts: list[list[int]], tokens: int) -> float:
        """Tokens a second of all together, the prompts' reading included."""
        began = time.perf_counter()
        made = self.engine.generate(prompts, SamplingOptions(max_tokens=tokens))
        assert all(len(sample.ids) == tokens for (sample,) in made)
        return len(prompts) * tokens / (time.perf_counter() - began)


class Peer:
    """transformers' generate on our weights."""

    def __init__(self, model: Transformer) -> None:
        config, self._device = model.config, model.model.norm.weight.device
        with torch.device("meta"):
            twin = transformers.LlamaForCausalLM(
                llama_config(config, bos_token_id=None, eos_token_id=None, pad_token_id=0)
            )
        twin.load_state_dict(model.state_dict(), assign=True)
        frequencies = rotary_frequencies(config, self._device)
        twin.model.rotary_emb.inv_freq = frequencies
        twin.model.rotary_emb.original_inv_freq = frequencies.clone()
        self._twin = twin.eval()

    def stream(self, prompt: list[int], tokens: int) -> float:
        first = self._seconds([prompt], 1)
        return (tokens - 1) / (self._seconds([prompt], tokens) - first)

    def batch(self, prompts: list[list[int]], tokens: int) -> float:
        return len(prompts) * tokens / self._seconds(prompts, tokens)

    @torch.inference_mode()
    def _seconds(self, prompts: list[list[int]], tokens: int) -> float:
        ids = torch.tensor(prompts, device=self._device)
        began = time.perf_counter()
        made = self._twin.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
        assert made[:, -1].tolist() is not None and made.shape[1] == len(prompts[0]) + tokens  # waits for the device
        return time.perf_counter() - began


def streams(form: str, model: Transformer, peer: Peer, sizes: argparse.Namespace, bandwidth: float) -> dict[str, Any]:
    """One stream: ours, ours without a graph, and the peer, in turn."""
    runners = {"ours": Ours(model, 1), "eager": Ours(model, 1, eager=True), "peer": peer}
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(sizes.pairs + 1):
        for side, (name, runner) in enumerate(runners.items()):
            prompt = speed.random_prompt(model.config.vocab_size, sizes.prompt, 3 * number + side)
            rate = runner.stream(prompt, sizes.tokens)
            if number:  # the first round warms up
                rates[name].append(rate)
    bytes_per_s = statistics.median(rates["ours"]) * speed.step_bytes(model, sizes.prompt + sizes.tokens / 2)
    graph = runners["ours"].graph
    found = {
        "case": f"one stream, {form}",
        **summary(rates["ours"], rates["peer"]),
        "over_eager": summary(rates["ours"], rates["eager"])["ratio"],
        "bytes_per_s": round(bytes_per_s),
        "share_of_bandwidth": round(bytes_per_s / bandwidth, 3),
        "graph_steps": graph.steps if graph else 0,
        "graph_captures": graph.captures if graph else 0,
    }
    print(json.dumps(found), flush=True)
    return found


def batches(model: Transformer, peer: Peer, sizes: argparse.Namespace) -> list[dict[str, Any]]:
    """Several streams of different prompts of one length."""
    found: list[dict[str, Any]] = []
    ours, number = Ours(model, max(sizes.rows)), 1000
    for rows in sizes.rows:
        rates: dict[str, list[float]] = {"ours": [], "peer": []}
        for pair in range(sizes.pairs + 1):
            for name, runner in (("peer", peer), ("ours", ours)):
                prompts = [
                    speed.random_prompt(model.config.vocab_size, sizes.prompt, number + row) for row in range(rows)
                ]
                number += rows
                rate = runner.batch(prompts, sizes.tokens)
                if pair:
                    rates[name].append(rate)
        found.append({"case": f"{rows} streams, bf16", **summary(rates["ours"], rates["peer"])})
        print(json.dumps(found[-1]), flush=True)
    return found


def summary(ours: list[float], peer: list[float]) -> dict[str, Any]:
    ratios = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ours": round(statistics.median(ours), 1),
        "peer": round(statistics.median(peer), 1),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two short pairs, up to 8 streams")
    parser.add_argument("--rehearse", action="store_true", help="a tiny model on a CPU: see that everything runs")
    sizes = parser.parse_args()
    if not sizes.rehearse and not torch.cuda.is_available():
        sys.exit("gpu_decode: no CUDA device here; run it where PyTorch finds one, or see its steps with --rehearse")
    config, device = PRESETS["codellama-7b"], torch.device("cpu" if sizes.rehearse else "cuda")
    sizes.pairs, sizes.prompt, sizes.tokens, sizes.rows = 3, 512, 256, [1, 2, 4, 8, 16, 32, 64]
    if sizes.quick or sizes.rehearse:
        sizes.pairs, sizes.tokens, sizes.rows = 1, 64, [1, 8]
    if sizes.rehearse:
        config = replace(config, hidden_size=256, intermediate_size=704, num_layers=2, num_heads=2, num_kv_heads=2)
        sizes.prompt, sizes.tokens = 32, 16
    transformers.utils.logging.set_verbosity_error()
    bandwidth = speed.memory_bandwidth(device)
    plain = load(config, "bf16", device)
    peer = Peer(plain)
    cases = [*batches(plain, peer, sizes), streams("bf16", plain, peer, sizes, bandwidth)]
    for form in FORMS[1:]:
        cases.append(streams(form, load(config, form, device), peer, sizes, bandwidth))
        gc.collect()
    first = next(case for case in cases if case["case"] == "one stream, bf16")
    result = {
        **{key: first[key] for key in ("ratio", "ours", "peer", "spread")},
        "peer_name": "transformers generate, bf16",
        "unit": "tokens_per_s",
        "tokens_per_s": first["ours"],
        "device": platform.processor() if sizes.rehearse else torch.cuda.get_device_name(device),
        "bandwidth_bytes_per_s": round(bandwidth),
        "cases": cases,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers")},
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

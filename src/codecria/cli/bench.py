"""`codecria bench`: how fast a model is on this machine."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from codecria.cli import options


def bench(
    model: Annotated[str, typer.Argument(help="A checkpoint, or a name from `codecria models`.")] = (
        options.DEFAULT_MODEL
    ),
    dtype: options.Dtype = "auto",
    prompt_tokens: Annotated[int, typer.Option(min=2, help="Tokens of the prompt that is read.")] = 512,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens written behind it.")] = 128,
    repeats: Annotated[int, typer.Option(min=1, help="Counted runs; medians are shown.")] = 3,
    threads: options.Threads = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Read a prompt, write behind it without drafts, and compare with what the memory's bandwidth allows.

    **Examples**

    `codecria bench smollm2-135m --dtype int4`

    `codecria bench smollm2-135m --json | jq .decode_tokens_per_s`
    """
    import resource
    import statistics
    import time

    import torch

    from codecria.generation import speed

    began = time.perf_counter()
    loaded = options.load(model, threads, dtype)
    load_s = time.perf_counter() - began
    engine, network = loaded.engine, loaded.engine.model
    engine.draft_tokens = 0  # a step is one token: text behind random tokens repeats itself, as drafts like it
    vocabulary = network.config.vocab_size
    kept = max(2, min(prompt_tokens, loaded.max_positions - tokens))
    runs = [speed.run_once(engine, speed.random_prompt(vocabulary, kept, n), tokens) for n in range(repeats + 1)][1:]
    first_s, prefill, decode = (
        statistics.median(values)
        for values in zip(*((run.first_s, run.prefill_rate, run.decode_rate) for run in runs), strict=True)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    bandwidth = speed.memory_bandwidth(network.model.norm.weight.device)
    achieved = decode * speed.step_bytes(network, kept + tokens / 2)
    figures = {
        "model": model,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "prompt_tokens": kept,
        "written_tokens": tokens,
        "load_s": load_s,
        "weight_bytes": speed.weight_bytes(network),
        "peak_bytes": peak * 1e6,
        "first_token_s": first_s,
        "prefill_tokens_per_s": prefill,
        "decode_tokens_per_s": decode,
        "read_bytes_per_s": achieved,
        "bandwidth_bytes_per_s": bandwidth,
    }
    _print_json(figures) if json else _print_table(figures)


def _print_json(figures: dict[str, Any]) -> None:
    import json

    rounded = {name: float(f"{each:.4g}") if isinstance(each, float) else each for name, each in figures.items()}
    typer.echo(json.dumps(rounded))


def _print_table(figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    achieved, bandwidth = figures["read_bytes_per_s"], figures["bandwidth_bytes_per_s"]
    share = f"{achieved / bandwidth:.0%} of the measured {bandwidth / 1e9:.1f}"
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in (
        ("load", f"{figures['load_s']:.2f} s"),
        ("weights", f"{figures['weight_bytes'] / 1e6:.1f} MB"),
        ("peak memory", f"{figures['peak_bytes'] / 1e6:.0f} MB"),
        ("time to first token", f"{figures['first_token_s'] * 1e3:.0f} ms after {figures['prompt_tokens']} tokens"),
        ("prefill", f"{figures['prefill_tokens_per_s']:.0f} tokens/s"),
        ("decode", f"{figures['decode_tokens_per_s']:.1f} tokens/s"),
        ("weights and cache read", f"{achieved / 1e9:.1f} GB/s, {share}"),
        ("threads", str(figures["threads"])),
    ):
        table.add_row(name, value)
    Console().print(table)

"""`codecria bench`: how fast a model is on this machine."""

from __future__ import annotations

from typing import Annotated

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
) -> None:
    """Read a prompt, write behind it without drafts, and compare with what the memory's bandwidth allows.

    **Example**

    `codecria bench smollm2-135m --dtype int4`
    """
    import resource
    import statistics
    import time

    import torch
    from rich.console import Console
    from rich.table import Table

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
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row("load", f"{load_s:.2f} s")
    table.add_row("weights", f"{speed.weight_bytes(network) / 1e6:.1f} MB")
    table.add_row("peak memory", f"{peak:.0f} MB")
    table.add_row("time to first token", f"{first_s * 1e3:.0f} ms after {kept} tokens")
    table.add_row("prefill", f"{prefill:.0f} tokens/s")
    table.add_row("decode", f"{decode:.1f} tokens/s")
    share = f"{achieved / bandwidth:.0%} of the measured {bandwidth / 1e9:.1f}"
    table.add_row("weights and cache read", f"{achieved / 1e9:.1f} GB/s, {share}")
    table.add_row("threads", str(torch.get_num_threads()))
    Console().print(table)

"""Some steps of training as one rank of several does them, and the same steps alone; run as a script by each rank."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from codecria.batches.loader import KINDS_OF_TOKENS, Sequence
from codecria.training.lora import plain_weights, row_tables
from codecria.training.optimiser import FasterRows, make_optimiser
from codecria.training.parallel import World, make_model, open_world
from codecria.training.recipe import TrainRecipe
from codecria.training.start import begin
from codecria.training.step import take_gradient, take_step

STEPS = 3
SOURCES = ["code", "documents"]


def row(n, vocabulary):
    """Row `n`: packed documents of random tokens, some without loss, some with less."""
    draw = np.random.default_rng(n)
    lengths = draw.integers(5, 90, 3 + n % 3).tolist()
    tokens = sum(lengths)
    return Sequence(
        ids=draw.integers(0, vocabulary, tokens),
        weights=draw.choice([0.0, 0.3, 1.0], tokens).astype(np.float32),
        kinds=draw.integers(0, len(KINDS_OF_TOKENS), tokens).astype(np.uint8),
        lengths=lengths,
        source=SOURCES[n % 2],
        epoch=0,
        forms={"plain": 1},
    )


def train_steps(values, world):
    """A line of figures a step, the whole weights after them, and how many parameters this rank holds."""
    recipe = TrainRecipe.model_validate(values)
    start = begin(recipe)
    model = make_model(start, recipe, world).train()
    optimiser = make_optimiser(model, recipe.optimiser)
    parameters = [each for group in optimiser.param_groups for each in group["params"]]
    rows = [] if recipe.lora is not None else row_tables(model)
    faster = FasterRows(rows, start.new_rows, recipe.optimiser.new_rows_factor)
    share = recipe.sequences_per_step // world.data_ranks
    lines = []
    if recipe.parallel.tensor == 1:
        with torch.inference_mode():  # as a measurement before the first step
            lines.append([model.logits(model(torch.arange(32)[None])).square().mean().item()])
    for step in range(STEPS):
        first = step * recipe.sequences_per_step + world.data_rank * share
        batch = [row(n, start.config.vocab_size) for n in range(first, first + share)]
        figures = take_gradient(model, parameters, batch, recipe, world, SOURCES)
        take_step(optimiser, faster, recipe.optimiser.peak_rate)
        lines.append([figures.loss, figures.gradient_norm, *figures.loss_by_kind.values(), figures.target_weight])
    held = sum(each.detach().to_local().numel() if world.size > 1 else each.numel() for each in model.parameters())
    return lines, {name: each.contiguous() for name, each in plain_weights(model)}, held


def alone(values):
    return train_steps(values, World(torch.device("cpu")))


def on_ranks(size, runs, folder):
    """All runs (recipe values by name) on `size` ranks: each rank's lines and parameters held, and whole weights."""
    folder.mkdir()
    (folder / "runs.json").write_text(json.dumps(runs))
    command = [sys.executable, __file__, str(folder)]
    with contextlib.ExitStack() as sockets:
        probes = [sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in runs]
        ports = [str(probe.getsockname()[1]) for probe in probes]
    environment = os.environ | {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "PORTS": " ".join(ports)}
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    ranks = [
        subprocess.Popen(command, env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(size)
    ]
    try:
        assert [rank.wait(timeout=240) for rank in ranks] == [0] * size
    finally:
        for rank in ranks:
            rank.kill()
    return {
        name: (
            [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(size)],
            load_file(folder / f"{name}.safetensors"),
        )
        for name in runs
    }


def main():
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    runs = json.loads((folder / "runs.json").read_text())
    for (name, values), port in zip(runs.items(), os.environ["PORTS"].split(), strict=True):
        os.environ["MASTER_PORT"] = port
        with open_world(TrainRecipe.model_validate(values).parallel, "cpu") as world:
            lines, weights, held = train_steps(values, world)
            (folder / f"{name}-{world.rank}.json").write_text(json.dumps([lines, held]))
            if world.first:
                save_file(weights, folder / f"{name}.safetensors")
            world.barrier()


if __name__ == "__main__":
    main()

"""Processes to kill, and ranks, forked from a server that has loaded torch once: a start takes 0.1 s instead of 4."""

import multiprocessing
import os
import resource
import socket
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from codecria.common.errors import CodecriaError
from codecria.common.files import write_atomic
from codecria.training.loop import Run, train
from codecria.training.lora import whole
from codecria.training.optimiser import make_optimiser
from codecria.training.parallel import World, open_world
from codecria.training.recipe import OptimiserRecipe, TrainRecipe
from codecria.training.state import States

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.training.forks"])


def start(body, *arguments, ranks=1):
    """`body(*arguments)` in `ranks` processes that see what torchrun would tell them."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    processes = [_CONTEXT.Process(target=_enter, args=(rank, ranks, port, body, arguments)) for rank in range(ranks)]
    for process in processes:
        process.start()
    return processes


def event():
    """An event that a process of these may be given."""
    return _CONTEXT.Event()


def run(body, *arguments, ranks=1):
    """The same, to the end."""
    processes = start(body, *arguments, ranks=ranks)
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * ranks


def _enter(rank, ranks, port, body, arguments):
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if ranks > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    body(*arguments)


def train_values(values, folder):
    """A stage, to its end."""
    train(TrainRecipe.model_validate(values), folder)


def train_and_save_last(values, folder):
    """The same, and the state of the last step is kept."""
    recipe = TrainRecipe.model_validate(values)
    with open_world(recipe.parallel, recipe.device) as world:
        write_atomic(folder / "recipe.yaml", recipe.to_yaml())
        run = Run(recipe, folder, world, [])
        run.go()
        run.states.save(run.model, run.optimiser, run.counter)
        run.states.finish()


def limit_files():
    """No file may grow over 100 kB from here."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))


def small_steps(folder: Path, last: int, limited_rank: int | None = None, **keys) -> None:
    """Train a small sharded model from its newest state to step `last`, a state every 2.

    Gradients are a function of step and name, AdamW is elementwise: the result is the same to the bit in any layout.
    The first rank writes it to `weights-LAST.pt`; each writes what went wrong to `error-RANK.txt`.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    torch.manual_seed(0)
    # 5 rows on 4 ranks leave one with none. The wide layer is over the limit of a file.
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 20_000), nn.LayerNorm(3))
    if size > 1:
        dist.init_process_group("gloo")
        fully_shard(model[0])
        fully_shard(model)
    recipe = TrainRecipe(model="", corpus="", steps=100, sequences_per_step=1, **keys)
    optimiser = make_optimiser(model, OptimiserRecipe())
    states = States(folder, recipe, World(torch.device("cpu"), rank=rank, size=size))
    try:
        counter = states.resume(model, optimiser)
        if rank == limited_rank:
            limit_files()
        while counter.step < last:
            for number, parameter in enumerate(model.parameters()):
                seed = torch.Generator().manual_seed(1000 * counter.step + number)
                gradient = torch.randn(parameter.shape, generator=seed)
                if isinstance(parameter, DTensor):
                    gradient = distribute_tensor(gradient, parameter.device_mesh, parameter.placements)
                parameter.grad = gradient
            optimiser.step()
            counter.step += 1
            if counter.step % 2 == 0:
                states.save(model, optimiser, counter)
        states.finish()
        weights = {name: whole(parameter) for name, parameter in model.named_parameters()}
        if rank == 0:
            torch.save(weights, folder / f"weights-{last}.pt")
    except CodecriaError as error:
        (folder / f"error-{rank}.txt").write_text(str(error))
    if size > 1:
        dist.destroy_process_group()

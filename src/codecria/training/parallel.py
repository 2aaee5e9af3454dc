"""A stage spread over ranks, from outside the model, in one fixed order: tensor, compile, recompute, shard.

PyTorch's own engine does the work: DTensor styles, `torch.utils.checkpoint`, `torch.compile`, `fully_shard` (FSDP2).
Gradients are summed over ranks, never averaged: each step's loss is already divided by its whole weight (law 5).
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_module
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from codecria.common.errors import CodecriaError
from codecria.model.loss import weighted_cross_entropy
from codecria.model.precision import compute_dtype
from codecria.training.lora import own_share
from codecria.training.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from torch.distributed.device_mesh import DeviceMesh

    from codecria.model.config import ModelConfig
    from codecria.model.transformer import Transformer
    from codecria.training.recipe import TrainRecipe
    from codecria.training.start import Start

__all__ = ["World", "accumulate", "clip_gradient", "make_model", "open_world"]

_KEPT = frozenset(
    {
        "aten::mm",
        "aten::bmm",
        "aten::baddbmm",
        "mkldnn::_linear_pointwise",
        "aten::_scaled_dot_product_flash_attention",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_efficient_attention",
        "aten::_scaled_dot_product_cudnn_attention",
        "_c10d_functional::reduce_scatter_tensor",
    }
)
"""What selective checkpointing keeps: matrix products, attention, what ranks have added up. FlexAttention's kernel is
compiled and so opaque to it: uncompiled blocks compute that again."""


def make_model(start: Start, recipe: TrainRecipe, world: World) -> Transformer:
    """The stage's model on this rank, split as the recipe says, filled with its initial weights.

    On several ranks each parameter is read whole, one at a time, and only this rank's part of it is kept.

    Raises:
        CodecriaError: the tensor degree does not divide the model's heads or its inner width.
    """
    parallel = recipe.parallel
    model = start.model(world.device) if world.weight_mesh is None else start.shapes()
    if world.weight_mesh is not None and parallel.tensor > 1:
        _check_divides(start.config, parallel.tensor)
        split_products(model, world.weight_mesh["tensor"])
    compiled = parallel.compile and compile_blocks(model, world)
    if parallel.activation_checkpointing == "full":
        recompute(model)
    elif parallel.activation_checkpointing == "selective" and not compiled:
        recompute(model, context_fn=functools.partial(create_selective_checkpoint_contexts, _keep))
    if world.weight_mesh is not None:
        mesh = world.weight_mesh["shard"] if parallel.replicate == 1 else world.weight_mesh["replicate", "shard"]
        shard(model, mesh, compute_dtype(recipe.precision, world.device))
        model.to_empty(device=world.device)
        for name, parameter in model.named_parameters():
            local = parameter.detach().to_local()  # pyright: ignore
            local.copy_(own_share(start.weight(name), parameter))
        for module in (*model.model.layers, model):
            # Memory first made under `inference_mode`, by a measurement before the first step, could not be trained in.
            module.unshard()  # pyright: ignore
            module.reshard()  # pyright: ignore
    return model


def split_products(model: Transformer, mesh: DeviceMesh) -> None:
    """Tensor parallelism: heads and inner width over ranks, each rank its part of the sequence between products.

    The tables stay whole; each rank embeds its part of the tokens and computes the head for its part of the targets.
    """
    sequence = PrepareModuleInput(input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),))
    attention_input = PrepareModuleInput(input_layouts=(Shard(1), None), desired_input_layouts=(Replicate(), None))
    for block in model.model.layers:
        parallelize_module(
            block,  # pyright: ignore[reportArgumentType]
            mesh,
            {
                "input_layernorm": SequenceParallel(),
                "self_attn": attention_input,
                "self_attn.q_proj": ColwiseParallel(),
                "self_attn.k_proj": ColwiseParallel(),
                "self_attn.v_proj": ColwiseParallel(),
                "self_attn.o_proj": RowwiseParallel(output_layouts=Shard(1)),
                "post_attention_layernorm": SequenceParallel(),
                "mlp": sequence,
                "mlp.gate_proj": ColwiseParallel(),
                "mlp.up_proj": ColwiseParallel(),
                "mlp.down_proj": RowwiseParallel(output_layouts=Shard(1)),
            },
        )
    distribute_module(model.model.embed_tokens, mesh, input_fn=_own_tokens, output_fn=lambda _, x, __: x.to_local())
    parallelize_module(model.model.norm, mesh, SequenceParallel())
    model.model.norm.register_forward_hook(_all_tokens)
    if model.lm_head is not None:
        distribute_module(model.lm_head, mesh)
    model.score = functools.partial(_score, model, mesh)


def _own_tokens(_module: nn.Module, inputs: Any, mesh: DeviceMesh) -> Any:
    return DTensor.from_local(inputs[0], mesh, [Replicate()], run_check=False).redistribute(placements=[Shard(1)])


def _all_tokens(_module: nn.Module, _inputs: Any, output: Any) -> Any:
    # Each rank's gradient comes from its own targets alone, so they add up.
    return output.full_tensor(grad_placements=[Partial()])


def _score(
    model: Transformer, mesh: DeviceMesh, hidden_ND: Tensor, targets_N: Tensor, weights_N: Tensor
) -> tuple[Tensor, Tensor]:
    """`Transformer.score`, each rank for its part of the targets; both results are whole and equal on every rank."""
    head: DTensor = model.head_weight  # pyright: ignore[reportAssignmentType]
    chosen = weights_N.nonzero().squeeze(1)
    mine = chosen.tensor_split(mesh.size())[mesh.get_local_rank()]
    total, losses = weighted_cross_entropy(
        hidden_ND[mine], head.to_local(grad_placements=[Partial()]), targets_N[mine], weights_N[mine]
    )
    every = losses.new_zeros(len(chosen))
    every.tensor_split(mesh.size())[mesh.get_local_rank()].copy_(losses)
    # Forward it is added up; backward each rank goes on with its own part.
    total, every = (DTensor.from_local(each, mesh, [Partial()]).full_tensor().clone() for each in (total, every))
    return total, every


def compile_blocks(model: Transformer, world: World) -> bool:
    """`torch.compile` each block; on a CPU without a C++ compiler nothing is compiled, with a note.

    What a compiled block keeps for its backward pass is selective by itself: the compiler computes the cheap again.
    """
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if world.device.type == "cpu" and not (shutil.which(compiler) and headers.exists()):
        if world.first:
            print(f"parallel.compile: no {compiler} or no {headers}; blocks run uncompiled", file=sys.stderr)
        return False
    for block in model.model.layers:
        block.forward = torch.compile(block.forward)
    return True


def recompute(model: Transformer, **how: Any) -> None:
    """Activation checkpointing: a block keeps its input alone, or what the `context_fn` in `how` chooses.

    It goes around compilation: inside, one function that cannot be compiled would leave the whole block uncompiled.
    """
    for block in model.model.layers:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False, **how)


def _keep(_context: Any, operation: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation.name() in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE


def shard(model: Transformer, mesh: DeviceMesh, dtype: torch.dtype) -> None:
    """FSDP2 (one axis) or HSDP (two): a group for each block, one for tables and final norm, a tied table once.

    Blocks are gathered in the dtype they compute in. Tables stay float32, and with them the stream between blocks,
    as on one rank.
    """
    half = None if dtype == torch.float32 else dtype
    in_blocks = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)
    groups: list[FSDPModule] = []
    for block in model.model.layers:
        groups.append(fully_shard(block, mesh=mesh, mp_policy=in_blocks))
    # The root too lets go of its tables after a forward pass: between passes every parameter is its shard.
    groups.append(fully_shard(model, mesh=mesh, reshard_after_forward=True))
    for group in groups:
        group.set_gradient_divide_factor(1.0)
        group.set_force_sum_reduction_for_comms(True)
    for method in ("loss", "logits"):
        register_fsdp_forward_method(model, method)


def _check_divides(config: ModelConfig, tensor: int) -> None:
    for what, count in (("key-value heads", config.num_kv_heads), ("inner width", config.intermediate_size)):
        if count % tensor:
            raise CodecriaError(
                f"tensor = {tensor} does not divide the model's {what}, {count}",
                where="parallel",
                mend="lower it and raise shard",
            )


@contextlib.contextmanager
def accumulate(model: nn.Module, reduce: bool) -> Generator[None]:
    """A micro-batch's backward pass; with `reduce` gradients are summed over ranks at its end.

    Without, each rank holds the whole gradient of its micro-batches so far, in float32.
    """
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(reduce)
        model.set_is_last_backward(reduce)
    yield


def clip_gradient(parameters: Iterable[Tensor], clip_norm: float) -> float:
    """Scale the gradient down to `clip_norm` where it is longer; returns its norm before, over all ranks."""
    trained = [each for each in parameters if each.grad is not None]
    gradients = [each.grad for each in trained if each.grad is not None]
    norm = nn.utils.get_total_norm([own for each in gradients for own in _counted_once(each)])
    if any(isinstance(each, DTensor) for each in gradients):
        square = norm.to(gradients[0].device, torch.float64).square()
        dist.all_reduce(square)
        norm = square.sqrt().float()
    nn.utils.clip_grads_with_norm_(trained, clip_norm, norm)
    return norm.item()


def _counted_once(gradient: Tensor) -> list[Tensor]:
    """What this rank adds to the norm: its shard, nothing where another rank holds the same one."""
    if not isinstance(gradient, DTensor):
        return [gradient]
    mesh = gradient.device_mesh
    copies = [axis for axis, placement in enumerate(gradient.placements) if placement.is_replicate()]
    return [] if any(mesh.get_local_rank(axis) for axis in copies) else [gradient.to_local()]

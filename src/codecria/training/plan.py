"""What a stage will take, by arithmetic: tokens, memory of a GPU by part, FLOPs, GPU-hours. No weight is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from codecria.checkpoint.adapter import AdaptedTensors
from codecria.checkpoint.catalogue import local_path
from codecria.checkpoint.open import open_checkpoint
from codecria.common.errors import CodecriaError
from codecria.common.recipe import load_recipe, shipped_recipes
from codecria.model.config import PRESETS, ModelConfig
from codecria.model.loss import CHUNK_TOKENS
from codecria.model.transformer import Transformer
from codecria.tokenizer.sentinels import find_sentinels
from codecria.training.lora import add_lora
from codecria.training.recipe import TrainRecipe
from codecria.training.start import check_markers

if TYPE_CHECKING:
    from codecria.training.recipe import ParallelRecipe

_ADDED_ROWS = 16
_MARKED_ROWS = 32_016


@dataclass(frozen=True)
class Shape:
    """What a plan must know of a checkpoint.

    Attributes:
        config: its configuration.
        ids: of its tokenizer.
        marked: whether it has infill markers.
        new_rows: of an adapter, the rows that its base lacks; after a stage, those that the stage trains.
    """

    config: ModelConfig
    ids: int
    marked: bool
    new_rows: int = 0


@dataclass(frozen=True)
class Part:
    """One part of a GPU's memory, and how it was counted."""

    name: str
    size_bytes: float
    how: str


@dataclass(frozen=True)
class Plan:
    """What a stage will take. FLOPs are those of the model: recomputed activations are not counted again.

    Attributes:
        gpus: ranks.
        tokens_per_step: over all of them; every sequence counts as full.
        steps: optimiser steps.
        micro_batches: that one rank goes through in a step.
        parameters: of the model, adapters included.
        trained: those that change.
        memory: of one GPU by part; an upper bound, since not all parts are at their largest together.
        flops_per_token: 6 a weight in a matrix product, attention as the full square, as MFU is usually given.
        causal_flops_per_token: attention as half of it, what a causal model needs.
    """

    gpus: int
    tokens_per_step: int
    steps: int
    micro_batches: int
    parameters: int
    trained: int
    memory: tuple[Part, ...]
    flops_per_token: float
    causal_flops_per_token: float

    @property
    def tokens(self) -> int:
        """Of the whole stage."""
        return self.tokens_per_step * self.steps

    @property
    def flops(self) -> float:
        """Of the whole stage."""
        return self.flops_per_token * self.tokens

    @property
    def memory_gb(self) -> float:
        """Of one GPU, in 10⁹ bytes."""
        return sum(part.size_bytes for part in self.memory) / 1e9

    def gpu_hours(self, mfu: float, peak_tflops: float) -> float:
        """Hours of one GPU that reaches the share `mfu` of its peak."""
        return self.flops / (mfu * peak_tflops * 1e12) / 3600


def shape_of(model: str) -> Shape:
    """The shape of a checkpoint that is here, or of one of the paper's models, or of what a shipped recipe will give.

    Nothing is fetched: `meta-llama/Llama-2-7b-hf` is known by name, and `runs/code-7b/checkpoint` before it is there.

    Raises:
        CodecriaError: it is none of these.
    """
    if Path(model).exists() or local_path(model) is not None:
        parent = open_checkpoint(model)
        own_rows = parent.source.new_rows if isinstance(parent.source, AdaptedTensors) else 0
        marked = find_sentinels(parent.tokenizer) is not None
        return Shape(parent.config, parent.tokenizer.vocab_size, marked, own_rows)
    config = PRESETS.get(Path(model).name.lower().removesuffix("-hf"))
    if config is not None:
        return Shape(config, config.vocab_size, config.vocab_size == _MARKED_ROWS)
    earlier = Path(model).parent.name
    if earlier in shipped_recipes():
        recipe = load_recipe(TrainRecipe, earlier)
        return shape_after(recipe, shape_of(recipe.model))
    mend = f"fetch it first, or name one of {', '.join(PRESETS)}"
    raise CodecriaError("no such checkpoint, and its shape is not known", where=model, mend=mend)


def shape_after(recipe: TrainRecipe, parent: Shape) -> Shape:
    """The shape a stage makes of its parent's: what `training.start.begin` does, without a tokenizer."""
    adds = recipe.batches.takes_markers and not parent.marked
    check_markers(recipe, adds=adds)
    rows = max(parent.ids + _ADDED_ROWS, parent.config.vocab_size) if adds else parent.config.vocab_size
    config = replace(
        parent.config,
        vocab_size=rows,
        rope_theta=recipe.rope_theta or parent.config.rope_theta,
        max_positions=recipe.max_positions or parent.config.max_positions,
    )
    ids = parent.ids + _ADDED_ROWS if adds else parent.ids
    kept = parent.new_rows if recipe.lora is not None and recipe.lora.go_on else 0
    return Shape(config, ids, parent.marked or adds, rows - parent.ids if adds else kept)


def least_gpus(recipe: ParallelRecipe) -> int:
    """The product of the degrees that are stated."""
    return recipe.replicate * (recipe.shard or 1) * recipe.context * recipe.tensor


def plan(recipe: TrainRecipe, shape: Shape, gpus: int) -> Plan:
    """Count what a stage takes on so many GPUs.

    Args:
        recipe: the stage.
        shape: from `shape_after`.
        gpus: ranks.

    Raises:
        CodecriaError: the degrees do not multiply to `gpus`, or the step's sequences do not divide over the ranks.
    """
    parallel, config = recipe.parallel, shape.config
    stated = least_gpus(parallel)
    if gpus % stated or (parallel.shard is not None and gpus != stated):
        raise CodecriaError(f"{gpus} GPUs do not fit degrees whose product is {stated}", where="parallel")
    data_ranks = gpus // (parallel.context * parallel.tensor)
    micro_batches, rest = divmod(recipe.sequences_per_step, data_ranks * recipe.sequences_per_micro_batch)
    if rest:
        raise CodecriaError(
            f"sequences_per_step = {recipe.sequences_per_step} is no multiple of {data_ranks} data ranks "
            f"times {recipe.sequences_per_micro_batch} sequences_per_micro_batch",
            where="recipe",
            mend="change one of the three",
        )
    with torch.device("meta"):
        model = Transformer(config)
        if recipe.lora is not None:
            add_lora(model, recipe.lora, shape.new_rows)
    length = recipe.batches.sequence_tokens
    flops = config.flops_per_token(length)
    return Plan(
        gpus=gpus,
        tokens_per_step=recipe.sequences_per_step * length,
        steps=recipe.steps,
        micro_batches=micro_batches,
        parameters=sum(each.numel() for each in model.parameters()),
        trained=sum(each.numel() for each in model.parameters() if each.requires_grad),
        memory=tuple(_memory(recipe, model, gpus, micro_batches)),
        flops_per_token=flops,
        causal_flops_per_token=(flops + config.flops_per_token(0)) / 2,
    )


def _memory(recipe: TrainRecipe, model: Transformer, gpus: int, micro_batches: int) -> list[Part]:
    """What lies on one GPU: weights, gradients and moments exactly, the rest counted from the code as it is written.

    Left out: CUDA's own (about 1 GB), communication buffers, fragmentation.
    """
    config, parallel, tensor = model.config, recipe.parallel, recipe.parallel.tensor
    width = 4 if recipe.precision == "fp32" else 2
    shard = gpus // (parallel.replicate * tensor)
    # Tensor parallelism splits the blocks' matrices; norms and tables are whole on each of its ranks.
    sizes = [
        (each.numel() / (tensor if each.ndim > 1 and "layers." in name else 1), "layers." in name, each.requires_grad)
        for name, each in model.named_parameters()
    ]
    total, trained = sum(size for size, *_ in sizes), sum(size for size, _, changes in sizes if changes)
    tables = sum(size for size, in_block, _ in sizes if not in_block)
    block = (total - tables) / config.num_layers
    parts = [
        Part("parameters", 4 * total / shard, f"4 B each, in {shard} shards" + f" of {tensor} parts" * (tensor > 1)),
        Part("gradients", 4 * trained / shard, "4 B each that is trained"),
        Part("moments", 8 * trained / shard, "AdamW: 8 B each that is trained"),
    ]
    if gpus > 1:
        how = f"2 blocks at {width} B a weight, tables at 4 B"
        parts.append(Part("gathered weights", 2 * width * block + 4 * tables, how))
        if micro_batches > 1:
            parts.append(Part("whole gradient", 4 * trained, f"summed over {micro_batches} micro-batches at 4 B"))
        else:
            parts.append(Part("whole gradient", 4 * (block + tables), "of one block and the tables, at 4 B"))
    elif width == 2:
        parts.append(Part("bf16 weights", 2 * total, "autocast's copies"))
    tokens = recipe.sequences_per_micro_batch * recipe.batches.sequence_tokens // parallel.context
    kept, whole = _activations(config, parallel, width)
    mode = parallel.activation_checkpointing
    parts.append(
        Part("activations", tokens * kept * config.num_layers, f"{mode}: {kept / 1e3:.0f} kB a token and block")
    )
    if mode != "none":
        parts.append(Part("recomputed", tokens * whole, f"one block, {whole / 1e3:.0f} kB a token"))
    rows = min(CHUNK_TOKENS, tokens // tensor)
    logits, head = rows * config.vocab_size, config.vocab_size * config.hidden_size
    loss = head * (4 + width % 4) + max(8 * logits, (4 + width) * (logits + head))
    loss += tokens * config.hidden_size * (4 + 2 * width)
    return [*parts, Part("loss", loss, f"logits of {rows} tokens, the head's gradient")]


def _activations(config: ModelConfig, parallel: ParallelRecipe, width: int) -> tuple[float, float]:
    """Bytes a token that one block keeps for its backward pass: as the recipe says, and when nothing is recomputed.

    Nothing recomputed: what both norms were given (the stream between blocks is float32) and gave; queries, keys and
    values (under context parallelism those of the whole sequence), what attention gave and its copy for the next
    product; four vectors of the feed-forward's width. Fused kernels for norms and attention, as on a GPU.
    """
    hidden, inner, split = config.hidden_size, config.intermediate_size, parallel.tensor
    heads, groups = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    attention = 3 * heads + 2 * groups * parallel.context
    whole = 8 * hidden / split + width * (2 * hidden + (attention + 4 * inner) / split)
    summed = 2 * hidden / split if split > 1 else 0
    products = width * ((2 * heads + 2 * groups + 2 * inner) / split + 2 * hidden + summed)
    stream = 4 * hidden / split
    return {"none": whole, "selective": stream + products, "full": stream}[parallel.activation_checkpointing], whole

"""Making the model a stage trains: the parent's weights, sentinels where it has none, the rotary base set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from codecria.checkpoint.huggingface import save_huggingface
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.checkpoint.source import Description
from codecria.common.random import draw_bits
from codecria.model.transformer import Transformer
from codecria.tokenizer.sentinels import add_sentinels, find_sentinels
from codecria.training.lora import tables

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from codecria.checkpoint.source import Checkpoint
    from codecria.infill.layout import Sentinels
    from codecria.tokenizer.tokenizer import Tokenizer
    from codecria.training.recipe import TrainRecipe


@dataclass
class Start:
    """A model ready to be trained.

    Attributes:
        model: float32 weights.
        tokenizer: the parent's, with sentinels added when it had none and the recipe infills.
        sentinels: None when nothing is infilled.
        new_rows: rows added at the end of the tables.
        parent: where everything came from.
    """

    model: Transformer
    tokenizer: Tokenizer
    sentinels: Sentinels | None
    new_rows: int
    parent: Checkpoint


def start_model(recipe: TrainRecipe, device: torch.device) -> Start:
    """Load the parent and make it ready for the recipe."""
    parent = open_checkpoint(recipe.model)
    tokenizer = parent.tokenizer
    sentinels = find_sentinels(tokenizer)
    new_rows = 0
    model = load_model(parent, dtype=torch.float32, device=device)
    if sentinels is None and recipe.batches.infill.rate > 0:
        tokenizer, sentinels = add_sentinels(tokenizer)
        known_rows = parent.tokenizer.vocab_size
        model = grow_vocabulary(model, known_rows, max(tokenizer.vocab_size, parent.config.vocab_size), recipe.seed)
        new_rows = model.config.vocab_size - known_rows
    config = model.config
    if recipe.rope_theta is not None:
        config = replace(config, rope_theta=recipe.rope_theta)
    if recipe.max_positions is not None:
        config = replace(config, max_positions=recipe.max_positions)
    model.config = config
    return Start(model, tokenizer, sentinels if recipe.batches.infill.rate > 0 else None, new_rows, parent)


def grow_vocabulary(model: Transformer, known_rows: int, vocab_size: int, seed: int) -> Transformer:
    """A model whose tables have `vocab_size` rows, those from `known_rows` on new, everything else the same tensors.

    A new row is the mean of the known rows plus noise of their own spread, drawn for that row alone. Reserved rows
    of a foundation model would not do: SmolLM2's are all alike (cosine 1.0), and a model cannot tell them apart.
    """
    config = replace(model.config, vocab_size=vocab_size)
    with torch.device("meta"):
        grown = Transformer(config)
    weights = dict(model.state_dict())
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in weights:
            weights[name] = add_rows(weights[name][:known_rows], vocab_size, draw_bits(seed, "new rows", name))
    grown.load_state_dict(weights, assign=True)
    return grown.requires_grad_(True)


def add_rows(table_VD: Tensor, vocab_size: int, key: int) -> Tensor:
    """A table [V, D] grown to `vocab_size` rows: mean of the table + noise with each column's standard deviation."""
    rows = vocab_size - len(table_VD)
    source = torch.Generator().manual_seed(key >> 1)
    noise = torch.randn(rows, table_VD.shape[1], generator=source).to(table_VD.device)
    new_rows = table_VD.float().mean(dim=0) + noise * table_VD.float().std(dim=0)
    return torch.cat([table_VD, new_rows.to(table_VD.dtype)])


def description(start: Start) -> Description:
    """What the trained model's folder says beside its weights: the parent's files with what the stage changed."""
    parent = start.parent
    return Description(start.model.config, start.tokenizer, parent.hf_config, parent.generation_config)


def row_tables(model: Transformer) -> list[torch.nn.Parameter]:
    """The parameters that hold a row for each token."""
    return [table.weight for table in tables(model)]  # pyright: ignore[reportReturnType]


def save_start(recipe: TrainRecipe, folder: Path) -> None:
    """Write what a stage begins with as a checkpoint folder: the parent, new rows untrained. Once written it stays."""
    if (folder / "config.json").exists():
        return
    start = start_model(recipe, torch.device("cpu"))
    dtype = torch.bfloat16 if recipe.export_precision == "bf16" else torch.float32
    save_huggingface(folder, start.model, description(start), dtype=dtype)

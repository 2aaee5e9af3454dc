"""Making the model a stage trains: the parent's weights, sentinels where it has none, the rotary base set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from codecria.checkpoint.adapter import AdaptedTensors
from codecria.checkpoint.huggingface import save_huggingface
from codecria.checkpoint.open import open_checkpoint
from codecria.checkpoint.source import Description
from codecria.checkpoint.tensors import EMBEDDING, HEAD
from codecria.common.errors import CodecriaError
from codecria.common.files import clear_parts
from codecria.common.random import draw_bits
from codecria.infill.syntax import require_syntax
from codecria.model.transformer import Transformer
from codecria.tokenizer.chat import with_chat_format
from codecria.tokenizer.sentinels import add_sentinels, find_sentinels
from codecria.training.lora import NEW_ROWS, ORIGINAL_TABLE, add_lora, initial_adapter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from codecria.checkpoint.source import Checkpoint
    from codecria.infill.layout import Sentinels
    from codecria.model.config import ModelConfig
    from codecria.tokenizer.tokenizer import Tokenizer
    from codecria.training.recipe import LoraRecipe, TrainRecipe


@dataclass(frozen=True)
class Start:
    """What a stage begins with: shapes and files at once, each weight when it is asked for.

    Attributes:
        recipe: the stage.
        config: the model's shape, with the recipe's rotary base and positions and the rows added.
        tokenizer: the parent's, with sentinels added when it had none and the recipe takes them.
        sentinels: None when it takes none.
        new_rows: rows added at the end of the tables.
        parent: where everything came from.
    """

    recipe: TrainRecipe
    config: ModelConfig
    tokenizer: Tokenizer
    sentinels: Sentinels | None
    new_rows: int
    parent: Checkpoint

    @property
    def adapter(self) -> AdaptedTensors | None:
        """The adapter that the stage goes on with."""
        lora, source = self.recipe.lora, self.parent.source
        return source if lora is not None and lora.go_on and isinstance(source, AdaptedTensors) else None

    @property
    def end_row(self) -> int:
        """Which of the new rows is the infill end marker's; 0 where no markers are taken."""
        return 0 if self.sentinels is None else self.sentinels.end[0] - (self.config.vocab_size - self.new_rows)

    @property
    def base(self) -> str:
        """What an adapter that the stage writes is an adapter of."""
        return self.recipe.model if self.adapter is None else self.adapter.base_name

    @property
    def description(self) -> Description:
        """What the trained model's folder says beside its weights: the parent's files with what the stage changed."""
        return Description(self.config, self.tokenizer, self.parent.hf_config, self.parent.generation_config)

    def shapes(self) -> Transformer:
        """The model without memory (on the meta device), adapters in place."""
        with torch.device("meta"):
            model = Transformer(self.config)
            if self.recipe.lora is not None:
                add_lora(model, self.recipe.lora, self.new_rows, self.end_row)
        return model

    def weight(self, name: str) -> Tensor:
        """The whole initial value of a parameter, float32 on the CPU, by its name in `shapes()`."""
        layer, _, part = name.rpartition(".")
        adapter = self.adapter
        if part in ("lora_down", "lora_up"):
            if adapter is not None:
                return adapter.read_factors(layer)[part == "lora_up"]
            assert self.recipe.lora is not None
            base = self.parent.source.shapes[f"{layer}.weight"]
            return initial_adapter(name, base, self.recipe.lora, self.recipe.seed)
        return (
            self._plain_weight(name)
            if adapter is None or layer not in adapter.layers
            else adapter.base.read(name, torch.float32)
        )

    def _plain_weight(self, name: str) -> Tensor:
        table = name.replace(ORIGINAL_TABLE, "weight").replace(NEW_ROWS, "weight")
        value = self.parent.source.read(table, torch.float32)
        if table in (EMBEDDING, HEAD) and self.new_rows:
            if self.adapter is None:
                key = draw_bits(self.recipe.seed, "new rows", table)
                value = add_rows(value[: self.config.vocab_size - self.new_rows], self.config.vocab_size, key)
            if name.endswith(NEW_ROWS):
                value = value[-self.new_rows :]
        return value

    def plain_weights(self) -> Iterator[tuple[str, Tensor]]:
        """A plain model's names and initial values, one at a time."""
        with torch.device("meta"):
            names = [name for name, _ in Transformer(self.config).named_parameters()]
        return ((name, self._plain_weight(name)) for name in names)

    def model(self, device: torch.device) -> Transformer:
        """The whole model on one device, float32, adapters in place."""
        model = self.shapes()
        filled = {name: self.weight(name).to(device).clone() for name, _ in model.named_parameters()}
        frozen = {name for name, each in model.named_parameters() if not each.requires_grad}
        model.load_state_dict(filled, assign=True)
        for name, each in model.named_parameters():
            each.requires_grad_(name not in frozen)
        return model


def begin(recipe: TrainRecipe) -> Start:
    """Open the parent and say what the recipe makes of it; no weight is read yet.

    Raises:
        CodecriaError: the parent cannot be opened; the sequences are longer than its positions.
    """
    infill = recipe.batches.infill
    if infill.rate > 0 and "syntax" in infill.units:
        require_syntax()
    parent = open_checkpoint(recipe.model)
    tokenizer, config = parent.tokenizer, parent.config
    if recipe.chat_format is not None:
        tokenizer = with_chat_format(tokenizer, recipe.chat_format)
    sentinels = find_sentinels(tokenizer)
    new_rows = 0
    if sentinels is None and recipe.batches.takes_markers:
        known_rows = tokenizer.vocab_size
        tokenizer, sentinels = add_sentinels(tokenizer)
        config = replace(config, vocab_size=max(tokenizer.vocab_size, config.vocab_size))
        new_rows = config.vocab_size - known_rows
    if recipe.lora is not None and recipe.lora.go_on:
        adapter = _require_adapter(parent, recipe.lora)
        check_markers(recipe, adds=new_rows > 0)
        new_rows = adapter.new_rows
    if recipe.rope_theta is not None:
        config = replace(config, rope_theta=recipe.rope_theta)
    if recipe.max_positions is not None:
        config = replace(config, max_positions=recipe.max_positions)
    longest = recipe.batches.sequence_tokens
    if longest > config.max_positions:
        raise CodecriaError(
            f"sequences of {longest} tokens, but the model knows {config.max_positions} positions",
            where=recipe.model,
            mend="shorten batches.sequence_tokens, or set max_positions and a higher rope_theta (the paper: 1e6)",
        )
    return Start(recipe, config, tokenizer, sentinels if recipe.batches.takes_markers else None, new_rows, parent)


def check_markers(recipe: TrainRecipe, *, adds: bool) -> None:
    """Raise CodecriaError where a stage that goes on with an adapter adds markers: it has no rows to learn them in."""
    if adds and recipe.lora is not None and recipe.lora.go_on:
        mend = "set batches.infill.rate: 0, or leave lora.go_on out to begin a new one"
        raise CodecriaError("the adapter has no rows for the infill markers", where=recipe.model, mend=mend)


def _require_adapter(parent: Checkpoint, lora: LoraRecipe) -> AdaptedTensors:
    source = parent.source
    if not isinstance(source, AdaptedTensors):
        mend = "leave lora.go_on out, or name an adapter as the model"
        raise CodecriaError("lora.go_on is set, but the model is no adapter", where=parent.path, mend=mend)
    targets = {layer.rpartition(".")[2] for layer in source.layers}
    theirs, ours = (source.rank, source.alpha, targets), (lora.rank, lora.alpha, set(lora.targets))
    if theirs != ours:
        raise CodecriaError(
            f"the adapter has rank {theirs[0]}, alpha {theirs[1]:g}, targets {', '.join(sorted(targets))}; "
            f"the recipe {ours[0]}, {ours[1]:g}, {', '.join(sorted(ours[2]))}",
            where=parent.path,
            mend="give the adapter's own figures, or leave lora.go_on out to begin a new one",
        )
    if lora.trains == "end_row" and not source.new_rows:
        what = "lora.trains is end_row, but the adapter has no rows of its own: its base had infill markers"
        raise CodecriaError(what, where=parent.path, mend="leave lora.trains out")
    return source


def add_rows(table_VD: Tensor, vocab_size: int, key: int) -> Tensor:
    """A table [V, D] grown to `vocab_size` rows: mean of the table + noise with each column's standard deviation.

    Reserved rows of a foundation model would not do as sentinels: SmolLM2's are all alike (cosine 1.0), and a model
    cannot tell them apart.
    """
    rows = vocab_size - len(table_VD)
    source = torch.Generator().manual_seed(key >> 1)
    noise = torch.randn(rows, table_VD.shape[1], generator=source).to(table_VD.device)
    new_rows = table_VD.float().mean(dim=0) + noise * table_VD.float().std(dim=0)
    return torch.cat([table_VD, new_rows.to(table_VD.dtype)])


def save_start(recipe: TrainRecipe, folder: Path) -> None:
    """Write what a stage begins with as a checkpoint folder: the parent, new rows untrained. Once written it stays."""
    if (folder / "config.json").exists():
        return
    clear_parts(folder.parent, of=f"{folder.name}.*")
    start = begin(recipe)
    dtype = torch.bfloat16 if recipe.export_precision == "bf16" else torch.float32
    save_huggingface(folder, start.plain_weights(), start.description, dtype=dtype)

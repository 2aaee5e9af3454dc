"""A training stage's recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from codecria.batches.recipe import BatchRecipe
from codecria.common.recipe import Recipe
from codecria.model.precision import Precision  # noqa: TC001

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]


class OptimiserRecipe(Recipe):
    """AdamW with warm-up and cosine decay (paper §2.6).

    Attributes:
        peak_rate: learning rate after warm-up.
        warm_up_steps: steps from 0 to the peak (paper: 1,000).
        final_share: the last step's rate as a share of the peak (paper: 1/30).
        betas: the paper's 0.9 and 0.95.
        eps: added to the root of the second moment.
        weight_decay: for matrices; norms have none. Not in the paper; Llama 2 used 0.1.
        clip_norm: largest norm of the whole gradient. Not in the paper; Llama 2 used 1.0.
        new_rows_factor: learning rate of rows added for sentinels, as a multiple of everybody's.
    """

    peak_rate: Rate = 3e-4
    warm_up_steps: Annotated[int, Field(ge=0)] = 1000
    final_share: Annotated[float, Field(ge=0, le=1)] = 1 / 30
    betas: tuple[float, float] = (0.9, 0.95)
    eps: Rate = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    clip_norm: Rate = 1.0
    new_rows_factor: Rate = 1.0


class LoraRecipe(Recipe):
    """Low-rank adapters instead of full weights; rows added for sentinels stay fully trainable.

    Attributes:
        rank: inner size of each adapter.
        alpha: the adapter's product is scaled by alpha / rank.
        targets: names of the linear layers that get one.
    """

    rank: Positive = 16
    alpha: Rate = 32.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class TrainRecipe(Recipe):
    """One training stage.

    Attributes:
        model: the parent: a checkpoint's path or a name from the catalogue.
        corpus: a corpus folder.
        steps: optimiser steps.
        sequences_per_step: packed sequences in one step.
        sequences_per_micro_batch: how many of them go through the model at once; the rest is accumulated.
        batches: what the sequences are made of.
        optimiser: AdamW's figures.
        lora: adapters; absent for full fine-tuning.
        rope_theta: the rotary base to train and export with; the parent's when absent (paper §2.4: 1e6).
        max_positions: positions the exported model claims; the parent's when absent.
        precision: `auto` is bf16 where the device has it, else fp32. Weights and optimiser are float32 always.
        export_precision: of the weights in the checkpoint that the stage gives.
        device: `auto`, `cpu`, `cuda`.
        checkpoint_every_steps: how often the state that a killed run resumes from is written.
        keep_states: how many of them stay on disk.
        seed: of everything random.
    """

    model: str
    corpus: str
    steps: Positive
    sequences_per_step: Positive
    sequences_per_micro_batch: Positive = 1
    batches: BatchRecipe = BatchRecipe()
    optimiser: OptimiserRecipe = OptimiserRecipe()
    lora: LoraRecipe | None = None
    rope_theta: Rate | None = None
    max_positions: Positive | None = None
    precision: Precision = "auto"
    export_precision: Literal["bf16", "fp32"] = "bf16"
    device: str = "auto"
    checkpoint_every_steps: Positive = 500
    keep_states: Positive = 1
    seed: int = 0

    @model_validator(mode="after")
    def _micro_batches_divide(self) -> TrainRecipe:
        if self.sequences_per_step % self.sequences_per_micro_batch:
            raise ValueError(
                f"sequences_per_step = {self.sequences_per_step} is no multiple of "
                f"sequences_per_micro_batch = {self.sequences_per_micro_batch}"
            )
        return self

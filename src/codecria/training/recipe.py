"""A training stage's recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from codecria.batches.recipe import BatchRecipe
from codecria.common.recipe import Recipe
from codecria.model.precision import Precision  # noqa: TC001

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


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
        targets: names of the linear layers that get one; a block's seven.
        go_on: the parent is an adapter of this rank, alpha and these targets, and its values are where training begins;
            what comes out is an adapter of the parent's base. Else an adapter as parent is merged, and a new one begun.
        trains: `end_row` leaves an adapter that goes on as it is, all but the row of the infill end marker: the model
            learns anew where a middle ends and nothing else. The row is used as an output alone, so the loss is convex
            in it (a logistic regression on frozen states) and a step needs no backward pass through the blocks.
    """

    rank: Positive = 16
    alpha: Rate = 32.0
    targets: Annotated[tuple[Target, ...], Field(min_length=1)] = get_args(Target)
    go_on: bool = False
    trains: Literal["all", "end_row"] = "all"

    @model_validator(mode="after")
    def _something_to_leave(self) -> LoraRecipe:
        if self.trains == "end_row" and not self.go_on:
            raise ValueError("trains: end_row leaves the parent's adapter as it is, so it needs go_on: true")
        return self

    @property
    def states_frozen(self) -> bool:
        """Whether nothing below the head is trained, so that no gradient goes through the blocks."""
        return self.trains == "end_row"


class ParallelRecipe(Recipe):
    """How a stage is spread over ranks. The product of the four degrees is the number of ranks.

    Attributes:
        replicate: copies of the sharded model (HSDP); gradients are summed over them.
        shard: ranks that share one copy's weights, gradients and moments (FSDP2); all that are left when absent.
        context: ranks that share each sequence, keys and values gathered.
        tensor: ranks that share each matrix product, with sequence parallelism between the products.
        activation_checkpointing: what a block keeps for its backward pass. `none`: everything; `selective`: the results
            of matrix products and attention; `full`: its input only.
        compile: compile each block.
        reduce_each_micro_batch: sum gradients over ranks at every micro-batch: more traffic, but no rank holds a whole
            gradient (28 GB in float32 at 7B) between them.
    """

    replicate: Positive = 1
    shard: Positive | None = None
    context: Positive = 1
    tensor: Positive = 1
    activation_checkpointing: Literal["none", "selective", "full"] = "none"
    compile: bool = False
    reduce_each_micro_batch: bool = False


class WatchRecipe(Recipe):
    """What is looked at while a stage runs, and what a bad step does.

    Attributes:
        on_bad_step: a step whose loss or gradient is no number, or whose loss is a spike, is not taken. `stop`: the run
            ends, its batch and its state saved for `codecria train-replay`; `skip`: the batch is saved and passed over;
            the step counts, so schedule and data go on.
        most_skips: steps passed over before the run stops all the same.
        spike: a loss above this multiple of the median of the last `spike_window` steps is a spike; absent for never.
        spike_window: steps; none is called a spike before half of them are done.
        trackers: where figures go besides `metrics.jsonl`.
        peak_tflops: of one device at the precision of its products, what MFU is a share of; known for common GPUs.
        grace_s: seconds from SIGTERM within which the state is saved and the process gone.
    """

    on_bad_step: Literal["stop", "skip"] = "stop"
    most_skips: Positive = 10
    spike: Annotated[float, Field(gt=1)] | None = None
    spike_window: Annotated[int, Field(ge=4)] = 64
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    peak_tflops: Rate | None = None
    grace_s: Rate = 25.0


class ValidationRecipe(Recipe):
    """Losses on the corpus's held-out documents, with the stage's own batches.

    Attributes:
        every_steps: how often; also before the first step and after the last.
        sequences: held-out sequences of each source, the same ones each time.
    """

    every_steps: Positive = 500
    sequences: Positive = 32


class TrainRecipe(Recipe):
    """One training stage.

    Attributes:
        model: the parent: a checkpoint's path or a name from the catalogue.
        corpus: a corpus folder.
        steps: optimiser steps.
        sequences_per_step: packed sequences in one step, over all ranks.
        sequences_per_micro_batch: how many of them go through one copy of the model at once; the rest is accumulated.
        batches: what the sequences are made of.
        optimiser: AdamW's figures.
        chat_format: the chat template that the model gets: `llama-2`, `code-llama-70b` or `chatml`; the parent's own
            where absent. A foundation model has none, and learns conversations in the one that it is given.
        lora: adapters; absent for full fine-tuning.
        document_attention: a packed document attends only to itself; false lets it see what stands before it.
        rope_theta: the rotary base to train and export with; the parent's when absent (paper §2.4: 1e6).
        max_positions: positions the exported model claims; the parent's when absent.
        precision: `auto` is bf16 where the device has it, else fp32. Weights and optimiser are float32 always.
        export_precision: of the weights in the checkpoint that the stage gives.
        device: `auto`, `cpu`, `cuda`.
        parallel: how the stage is spread over ranks.
        loader_workers: processes that make sequences ahead; 0 makes them in a thread.
        checkpoint_every_steps: how often the state that a killed run resumes from is written; after the last step too.
        keep_states: how many of them stay on disk.
        milestone_every_steps: states at multiples of this stay for good.
        export_every_steps: a checkpoint folder `exports/step-N` at multiples of this.
        watch: figures, trackers, bad steps, SIGTERM.
        validation: losses on held-out documents; absent for none.
        seed: of everything random.
    """

    model: str
    corpus: str
    steps: Positive
    sequences_per_step: Positive
    sequences_per_micro_batch: Positive = 1
    batches: BatchRecipe = BatchRecipe()
    optimiser: OptimiserRecipe = OptimiserRecipe()
    chat_format: str | None = None
    lora: LoraRecipe | None = None
    document_attention: bool = True
    rope_theta: Rate | None = None
    max_positions: Positive | None = None
    precision: Precision = "auto"
    export_precision: Literal["bf16", "fp32"] = "bf16"
    device: str = "auto"
    parallel: ParallelRecipe = ParallelRecipe()
    loader_workers: Annotated[int, Field(ge=0)] = 0
    checkpoint_every_steps: Positive = 500
    keep_states: Positive = 1
    milestone_every_steps: Positive | None = None
    export_every_steps: Positive | None = None
    watch: WatchRecipe = WatchRecipe()
    validation: ValidationRecipe | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _micro_batches_divide(self) -> TrainRecipe:
        if self.sequences_per_step % self.sequences_per_micro_batch:
            raise ValueError(
                f"sequences_per_step = {self.sequences_per_step} is no multiple of "
                f"sequences_per_micro_batch = {self.sequences_per_micro_batch}"
            )
        return self

    @model_validator(mode="after")
    def _adapters_are_not_split(self) -> TrainRecipe:
        if self.lora is not None and self.parallel.tensor > 1:
            raise ValueError("adapters are not split by tensor parallelism; use parallel.shard")
        return self

    @model_validator(mode="after")
    def _an_end_to_learn(self) -> TrainRecipe:
        if self.lora is not None and self.lora.trains == "end_row" and not self.batches.infill.rate:
            raise ValueError("lora.trains: end_row has nothing to learn where batches.infill.rate is 0")
        return self

    def shaping(self) -> dict[str, Any]:
        """Every key that shapes the numbers of a run: a run may go on with other ranks, workers and trackers."""
        free = {"parallel", "loader_workers", "device", "keep_states", "milestone_every_steps", "export_every_steps"}
        return self.model_dump(mode="json", exclude={*free, "checkpoint_every_steps", "watch"})

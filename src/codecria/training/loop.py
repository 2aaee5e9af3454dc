"""The training loop of one stage.

A run folder holds `recipe.yaml`, `inputs.json` (what the run reads, by hash), `prepared/` (packed corpus),
`metrics.jsonl`, `state/` (what a killed run resumes from), `exports/` and `bad/` where there are any and, once done,
`checkpoint/` (a Hugging Face folder with `lineage.json`) and, of a stage with LoRA, `adapter/`. Killed at any moment
and started again with the same recipe and inputs, a run gives the same losses: on the same machine, ranks and thread
count, to the bit.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from codecria.batches.conversations import conversation_files
from codecria.batches.loader import Sequences
from codecria.batches.prepare import check_size, prepare
from codecria.checkpoint.open import open_checkpoint
from codecria.common.errors import CodecriaError
from codecria.common.files import clear_parts, sha256_of_file, write_atomic
from codecria.common.lock import alone
from codecria.common.progress import progress_bar
from codecria.common.random import digest
from codecria.common.recipe import load_recipe, resolved
from codecria.corpus.store import read_manifest
from codecria.model.precision import compute_dtype
from codecria.training.adapter import write_adapter
from codecria.training.export import export_model, lineage
from codecria.training.lora import row_tables
from codecria.training.metrics import Efficiency, Journal, lines_up_to, memory_gb
from codecria.training.optimiser import FasterRows, learning_rate, make_optimiser, warm_up_note
from codecria.training.parallel import make_model, open_world
from codecria.training.preemption import Preemption
from codecria.training.recipe import TrainRecipe
from codecria.training.start import begin
from codecria.training.state import States, saved_states
from codecria.training.step import pass_over, take_gradient, take_step
from codecria.training.trackers import check_trackers
from codecria.training.validation import Validation
from codecria.training.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from codecria.batches.loader import Sequence as Row
    from codecria.checkpoint.source import Checkpoint
    from codecria.model.transformer import Transformer
    from codecria.training.parallel import World
    from codecria.training.start import Start


class Probe(Protocol):
    """A measurement taken during training. Pipelines hand them in, so that training need not know evaluation."""

    @property
    def every_steps(self) -> int:
        """How often it is taken; also before the first step and after the last."""
        ...

    def __call__(self, model: Transformer, step: int) -> Mapping[str, float]:
        """Figures by name; they are written to the metrics under those names. Every rank calls it, without gradient."""
        ...


def train(recipe: TrainRecipe, folder: Path, probes: Sequence[Probe] = ()) -> Path:
    """Run a stage to its end, from the start or from where a killed run was.

    Args:
        recipe: the stage.
        folder: the run's folder; made when absent.
        probes: measurements during training.

    Returns:
        The checkpoint folder.

    Raises:
        CodecriaError: the folder holds a run of another recipe, or one on other inputs, or another process is training
            there; the parent cannot be loaded, the corpus is smaller than one step, a tracker is not installed, or a
            step is bad.
        SystemExit: SIGTERM (status 143) or Ctrl-C (130) came; the state is saved.
    """
    checkpoint = folder / "checkpoint"
    check_trackers(recipe.watch.trackers)
    with open_world(recipe.parallel, recipe.device) as world, contextlib.ExitStack() as held:
        done = checkpoint / "lineage.json"
        if world.first:
            if not done.exists():
                held.enter_context(alone(folder, "another process is training here"))
            _claim(folder, recipe)
            if done.exists():
                check_finished(recipe, folder)
        world.barrier()
        if done.exists():
            return checkpoint
        Run(recipe, folder, world, probes).go()
    return checkpoint


class Run:
    """A stage under way on this rank."""

    def __init__(self, recipe: TrainRecipe, folder: Path, world: World, probes: Sequence[Probe]) -> None:
        self.recipe, self.folder, self.world = recipe, folder, world
        self.start = begin(recipe)
        _check_share(recipe, world)
        prepared = folder / "prepared"
        if world.first:
            clear_parts(folder, folder / "exports")
            _claim_inputs(folder, self.start)
            facts = prepare(Path(recipe.corpus), self.start.tokenizer, recipe.batches, prepared, recipe.seed)
            check_size(facts, recipe.sequences_per_step)
        world.barrier()
        tokenizer, sentinels = self.start.tokenizer, self.start.sentinels
        self.sequences = Sequences(
            prepared, tokenizer, sentinels, recipe.batches, recipe.seed, recipe.sequences_per_step
        )
        self.notes = self.sequences.mixture.check(recipe.steps * recipe.sequences_per_step)
        asked = recipe.validation
        own = [] if asked is None else [Validation(asked, recipe, self.start, folder, world)]
        self.probes = [*probes, *own]
        self.model = make_model(self.start, recipe, world).train()
        self.parameters = [each for each in self.model.parameters() if each.requires_grad]
        self.optimiser = make_optimiser(self.model, recipe.optimiser)
        rows = [] if recipe.lora is not None else row_tables(self.model)
        self.faster = FasterRows(rows, self.start.new_rows, recipe.optimiser.new_rows_factor)
        self.efficiency = Efficiency.of(self.start.config, recipe, world)
        self.states = States(folder / "state", recipe, world)

    def go(self) -> None:
        """Train to the last step and write the checkpoint."""
        self.counter = self.states.resume(self.model, self.optimiser)
        lines = lines_up_to(self.folder / "metrics.jsonl", self.counter.step)
        self.watch = Watch(self.folder, self.recipe, self.world, lines, self.counter.step)
        probed = any(line["step"] == self.counter.step and "learning_rate" not in line for line in lines)
        self.world.barrier()
        if self.world.first:
            for note in filter(None, (warm_up_note(self.recipe), self.efficiency.note, *self.notes)):
                print(note, file=sys.stderr)
        self.journal = Journal(self.folder, self.counter.step, self.recipe, self.world)
        try:
            self._steps(probed=self.world.any(probed))
        finally:
            # The thread that writes a state uses the ranks' group: it must be done before they part.
            self.journal.close()
            self._finish_states()
        if self.recipe.lora is not None:
            history = lineage(self.folder, self.start, self.counter)
            write_adapter(self.model, self.start, self.folder / "adapter", self.world, history)
        self.export(self.folder / "checkpoint")
        self.states.clear()

    def export(self, folder: Path) -> None:
        """Write the model as it is now as a checkpoint folder. Every rank calls it."""
        export_model(self.model, self.start, self.counter, self.folder, folder, self.world)

    def _finish_states(self) -> None:
        try:
            self.states.finish()
        except CodecriaError as error:
            if self.counter.step < self.recipe.steps:
                raise
            if self.world.first:  # a disk without room for a state may have room for the checkpoint
                print(f"{error}; going on to the checkpoint", file=sys.stderr)

    def _steps(self, probed: bool) -> None:
        recipe, counter = self.recipe, self.counter
        stream = self.sequences.run(self._numbers(), recipe.loader_workers)
        with (
            contextlib.closing(stream),
            progress_bar("train", total=recipe.steps, unit="steps", start=counter.step) as bar,
            Preemption(recipe.watch.grace_s, self.world) as preemption,
        ):
            self._between_steps(probe=not probed)
            while counter.step < recipe.steps:
                bar.advance(1, note=self._step(stream))
                self._leave_if_asked(preemption)
                # The last step's too: what is written after it may fail, or be killed.
                if counter.step == recipe.steps or counter.step % recipe.checkpoint_every_steps == 0:
                    self.states.save(self.model, self.optimiser, counter)
                self._between_steps()
            self._leave_if_asked(preemption)

    def _leave_if_asked(self, preemption: Preemption) -> None:
        if preemption.asked():
            self.states.save(self.model, self.optimiser, self.counter)
            self.states.finish()
            raise preemption.leave(self.counter.step)

    def _step(self, stream: Iterator[Row]) -> str:
        """One step, or the passing over of a bad one; returns a note for the progress bar."""
        recipe, counter = self.recipe, self.counter
        began_s = time.monotonic()
        batch = [next(stream) for _ in range(recipe.sequences_per_step // self.world.data_ranks)]
        waited_s = time.monotonic() - began_s
        rate = learning_rate(counter.step, recipe.steps, recipe.optimiser)
        figures = take_gradient(self.model, self.parameters, batch, recipe, self.world, self.sequences.sources)
        problem = self.watch.judge(figures)
        if problem is None:
            take_step(self.optimiser, self.faster, rate)
        else:
            sources = self.sequences.sources
            self.states.finish()
            self.watch.keep(problem, batch, figures, counter, self.model, self.optimiser, sources)
            pass_over(self.optimiser, self.faster)
        counter.step += 1
        counter.sequence += recipe.sequences_per_step
        counter.tokens += figures.tokens
        took_s = time.monotonic() - began_s
        tokens_per_s = figures.tokens / took_s
        speed = {
            "tokens_per_s": round(tokens_per_s, 1),
            "data_wait_s": round(waited_s, 4),
            "step_s": round(took_s, 4),
            "mfu": self.efficiency.mfu(tokens_per_s),
            "memory_gb": memory_gb(self.world.device),
        }
        measured = vars(figures) if problem is None else {"skipped": problem}
        line: dict[str, Any] = {
            "step": counter.step,
            **measured,
            "tokens": counter.tokens,
            "learning_rate": rate,
            **speed,
        }
        self.journal.write(**line, epochs=self.sequences.mixture.epochs(counter.sequence))
        return f"loss {figures.loss:.3f} · {tokens_per_s:.0f} tokens/s"

    def _numbers(self) -> Iterator[int]:
        """Numbers of the sequences this rank reads: of each step's, one block a data rank."""
        whole = self.recipe.sequences_per_step
        share = whole // self.world.data_ranks
        for step in range(self.counter.step, self.recipe.steps):
            first = step * whole + self.world.data_rank * share
            yield from range(first, first + share)

    def _between_steps(self, probe: bool = True) -> None:
        """What is due at this step besides its state: an export, probes. A resumed run does what a kill prevented."""
        step, every = self.counter.step, self.recipe.export_every_steps
        if step and every and step % every == 0:
            exported = self.folder / "exports" / f"step-{step:08d}"
            if not exported.exists():
                self.export(exported)
        forced = step in (0, self.recipe.steps)
        due = [each for each in self.probes if forced or step % each.every_steps == 0] if probe else []
        if due:
            self.model.eval()
            dtype = compute_dtype(self.recipe.precision, self.world.device)
            # Sharded blocks are gathered in this dtype, so a probe's forward pass must compute in it too.
            with torch.no_grad(), torch.autocast(self.world.device.type, dtype, enabled=dtype != torch.float32):
                figures = {name: value for each in due for name, value in each(self.model, step).items()}
            self.journal.write(step=step, tokens=self.counter.tokens, **figures)
            self.model.train()


def _check_share(recipe: TrainRecipe, world: World) -> None:
    at_once = world.data_ranks * recipe.sequences_per_micro_batch
    if recipe.sequences_per_step % at_once:
        raise CodecriaError(
            f"sequences_per_step = {recipe.sequences_per_step} is no multiple of {world.data_ranks} data ranks "
            f"times {recipe.sequences_per_micro_batch} sequences_per_micro_batch",
            where="recipe",
            mend="change one of the three",
        )


def _claim(folder: Path, recipe: TrainRecipe) -> None:
    """Write the recipe into the folder, or check that the one there gives the same numbers."""
    path = folder / "recipe.yaml"
    if not path.exists():
        write_atomic(path, recipe.to_yaml())
        return
    old, new = _shaping(load_recipe(TrainRecipe, path)), _shaping(recipe)
    if old != new:
        keys = ", ".join(key for key in new if old[key] != new[key])
        raise CodecriaError(f"holds a run of another recipe: {keys} differ", where=folder, mend="name another folder")


def _shaping(recipe: TrainRecipe) -> dict[str, Any]:
    # These two also where they are gone.
    places = {"model": Path(recipe.model).resolve(), "corpus": Path(recipe.corpus).resolve()}
    return {**resolved(recipe.shaping()), **places}


def _inputs(recipe: TrainRecipe, parent: Checkpoint | None = None) -> dict[str, Callable[[], Any]]:
    """What a run reads; each gives its hash."""
    told = recipe.batches.conversations
    return {
        "model": lambda: _sample(parent or open_checkpoint(recipe.model)),
        "corpus": lambda: read_manifest(Path(recipe.corpus)).fingerprint,
        "conversations": lambda: [sha256_of_file(file) for file in conversation_files(Path(told))] if told else [],
    }


def _sample(parent: Checkpoint) -> str:
    # One matrix vouches for the parent: reading all would take as long as loading it.
    matrix = parent.source.read("model.layers.0.self_attn.q_proj.weight", torch.float32).numpy()
    return digest(json.dumps(parent.hf_config, sort_keys=True), matrix.tobytes()).hex()


def _claim_inputs(folder: Path, start: Start) -> None:
    """Write what the run reads into the folder, or check that a run with a saved state goes on with the same."""
    inputs = {name: read() for name, read in _inputs(start.recipe, start.parent).items()}
    path, states = folder / "inputs.json", saved_states(folder / "state")
    if states and path.exists():
        step = int(states[-1].name.removeprefix("step-"))
        _refuse_others(inputs, path, f"step {step}, where the run would go on")
    elif path.exists() and json.loads(path.read_bytes()) != inputs:
        shutil.rmtree(folder / "exports", ignore_errors=True)  # of a run on the others, begun anew here
    write_atomic(path, json.dumps(inputs, indent=1) + "\n")


def check_finished(recipe: TrainRecipe, folder: Path) -> None:
    """Find that what a finished run read is still the same, as far as it is still there.

    Raises:
        CodecriaError: it changed; names what.
    """
    path, there = folder / "inputs.json", dict[str, Any]()
    if not path.exists():  # a run of an earlier version
        return
    for name, read in _inputs(recipe).items():
        if name != "model" or Path(recipe.model).exists():  # nothing is downloaded for a run that is done
            with contextlib.suppress(CodecriaError):
                there[name] = read()
    _refuse_others(there, path, "the finished run read it")


def _refuse_others(inputs: dict[str, Any], path: Path, since: str) -> None:
    held = json.loads(path.read_bytes())
    if changed := " and ".join(name for name in inputs if held[name] != inputs[name]):
        mend = "bring back what was there, or name another folder"
        raise CodecriaError(f"{changed} changed since {since}", where=path.parent, mend=mend)

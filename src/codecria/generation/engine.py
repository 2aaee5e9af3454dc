"""Generates many texts at once: prompts are read in chunks, running texts share each pass over the weights.

Work goes on in steps, between which texts may join and leave. What is done in a step is the scheduler's choice
(`scheduler.py`), where keys and values lie the cache's (`cache.py`), what a token is the sampler's (`sampling.py`).
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import torch

from codecria.common.errors import CodecriaError
from codecria.generation.admission import Admission
from codecria.generation.cache import Cache
from codecria.generation.fused import fuse, fused_blocks
from codecria.generation.graph_step import new_graph_step
from codecria.generation.memory import default_cache_bytes, out_of_memory
from codecria.generation.native.step import NativeSteps
from codecria.generation.sampling import SamplingOptions
from codecria.generation.scheduler import QueueFullError, Scheduler
from codecria.generation.sequence import Priority, Sequence, samples_of
from codecria.generation.statistics import Statistics
from codecria.generation.writing import Writer

if TYPE_CHECKING:
    import collections.abc
    from collections.abc import Generator

    from codecria.generation.cache import CacheType
    from codecria.generation.sequence import Completion, Step
    from codecria.generation.stopping import TextPlan
    from codecria.model.transformer import Transformer


class Engine:
    """Generation with one model. Not to be used from several threads at once.

    Args:
        model: weights of any dtype, on any device. Its projections are put one below the other in memory.
        max_rows: at most so many texts run together; others wait.
        prefill_tokens: prompts are read in chunks of this size, which bounds the memory of a long one. Between the
            chunks the running texts go on.
        max_waiting: `submit` refuses what would make more texts wait. `generate` and `stream` take any number of
            prompts and queue them as the queue drains, at most half of this, so that `submit` finds room beside them.
        cache_bytes: for keys and values of running texts and of what is kept for prompts that begin alike. By default
            2 GiB, or what one whole context needs if that is more, and at most half of the memory that the machine has,
            its cgroup allows or, on a GPU, is free now.
        cache_type: `int8` stores them in about half of bfloat16's memory, less exactly.
        draft_tokens: a text that runs alone is checked against guesses of at most so many tokens; 0 guesses none.
    """

    def __init__(
        self,
        model: Transformer,
        *,
        max_rows: int = 16,
        prefill_tokens: int = 512,
        max_waiting: int = 1024,
        cache_bytes: int | None = None,
        cache_type: CacheType = "model",
        draft_tokens: int = 8,
    ) -> None:
        self.model = fuse(model.eval())
        self.max_rows = max_rows
        self.max_waiting = max_waiting
        norm = model.model.norm.weight
        self._cache = Cache(model.config, dtype=norm.dtype, device=norm.device, budget=0, stored=cache_type)
        if cache_bytes is None:
            context_bytes = model.config.max_positions * self._cache.layout.slot_bytes
            cache_bytes = default_cache_bytes(norm.device, context_bytes)
        self._cache.tree.budget = cache_bytes
        self._scheduler = Scheduler()
        self._admission = Admission(self._cache, self._scheduler, max_rows)
        self._writer = Writer(
            self.model,
            NativeSteps(self.model, fused_blocks(self.model)),
            new_graph_step(self.model),
            self._cache,
            self._scheduler,
            self._admission,
            prefill_tokens=prefill_tokens,
            draft_tokens=draft_tokens,
        )

    @property
    def draft_tokens(self) -> int:
        """Most tokens of a draft; may be changed between texts."""
        return self._writer.draft_tokens

    @draft_tokens.setter
    def draft_tokens(self, tokens: int) -> None:
        self._writer.draft_tokens = tokens

    def generate(
        self,
        prompts: collections.abc.Sequence[list[int]],
        options: SamplingOptions | collections.abc.Sequence[SamplingOptions],
        texts: collections.abc.Sequence[TextPlan] | None = None,
        done: collections.abc.Callable[[int, int, Completion], None] | None = None,
    ) -> list[list[Completion]]:
        """Generate `options.n` samples of each prompt.

        Any number of prompts may be given, whatever `max_waiting`: a prompt gets its place in the queue, and its memory
        beside its ids, when few wait before it, and keeps nothing but its result when it has ended.

        Args:
            prompts: token ids.
            options: for all of them, or one for each.
            texts: how each prompt's samples become text; without, only ids are given.
            done: told of each sample when it has ended: its prompt's place, its number, itself.

        Returns:
            For each prompt its samples.

        Raises:
            CodecriaError: a prompt is empty, does not fit the context or has an id the model lacks; stop strings are
                asked for without `texts`; a text failed (then the other texts of this call are cancelled).
        """
        found: dict[tuple[int, int], Completion] = {}
        each = [options] * len(prompts) if isinstance(options, SamplingOptions) else options

        def keep(sequence: Sequence) -> None:
            found[sequence.place, sequence.sample] = sequence.result()
            if done is not None:
                done(sequence.place, sequence.sample, found[sequence.place, sequence.sample])

        for _ in self._run(self._groups(prompts, each, texts, Priority.BATCH), keep):
            pass
        return [[found[place, sample] for sample in range(one.n)] for place, one in enumerate(each)]

    def stream(
        self,
        prompts: collections.abc.Sequence[list[int]],
        options: SamplingOptions,
        texts: collections.abc.Sequence[TextPlan] | None = None,
    ) -> Generator[Step]:
        """As `generate`, step by step. Closing the iterator cancels what has not ended. What is wrong with a prompt is
        raised here, not at the first step.

        Several streams may be under way: each one's steps carry the others along, in common passes.
        """
        each = [options] * len(prompts)
        return self._run(self._groups(prompts, each, texts, Priority.BATCH), lambda _ended: None)

    def submit(
        self,
        prompt: list[int],
        options: SamplingOptions,
        text: TextPlan | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> list[Sequence]:
        """Queue a prompt's samples; `step` takes them further.

        Whoever submits takes steps out of each sequence's `outbox`, and looks at its `error` when it has `finished`.

        Raises:
            QueueFullError: too many wait.
            CodecriaError: as of `generate`.
        """
        [sequences] = self._groups([prompt], [options], None if text is None else [text], priority)
        waiting = self._scheduler.waiting
        if waiting + len(sequences) > self.max_waiting:
            raise QueueFullError(
                f"{waiting} texts wait, and {len(sequences)} more would be over the limit of {self.max_waiting}",
                mend="try again later",
            )
        self._scheduler.add(sequences)
        return sequences

    @torch.inference_mode()
    def step(self) -> bool:
        """One unit of work: a chunk of a prompt, or the next token of running texts. False when there is none."""
        samples = self._admission.begin_samples()
        if samples:
            self._writer.begin_samples(samples)
            self._admission.sweep()
        turn = self._scheduler.turn(self._admission.begin)
        if turn is None:
            return bool(samples)
        try:
            if turn.reader is not None:
                self._writer.read_chunk(turn.reader)
            else:
                self._writer.decode(turn.running)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            self._fail_all([turn.reader] if turn.reader else turn.running, error)
        self._admission.sweep()
        return True

    @torch.inference_mode()
    def cancel(self, sequences: collections.abc.Sequence[Sequence]) -> None:
        """End sequences that have not ended. What only they needed may be used by others at once."""
        for sequence in sequences:
            sequence.finished = True
        self._admission.sweep()

    def statistics(self) -> Statistics:
        """What is held and has been done."""
        tree = self._cache.tree
        return Statistics(
            cache_bytes=tree.budget,
            cached_bytes=tree.nbytes + tree.taken,
            locked_bytes=tree.locked_bytes() + tree.taken,
            cached_blocks=tree.nbytes // self._cache.layout.block_bytes,
            hit_tokens=self._cache.hit_tokens,
            read_tokens=self._writer.read,
            written_tokens=self._writer.written,
            drafted_tokens=self._writer.drafted,
            accepted_tokens=self._writer.accepted,
            evictions=tree.evictions,
            pauses=self._admission.pauses,
            running=self._scheduler.begun,
            waiting=self._scheduler.waiting,
        )

    def _groups(
        self,
        prompts: collections.abc.Sequence[list[int]],
        options: collections.abc.Sequence[SamplingOptions],
        texts: collections.abc.Sequence[TextPlan] | None,
        priority: Priority,
    ) -> collections.abc.Iterator[list[Sequence]]:
        """Each prompt's samples, made when they are asked for; what is wrong with any is raised now."""
        if texts is None and any(each.stop for each in options):
            raise CodecriaError("stop strings need the text of the tokens", mend="give `texts`")
        vocabulary = range(self.model.config.vocab_size)
        outside = [id for each in options for id, _ in each.biases if id not in vocabulary]
        if outside:
            raise CodecriaError(
                f"logit_bias names the token {outside[0]} and the model has {self.model.config.vocab_size} of them",
                mend="use the model's own tokenizer",
            )
        rooms = [self._room(prompt) for prompt, _ in zip(prompts, options, strict=True)]
        fresh = secrets.randbits(63)
        seeds = [fresh if each.seed is None else each.seed for each in options]
        return (
            samples_of(
                prompt,
                options[place],
                None if texts is None else texts[place],
                place,
                seeds[place],
                rooms[place],
                priority,
            )
            for place, prompt in enumerate(prompts)
        )

    def _room(self, prompt: list[int]) -> int:
        """Tokens that the context holds behind a prompt, at least 1."""
        config = self.model.config
        if not prompt:
            raise CodecriaError("the prompt is empty", mend="give at least one token")
        if len(prompt) >= config.max_positions:
            raise CodecriaError(
                f"the prompt has {len(prompt)} tokens and the model's context {config.max_positions}",
                mend=f"shorten it to at most {config.max_positions - 1} tokens",
            )
        if not 0 <= min(prompt) <= max(prompt) < config.vocab_size:
            outside = next(id for id in prompt if not 0 <= id < config.vocab_size)
            raise CodecriaError(
                f"the prompt has the token {outside} and the model {config.vocab_size} of them",
                mend="use the model's own tokenizer",
            )
        return config.max_positions - len(prompt)

    def _run(
        self, groups: collections.abc.Iterator[list[Sequence]], ended: collections.abc.Callable[[Sequence], None]
    ) -> Generator[Step]:
        """Steps of all groups, which are queued as the queue drains; each sequence is handed over once it has ended."""
        under_way: list[Sequence] = []
        group = next(groups, None)
        try:
            while group is not None or under_way:
                while group is not None and self._may_queue(group):
                    self._scheduler.add(group)
                    under_way += group
                    group = next(groups, None)
                left: list[Sequence] = []
                for sequence in under_way:
                    while sequence.outbox:
                        yield sequence.outbox.popleft()  # meanwhile another stream may take any of these further
                    if sequence.error is not None:
                        raise sequence.error
                    if sequence.finished:
                        ended(sequence)
                    else:
                        left.append(sequence)
                under_way = left
                if under_way or (group is not None and not self._may_queue(group)):
                    self.step()
        finally:
            self.cancel(under_way)

    def _may_queue(self, group: list[Sequence]) -> bool:
        """Whether a job's next samples may wait now: as many as can begin at once, and half of the queue at most."""
        most = max(1, min(self.max_rows, self.max_waiting // 2))
        return self._scheduler.waiting + len(group) <= max(most, len(group))

    def _fail_all(self, sequences: list[Sequence], error: Exception) -> None:
        for sequence in sequences:
            failure = CodecriaError("the memory is used up", mend="ask for shorter or fewer texts at once")
            failure.__cause__ = error
            sequence.fail(failure)

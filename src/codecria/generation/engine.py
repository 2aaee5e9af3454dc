"""Generates many texts at once: prompts are read in chunks, running texts share each pass over the weights.

Work goes on in steps, between which texts may join and leave. What is done in a step is the scheduler's choice
(`scheduler.py`), where keys and values lie the cache's (`cache.py`), what a token is the sampler's (`sampling.py`).
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from codecria.common.errors import CodecriaError
from codecria.generation.cache import Cache
from codecria.generation.fused import fuse
from codecria.generation.pass_attention import Pass
from codecria.generation.prefix_tree import CacheFull
from codecria.generation.sampling import Wanted, choose, sampling_draw
from codecria.generation.scheduler import QueueFull, Scheduler
from codecria.generation.sequence import Priority, Sequence, Stem
from codecria.generation.speculative import PromptLookup
from codecria.generation.stopping import StopStrings, TextWatch

if TYPE_CHECKING:
    import collections.abc
    from collections.abc import Generator

    from torch import Tensor

    from codecria.generation.cache import CacheType
    from codecria.generation.sampling import Choice, SamplingOptions
    from codecria.generation.sequence import Completion, Step
    from codecria.generation.stopping import TextPlan
    from codecria.model.transformer import Transformer

_LEAST_CACHE = 2 * 2**30


@dataclass(frozen=True)
class Statistics:
    """What an engine holds and has done.

    Attributes:
        cache_bytes: what keys and values may take.
        cached_bytes: what they take.
        locked_bytes: of these, what running texts need; the rest is kept for who begins alike.
        cached_blocks: the same as `cached_bytes`, in blocks of the prefix tree.
        hit_tokens: tokens of prompts that were found in the cache.
        read_tokens: tokens of prompts that went through the model.
        written_tokens: tokens of texts.
        drafted_tokens, accepted_tokens: guesses of what comes next, and those that were right.
        evictions: runs of tokens given up for memory.
        pauses: texts that had to wait again after they had begun.
        running: texts that are read or written.
        waiting: texts that have not begun.
    """

    cache_bytes: int
    cached_bytes: int
    locked_bytes: int
    cached_blocks: int
    hit_tokens: int
    read_tokens: int
    written_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    evictions: int
    pauses: int
    running: int
    waiting: int


class Engine:
    """Generation with one model. Not to be used from several threads at once.

    Args:
        model: weights of any dtype, on any device. Its projections are put one below the other in memory.
        max_rows: at most so many texts run together; others wait.
        prefill_tokens: prompts are read in chunks of this size, which bounds the memory of a long one. Between the
            chunks the running texts go on.
        max_waiting: `submit` refuses what would make more texts wait.
        cache_bytes: for keys and values of running texts and of what is kept for prompts that begin alike. By default
            2 GiB, or what one whole context needs if that is more, and at most half of the memory.
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
        self.prefill_tokens = prefill_tokens
        self.max_waiting = max_waiting
        self.draft_tokens = draft_tokens
        norm = model.model.norm.weight
        self._device = norm.device
        self._cache = Cache(model.config, dtype=norm.dtype, device=norm.device, budget=0, stored=cache_type)
        context_bytes = model.config.max_positions * self._cache.layout.slot_bytes
        self._cache.tree.budget = _default_budget(context_bytes) if cache_bytes is None else cache_bytes
        self._scheduler = Scheduler()
        self._stuck: tuple[Sequence, int] | None = None
        self._closed = 0
        self._read = self._written = self._drafted = self._accepted = self._pauses = 0

    def generate(
        self,
        prompts: collections.abc.Sequence[list[int]],
        options: SamplingOptions,
        texts: collections.abc.Sequence[TextPlan] | None = None,
    ) -> list[list[Completion]]:
        """Generate `options.n` samples of each prompt.

        Args:
            prompts: token ids.
            options: for all of them.
            texts: how each prompt's samples become text; without, only ids are given.

        Returns:
            For each prompt its samples.

        Raises:
            CodecriaError: a prompt is empty, does not fit the context or has an id the model lacks; stop strings are
                asked for without `texts`; a text failed (then the other texts of this call are cancelled).
        """
        sequences = self._sequences(prompts, options, texts, Priority.BATCH)
        for _ in self._run(sequences):
            pass
        results = [sequence.result() for sequence in sequences]
        return [results[start : start + options.n] for start in range(0, len(results), options.n)]

    def stream(
        self,
        prompts: collections.abc.Sequence[list[int]],
        options: SamplingOptions,
        texts: collections.abc.Sequence[TextPlan] | None = None,
    ) -> Generator[Step]:
        """As `generate`, step by step. Closing the iterator cancels what has not ended.

        Several streams may be under way: each one's steps carry the others along, in common passes.
        """
        return self._run(self._sequences(prompts, options, texts, Priority.BATCH))

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
            QueueFull: too many wait.
            CodecriaError: as of `generate`.
        """
        sequences = self._sequences([prompt], options, None if text is None else [text], priority)
        waiting = self._scheduler.waiting
        if waiting + len(sequences) > self.max_waiting:
            raise QueueFull(
                f"{waiting} texts wait, and {len(sequences)} more would be over the limit of {self.max_waiting}",
                mend="try again later",
            )
        self._scheduler.add(sequences)
        return sequences

    @torch.inference_mode()
    def step(self) -> bool:
        """One unit of work: a chunk of a prompt, or the next token of running texts. False when there is none."""
        samples = self._scheduler.ready(self.max_rows - self._scheduler.begun)
        self._begin_samples(samples)
        turn = self._scheduler.turn(self._begin)
        if turn is None:
            return bool(samples)
        try:
            if turn.reader is not None:
                self._read_chunk(turn.reader)
            else:
                self._decode(turn.running)
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            self._fail_all([turn.reader] if turn.reader else turn.running, error)
        self._sweep()
        return True

    @torch.inference_mode()
    def cancel(self, sequences: collections.abc.Sequence[Sequence]) -> None:
        """End sequences that have not ended. What only they needed may be used by others at once."""
        for sequence in sequences:
            sequence.finished = True
        self._sweep()

    def statistics(self) -> Statistics:
        """What is held and has been done."""
        tree = self._cache.tree
        return Statistics(
            cache_bytes=tree.budget,
            cached_bytes=tree.nbytes + tree.taken,
            locked_bytes=tree.locked_bytes() + tree.taken,
            cached_blocks=tree.nbytes // self._cache.layout.block_bytes,
            hit_tokens=self._cache.hit_tokens,
            read_tokens=self._read,
            written_tokens=self._written,
            drafted_tokens=self._drafted,
            accepted_tokens=self._accepted,
            evictions=tree.evictions,
            pauses=self._pauses,
            running=self._scheduler.begun,
            waiting=self._scheduler.waiting,
        )

    def _sequences(
        self,
        prompts: collections.abc.Sequence[list[int]],
        options: SamplingOptions,
        texts: collections.abc.Sequence[TextPlan] | None,
        priority: Priority,
    ) -> list[Sequence]:
        if options.stop and texts is None:
            raise CodecriaError("stop strings need the text of the tokens", mend="give `texts`")
        outside = [id for id, _ in options.biases if not 0 <= id < self.model.config.vocab_size]
        if outside:
            raise CodecriaError(
                f"logit_bias names the token {outside[0]} and the model has {self.model.config.vocab_size} of them",
                mend="use the model's own tokenizer",
            )
        seed = secrets.randbits(63) if options.seed is None else options.seed
        sequences: list[Sequence] = []
        for place, prompt in enumerate(prompts):
            prompt = list(prompt)
            limit = min(options.max_tokens, self._room(prompt))
            stem = Stem(options.n)
            for sample in range(options.n):
                watch = first_ids = None
                if texts is not None:
                    first_ids = texts[place].first_ids
                    rules = (StopStrings(options.stop),) if options.stop else ()
                    watch = TextWatch(texts[place].new_decoder(), (*rules, *texts[place].rules))
                sequences.append(
                    Sequence(
                        prompt,
                        options,
                        place=place,
                        sample=sample,
                        seed=seed,
                        limit=limit,
                        watch=watch,
                        first_ids=first_ids,
                        priority=priority,
                        stem=stem,
                    )
                )
        return sequences

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

    def _run(self, sequences: list[Sequence]) -> Generator[Step]:
        self._scheduler.add(sequences)
        try:
            while True:
                for sequence in sequences:
                    while sequence.outbox:
                        yield sequence.outbox.popleft()
                    if sequence.error is not None:
                        raise sequence.error
                if all(sequence.finished for sequence in sequences):
                    return
                self.step()
        finally:
            self.cancel(sequences)

    def _begin(self, sequence: Sequence) -> bool:
        """Make a place for a text that waits: whether it can be read now. One that can never be is failed."""
        scheduler, whole = self._scheduler, sequence.whole
        while scheduler.begun >= self.max_rows:
            last = scheduler.lower(sequence.priority)
            if last is None:
                return False
            self._pause(last)
        # A sample of a prompt that has been read begins without a place to read it in.
        if self._stuck == (sequence, self._closed) or (sequence.stem and sequence.stem.seat):
            return False
        spare = min(sequence.limit - len(sequence.ids), self._cache.layout.block_slots)
        while True:
            try:
                sequence.seat = self._cache.open(whole, spare)
            except CacheFull as full:
                last = scheduler.lower(sequence.priority)
                if last is not None:
                    self._pause(last)
                    continue
                if scheduler.begun:
                    self._stuck = (sequence, self._closed)
                else:
                    sequence.fail(full)
                    self._leave_stem(sequence)
                return False
            if sequence.reused is None:
                sequence.reused = sequence.seat.length
            return True

    def _begin_samples(self, sequences: list[Sequence]) -> None:
        """Start samples of prompts that have been read; their first tokens come from the scores kept of it."""
        scores: list[Tensor] = []
        begun: list[Sequence] = []
        for number, sequence in enumerate(sequences):
            stem = sequence.stem
            assert stem is not None and stem.seat is not None and stem.logits_1V is not None
            try:
                sequence.seat = self._cache.new_row(stem.seat.leaf)
            except CacheFull as full:
                if not self._scheduler.begun and not begun:
                    sequence.fail(full)
                    self._leave_stem(sequence)
                    continue
                for each in reversed(sequences[number:]):
                    self._scheduler.wait(each)
                break
            begun.append(sequence)
            scores.append(stem.logits_1V)
            if sequence.reused is None:
                sequence.reused = len(sequence.prompt)
            self._leave_stem(sequence, unlock=False)
        if begun:
            self._scheduler.running.extend(begun)
            self._accept(begun, torch.cat(scores))
            self._sweep()

    def _read_chunk(self, sequence: Sequence) -> None:
        """Read the next chunk of a prompt; after its last one, start the text."""
        seat, whole = sequence.seat, sequence.whole
        assert seat is not None
        chunk = whole[seat.length : seat.length + self.prefill_tokens]
        hidden_1LD = self._forward([sequence], [chunk])
        self._read += len(chunk)
        if seat.length < len(whole):
            return
        logits_1V = self.model.logits(hidden_1LD[:, -1])
        stem = sequence.stem
        if stem is not None and stem.pending > 1:
            self._cache.fork(seat, stem.pending)
            stem.seat, stem.logits_1V = seat, logits_1V
            sequence.seat = None
            self._scheduler.put_back(sequence)
            return
        self._leave_stem(sequence, unlock=False)
        self._scheduler.reading.remove(sequence)
        self._scheduler.running.append(sequence)
        if self.draft_tokens and sequence.lookup is None:
            sequence.lookup = PromptLookup(whole, self.draft_tokens)
        self._accept([sequence], logits_1V)

    def _decode(self, sequences: list[Sequence]) -> None:
        """The next token of running texts, or more of one that runs alone."""
        rows, draft = list(sequences), []
        lone = rows[0]
        if len(rows) == 1 and lone.lookup is not None and lone.seat is not None and lone.seat.row is None:
            draft = lone.lookup.draft(lone.limit - len(lone.ids) - 1)
        for sequence in sequences:
            assert sequence.seat is not None
            try:
                self._cache.reserve(sequence.seat, 1 + len(draft))
            except CacheFull as full:
                rows.remove(sequence)
                if self._scheduler.begun > 1:
                    self._pause(sequence)
                else:
                    sequence.fail(full)
        if not rows:
            return
        hidden_BLD = self._forward(rows, [[each.ids[-1], *draft] for each in rows])
        logits_BV = self.model.logits(hidden_BLD.flatten(0, 1))
        if draft:
            self._check(lone, draft, logits_BV)
        else:
            self._accept(rows, logits_BV)

    def _check(self, sequence: Sequence, draft: list[int], logits_LV: Tensor) -> None:
        """Choose a token behind each one of a draft that has been right so far."""
        step, written = len(sequence.ids), sequence.ids
        wanted = [_wanted(sequence, [*written, *draft[:count]]) for count in range(len(draft) + 1)]
        right = 0
        for right, choice in enumerate(choose(logits_LV, wanted)):
            self._take(sequence, choice)
            if sequence.finished or right == len(draft) or sequence.ids[-1] != draft[right]:
                break
        assert sequence.seat is not None and sequence.lookup is not None
        leaf = sequence.seat.leaf
        del leaf.ids[len(leaf.ids) - (len(draft) - right) :]
        sequence.lookup.extend(sequence.ids[step:])
        sequence.lookup.learn(len(draft), right)
        self._drafted += len(draft)
        self._accepted += right

    def _forward(self, sequences: list[Sequence], ids_BL: list[list[int]]) -> Tensor:
        seats = [sequence.seat for sequence in sequences if sequence.seat is not None]
        new = Pass(self._cache, seats, ids_BL)
        ids = torch.tensor(ids_BL, device=self._device)
        hidden_BLD = self.model(ids, positions_BL=new.positions_BL, cache=new)
        new.commit()
        return hidden_BLD

    def _accept(self, sequences: list[Sequence], logits_BV: Tensor) -> None:
        """Choose each text's next token."""
        _restrict(sequences, logits_BV)
        choices = choose(logits_BV, [_wanted(sequence, sequence.ids) for sequence in sequences])
        for sequence, choice in zip(sequences, choices, strict=True):
            self._take(sequence, choice)
            if sequence.lookup is not None and sequence.ids:
                sequence.lookup.extend(sequence.ids[-1:])

    def _take(self, sequence: Sequence, choice: Choice | None) -> None:
        if choice is None:
            sequence.fail(
                CodecriaError(
                    f"the model's scores for token {len(sequence.ids)} of the text are not finite",
                    mend="check the weights, or load the model with dtype fp32; do not forbid every token",
                )
            )
        elif sequence.limit == 0:
            sequence.end_empty()
        else:
            self._written += 1
            sequence.accept(*choice)

    def _pause(self, sequence: Sequence) -> None:
        """Put a text back; it goes on from where it was when there is room."""
        assert sequence.seat is not None
        self._close(sequence)
        self._pauses += 1
        self._scheduler.put_back(sequence)

    def _close(self, sequence: Sequence) -> None:
        if sequence.seat is not None:
            self._cache.close(sequence.seat, spoilt=sequence.error is not None)
            sequence.seat = None
            self._closed += 1

    def _leave_stem(self, sequence: Sequence, unlock: bool = True) -> None:
        stem, sequence.stem = sequence.stem, None
        if stem is None:
            return
        stem.pending -= 1
        if unlock and stem.seat is not None:
            self._cache.tree.close(stem.seat.leaf)
            self._closed += 1

    def _fail_all(self, sequences: list[Sequence], error: Exception) -> None:
        for sequence in sequences:
            failure = CodecriaError("the memory is used up", mend="ask for shorter or fewer texts at once")
            failure.__cause__ = error
            sequence.fail(failure)

    def _sweep(self) -> None:
        """Take ended texts out."""
        scheduler = self._scheduler
        for sequence in [each for each in (*scheduler.reading, *scheduler.running) if each.finished]:
            self._leave_stem(sequence)
            self._close(sequence)
            scheduler.leave(sequence)
        for sequence in scheduler.drop_finished():
            self._leave_stem(sequence)


def _wanted(sequence: Sequence, written: list[int]) -> Wanted:
    draw = 0.0
    if sequence.options.temperature:
        draw = sampling_draw(sequence.seed, sequence.sample, len(written))
    return Wanted(sequence.options, draw, sequence.prompt, written)


def _restrict(sequences: list[Sequence], logits_BV: Tensor) -> None:
    """Leave nothing but the allowed first tokens to sequences that have not begun, in place."""
    for row, sequence in enumerate(sequences):
        if sequence.first_ids is not None and not sequence.ids:
            allowed = torch.tensor(sequence.first_ids, device=logits_BV.device)
            scores = logits_BV[row, allowed]
            logits_BV[row] = -torch.inf
            logits_BV[row, allowed] = scores


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _default_budget(context_bytes: int) -> int:
    if not hasattr(os, "sysconf"):
        return _LEAST_CACHE
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(max(_LEAST_CACHE, context_bytes), memory // 2)

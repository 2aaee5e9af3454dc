"""Generates many texts at once: prompts are read in chunks, running sequences share each pass over the weights.

A sequence that runs alone stays in the cache its prompt was read into, which is kept for the next call. As soon as
there are more, each gets a row of a common cache. Work goes on in steps, so sequences may join and leave at any time.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING

import torch

from codecria.common.errors import CodecriaError
from codecria.generation.cache import PrefixCache, RowCache
from codecria.generation.fused import fuse
from codecria.generation.sampling import choose, sampling_draw
from codecria.generation.sequence import Sequence
from codecria.generation.stopping import StopStrings, TextWatch

if TYPE_CHECKING:
    import collections.abc
    from collections.abc import Generator

    from torch import Tensor

    from codecria.generation.sampling import SamplingOptions
    from codecria.generation.sequence import Completion, Step
    from codecria.generation.stopping import TextPlan
    from codecria.model.transformer import Transformer


class Engine:
    """Generation with one model. Not to be used from several threads at once.

    Args:
        model: weights of any dtype, on any device. Its projections are put one below the other in memory.
        max_rows: at most so many sequences run together; others wait.
        prefill_tokens: prompts are read in chunks of this size, which bounds the memory of a long one. Between the
            chunks the running sequences go on.
    """

    def __init__(self, model: Transformer, *, max_rows: int = 16, prefill_tokens: int = 512) -> None:
        self.model = fuse(model.eval())
        self.max_rows = max_rows
        self.prefill_tokens = prefill_tokens
        self._device = model.model.norm.weight.device
        self._prefix = PrefixCache(self._new_cache())
        self._batch = self._new_cache()
        self._waiting: deque[Sequence] = deque()
        self._lone: Sequence | None = None
        self._rows: list[Sequence] = []
        self._read_last = False

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
                asked for without `texts`.
        """
        sequences = self._sequences(prompts, options, texts)
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
        return self._run(self._sequences(prompts, options, texts))

    @torch.inference_mode()
    def step(self) -> None:
        """One unit of work: a chunk of a waiting prompt, or the next token of every running sequence, by turns."""
        running = self._running
        if self._waiting and len(running) < self.max_rows and not (running and self._read_last):
            self._read_last = True
            self._read_chunk()
        elif running:
            self._read_last = False
            self._decode()

    @torch.inference_mode()
    def cancel(self, sequences: collections.abc.Sequence[Sequence]) -> None:
        """End sequences that have not ended and free their rows."""
        for sequence in sequences:
            sequence.finished = True
        self._waiting = deque(sequence for sequence in self._waiting if not sequence.finished)
        self._sweep()

    def _sequences(
        self,
        prompts: collections.abc.Sequence[list[int]],
        options: SamplingOptions,
        texts: collections.abc.Sequence[TextPlan] | None,
    ) -> list[Sequence]:
        if options.stop and texts is None:
            raise CodecriaError("stop strings need the text of the tokens", mend="give `texts`")
        seed = secrets.randbits(63) if options.seed is None else options.seed
        sequences: list[Sequence] = []
        for place, prompt in enumerate(prompts):
            prompt = list(prompt)
            limit = min(options.max_tokens, self._room(prompt))
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
        self._waiting.extend(sequences)
        try:
            while True:
                for sequence in sequences:
                    while sequence.outbox:
                        yield sequence.outbox.popleft()
                if all(sequence.finished for sequence in sequences):
                    return
                self.step()
        finally:
            self.cancel(sequences)

    @property
    def _running(self) -> list[Sequence]:
        return self._rows if self._lone is None else [self._lone]

    def _read_chunk(self) -> None:
        """Read the next chunk of the first waiting prompt; after its last one, start its samples."""
        self._move_lone()
        prompt = self._waiting[0].prompt
        held = self._prefix.keep(prompt)
        if self._waiting[0].reused is None:
            self._waiting[0].reused = held
        chunk = prompt[held : held + self.prefill_tokens]
        hidden_1LD = self._forward(self._prefix.cache, [chunk])
        self._prefix.extend(chunk)
        if len(self._prefix.ids) == len(prompt):
            self._start(self.model.logits(hidden_1LD[:, -1]))

    def _start(self, logits_1V: Tensor) -> None:
        """Start the samples of the prompt that has just been read; their first tokens come from the same scores."""
        room = self.max_rows - len(self._running)
        group = [self._waiting.popleft()]
        while self._waiting and len(group) < room and self._waiting[0].prompt is group[0].prompt:
            group.append(self._waiting.popleft())
            group[-1].reused = len(group[-1].prompt)
        self._accept(group, logits_1V.expand(len(group), -1))
        group = [sequence for sequence in group if not sequence.finished]
        if len(group) == 1 and not self._rows:
            self._lone = group[0]
        else:
            self._move_to_rows(group)

    def _decode(self) -> None:
        """The next token of every running sequence."""
        running = list(self._running)
        newest = [[sequence.ids[-1]] for sequence in running]
        if self._lone is not None:
            hidden_B1D = self._forward(self._prefix.cache, newest)
            self._prefix.extend(newest[0])
        else:
            hidden_B1D = self._forward(self._batch, newest)
            self._batch.commit()
        self._accept(running, self.model.logits(hidden_B1D[:, -1]))
        self._sweep()

    def _forward(self, cache: RowCache, ids_BL: list[list[int]]) -> Tensor:
        ids = torch.tensor(ids_BL, device=self._device)
        return self.model(ids, positions_BL=cache.place(ids.shape[1]), cache=cache)

    def _accept(self, sequences: list[Sequence], logits_BV: Tensor) -> None:
        """Choose each sequence's next token, those with equal options together."""
        logits_BV = _restricted(sequences, logits_BV)
        alike: dict[SamplingOptions, list[int]] = {}
        for row, sequence in enumerate(sequences):
            if sequence.limit == 0:
                sequence.end_empty()
            else:
                alike.setdefault(sequence.options, []).append(row)
        for options, rows in alike.items():
            chosen = [sequences[row] for row in rows]
            draws = [sampling_draw(each.seed, each.sample, len(each.ids)) for each in chosen]
            scores = logits_BV if len(rows) == len(sequences) else logits_BV[rows]
            for sequence, choice in zip(chosen, choose(scores, options, draws), strict=True):
                sequence.accept(*choice)

    def _move_lone(self) -> None:
        """Give the sequence that runs in the prefix cache a row, so that another prompt can be read there."""
        if self._lone is not None:
            self._move_to_rows([self._lone])
            self._lone = None

    def _move_to_rows(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            self._batch.add_row(self._prefix.cache)
            self._rows.append(sequence)

    def _sweep(self) -> None:
        """Take ended sequences out."""
        if self._lone is not None and self._lone.finished:
            self._lone = None
        for row in reversed(range(len(self._rows))):
            if self._rows[row].finished:
                self._batch.drop_row(row)
                self._rows[row] = self._rows[-1]
                self._rows.pop()
        if not self._rows and self._batch.rows:
            self._batch = self._new_cache()

    def _new_cache(self) -> RowCache:
        return RowCache(self.model.config, dtype=self.model.model.norm.weight.dtype, device=self._device)


def _restricted(sequences: list[Sequence], logits_BV: Tensor) -> Tensor:
    """The scores, with nothing left but the allowed first tokens for sequences that have not begun."""
    restricted = [row for row, sequence in enumerate(sequences) if sequence.first_ids is not None and not sequence.ids]
    if not restricted:
        return logits_BV
    scores_BV = logits_BV.clone()
    for row in restricted:
        allowed = torch.tensor(sequences[row].first_ids, device=logits_BV.device)
        scores_BV[row] = -torch.inf
        scores_BV[row, allowed] = logits_BV[row, allowed]
    return scores_BV

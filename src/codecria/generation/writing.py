"""Passes of the model: a chunk of a prompt is read, or running texts get their next tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from codecria.common.errors import CodecriaError
from codecria.generation.pass_attention import Pass
from codecria.generation.prefix_tree import CacheFullError
from codecria.generation.sampling import Wanted, choose, sampling_draw
from codecria.generation.speculative import PromptLookup

if TYPE_CHECKING:
    from torch import Tensor

    from codecria.generation.admission import Admission
    from codecria.generation.cache import Cache, Place
    from codecria.generation.graph_step import GraphStep
    from codecria.generation.native.step import NativeSteps
    from codecria.generation.sampling import Choice
    from codecria.generation.scheduler import Scheduler
    from codecria.generation.sequence import Sequence
    from codecria.model.transformer import Transformer

_MOST_ALLOWED = 64


class Writer:
    """Takes texts further.

    Args:
        model: computes.
        native: its step in C, for few tokens.
        graph: its step as a CUDA graph, for a lone text's next token.
        cache: has the texts' places.
        scheduler: is told who runs from now on.
        admission: pauses whom there is no memory for.
        prefill_tokens: prompts are read in chunks of this size.
        draft_tokens: a lone text's drafts have at most so many tokens.

    Attributes:
        read, written, drafted, accepted: tokens of prompts and texts, guesses and right guesses.
    """

    def __init__(
        self,
        model: Transformer,
        native: NativeSteps,
        graph: GraphStep | None,
        cache: Cache,
        scheduler: Scheduler,
        admission: Admission,
        *,
        prefill_tokens: int,
        draft_tokens: int,
    ) -> None:
        self.read = self.written = self.drafted = self.accepted = 0
        self._model = model
        self._native = native
        self._graph = graph
        self._device = model.model.norm.weight.device
        self._cache = cache
        self._scheduler = scheduler
        self._admission = admission
        self._prefill_tokens = prefill_tokens
        self.draft_tokens = draft_tokens
        self._allowed: dict[int, tuple[tuple[int, ...], Tensor]] = {}

    def read_chunk(self, sequence: Sequence) -> None:
        """Read the next chunk of a prompt; after its last one, start the text."""
        seat, whole = sequence.seat, sequence.whole
        assert seat is not None
        chunk = whole[seat.length : seat.length + self._prefill_tokens]
        ends = seat.length + len(chunk) == len(whole)
        stem = sequence.stem
        shared = stem is not None and stem.pending > 1
        guess = self._guess(sequence) if ends and not shared else []
        logits_LV = self._score([seat], [[*chunk, *guess]], scored=ends + len(guess))
        self.read += len(chunk)
        if not ends:
            return
        if stem is not None and shared:
            self._cache.fork(seat, stem.pending)
            stem.seat, stem.logits_1V = seat, logits_LV
            sequence.seat = None
            self._scheduler.put_back(sequence)
            return
        self._admission.leave_stem(sequence, unlock=False)
        self._scheduler.reading.remove(sequence)
        self._scheduler.running.append(sequence)
        if self.draft_tokens and sequence.lookup is None:
            sequence.lookup = PromptLookup(whole, self.draft_tokens)
        if guess:
            self._check(sequence, guess, logits_LV)
        else:
            self._accept([sequence], logits_LV)

    def _guess(self, sequence: Sequence) -> list[int]:
        """The token that healing took back, which most texts begin with: read with the prompt, it costs no pass."""
        if sequence.guess is None or sequence.ids or not self.draft_tokens or sequence.limit < 2:
            return []
        return [sequence.guess]

    def begin_samples(self, sequences: list[Sequence]) -> None:
        """Start samples that have got rows: their first tokens come from the scores kept of their prompt."""
        scores: list[Tensor] = []
        for sequence in sequences:
            assert sequence.stem is not None and sequence.stem.logits_1V is not None
            scores.append(sequence.stem.logits_1V)
            self._admission.leave_stem(sequence, unlock=False)
        self._scheduler.running.extend(sequences)
        self._accept(sequences, torch.cat(scores))

    def decode(self, sequences: list[Sequence]) -> None:
        """The next token of running texts, or more of one that runs alone."""
        rows, draft = list(sequences), []
        lone = rows[0]
        if len(rows) == 1 and lone.lookup is not None and lone.seat is not None and lone.seat.row is None:
            draft = lone.lookup.draft(lone.limit - len(lone.ids) - 1)
        for sequence in sequences:
            assert sequence.seat is not None
            try:
                self._cache.reserve(sequence.seat, 1 + len(draft))
            except CacheFullError as full:
                rows.remove(sequence)
                if self._scheduler.begun > 1:
                    self._admission.pause(sequence)
                else:
                    sequence.fail(full)
        if not rows:
            return
        seats = [each.seat for each in rows if each.seat is not None]
        logits_BV = self._score(seats, [[each.ids[-1], *draft] for each in rows], scored=1 + len(draft))
        if draft:
            assert lone.lookup is not None
            right = self._check(lone, draft, logits_BV)
            lone.lookup.learn(len(draft), right)
            self.drafted += len(draft)
            self.accepted += right
        else:
            self._accept(rows, logits_BV)

    def _check(self, sequence: Sequence, draft: list[int], logits_LV: Tensor) -> int:
        """Choose a token behind each one of a draft that has been right so far: how many were right."""
        self._restrict([sequence], logits_LV[:1])
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
        return right

    def _score(self, seats: list[Place], ids_BL: list[list[int]], scored: int) -> Tensor:
        """Take new tokens through the model: the scores behind the last ones of each row, float32 [B · scored, V]."""
        tokens = len(seats) * len(ids_BL[0])
        native = self._native.ready(tokens, seats[0].length + len(ids_BL[0]))
        if native is not None:
            return native.run(self._cache, seats, ids_BL, scored)
        if self._graph is not None and (logits_1V := self._graph.run(seats, ids_BL)) is not None:
            return logits_1V
        new = Pass(self._cache, seats, ids_BL)
        ids = torch.tensor(ids_BL, device=self._device)
        hidden_BLD = self._model(ids, positions_BL=new.positions_BL, cache=new)
        new.commit()
        scored_ND = hidden_BLD[:, len(ids_BL[0]) - scored :].flatten(0, 1)
        return self._model.logits(scored_ND) if scored else scored_ND

    def _accept(self, sequences: list[Sequence], logits_BV: Tensor) -> None:
        """Choose each text's next token."""
        self._restrict(sequences, logits_BV)
        choices = choose(logits_BV, [_wanted(sequence, sequence.ids) for sequence in sequences])
        for sequence, choice in zip(sequences, choices, strict=True):
            self._take(sequence, choice)
            if sequence.lookup is not None and sequence.ids:
                sequence.lookup.extend(sequence.ids[-1:])

    def _restrict(self, sequences: list[Sequence], logits_BV: Tensor) -> None:
        """Leave nothing but the allowed first tokens to sequences that have not begun, in place."""
        for row, sequence in enumerate(sequences):
            if sequence.first_ids is not None and not sequence.ids:
                allowed = self._as_tensor(sequence.first_ids)
                scores = logits_BV[row, allowed]
                logits_BV[row] = -torch.inf
                logits_BV[row, allowed] = scores

    def _as_tensor(self, first_ids: tuple[int, ...]) -> Tensor:
        """Ids that healing allows. A tokenizer gives the same tuple for the same letters, of up to thousands of ids."""
        kept = self._allowed.get(id(first_ids))
        if kept is None or kept[0] is not first_ids:
            if len(self._allowed) >= _MOST_ALLOWED:
                self._allowed.clear()
            kept = self._allowed[id(first_ids)] = first_ids, torch.tensor(first_ids, device=self._device)
        return kept[1]

    def _take(self, sequence: Sequence, choice: Choice | None) -> None:
        if choice is None:
            sequence.fail(
                CodecriaError(
                    f"the model's scores for token {len(sequence.ids)} of the text are not finite",
                    mend="check the weights, or load the model with dtype fp32; do not forbid every token",
                )
            )
        elif sequence.limit == 0:
            sequence.end_now()
        else:
            self.written += 1
            try:
                sequence.accept(*choice)
            except Exception as error:
                # A rule on one text (stops, syntax, its own plan) must not end its neighbours in the batch.
                failure = CodecriaError(f"the text could not go on behind token {len(sequence.ids)}: {error!r}")
                failure.__cause__ = error
                sequence.fail(failure)


def _wanted(sequence: Sequence, written: list[int]) -> Wanted:
    draw = 0.0
    if sequence.options.temperature:
        draw = sampling_draw(sequence.seed, sequence.sample, len(written))
    return Wanted(sequence.options, draw, sequence.prompt, written, sequence.narrow, sequence.guess)

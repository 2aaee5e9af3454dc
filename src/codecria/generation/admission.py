"""Who gets a place: texts are let in, paused for others, and leave, and the cache is kept in step.

What cannot be begun for want of memory waits while others run, who will give theirs back; a text that not even an
empty cache can hold fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codecria.generation.prefix_tree import CacheFullError

if TYPE_CHECKING:
    from codecria.generation.cache import Cache
    from codecria.generation.scheduler import Scheduler
    from codecria.generation.sequence import Sequence


class Admission:
    """Places of texts in the cache.

    Args:
        cache: has them.
        scheduler: knows who waits and who runs.
        max_rows: at most so many texts have begun.

    Attributes:
        pauses: texts that had to wait again after they had begun.
    """

    def __init__(self, cache: Cache, scheduler: Scheduler, max_rows: int) -> None:
        self.pauses = 0
        self._cache = cache
        self._scheduler = scheduler
        self._max_rows = max_rows
        # Who could not begin, and how many had left by then: before another leaves it is not tried again.
        self._stuck: tuple[Sequence, int] | None = None
        self._left = 0

    def begin(self, sequence: Sequence) -> bool:
        """Make a place for a text that waits: whether it can be read now. One that can never be is failed."""
        scheduler, whole = self._scheduler, sequence.whole
        while scheduler.begun >= self._max_rows:
            last = scheduler.lower(sequence.priority)
            if last is None:
                return False
            self.pause(last)
        # A sample of a prompt that has been read begins without a place to read it in.
        if self._stuck == (sequence, self._left) or (sequence.stem and sequence.stem.seat):
            return False
        spare = min(sequence.limit - len(sequence.ids), self._cache.layout.block_slots)
        while True:
            try:
                sequence.seat = self._cache.open(whole, spare)
            except CacheFullError as full:
                last = scheduler.lower(sequence.priority)
                if last is not None:
                    self.pause(last)
                    continue
                if scheduler.begun:
                    self._stuck = (sequence, self._left)
                else:
                    sequence.fail(full)
                    self.leave_stem(sequence)
                return False
            if sequence.reused is None:
                sequence.reused = sequence.seat.length
            return True

    def begin_samples(self) -> list[Sequence]:
        """Make rows for samples whose prompt has been read."""
        sequences = self._scheduler.ready(self._max_rows - self._scheduler.begun)
        begun: list[Sequence] = []
        for number, sequence in enumerate(sequences):
            stem = sequence.stem
            assert stem is not None and stem.seat is not None
            try:
                sequence.seat = self._cache.new_row(stem.seat.leaf)
            except CacheFullError as full:
                if not self._scheduler.begun and not begun:
                    sequence.fail(full)
                    self.leave_stem(sequence)
                    continue
                for each in reversed(sequences[number:]):
                    self._scheduler.wait(each)
                break
            begun.append(sequence)
            if sequence.reused is None:
                sequence.reused = len(sequence.prompt)
        return begun

    def pause(self, sequence: Sequence) -> None:
        """Put a text back; it goes on from where it was when there is room."""
        assert sequence.seat is not None
        self._close(sequence)
        self.pauses += 1
        self._scheduler.put_back(sequence)

    def _close(self, sequence: Sequence) -> None:
        if sequence.seat is not None:
            self._cache.close(sequence.seat, spoilt=sequence.error is not None)
            sequence.seat = None
            self._left += 1

    def leave_stem(self, sequence: Sequence, unlock: bool = True) -> None:
        """A sample no longer waits for its prompt; `unlock` unless it runs behind it from now on."""
        stem, sequence.stem = sequence.stem, None
        if stem is None:
            return
        stem.pending -= 1
        if unlock and stem.seat is not None:
            self._cache.tree.close(stem.seat.leaf)
            self._left += 1

    def sweep(self) -> None:
        """Take ended texts out."""
        scheduler = self._scheduler
        for sequence in [each for each in (*scheduler.reading, *scheduler.running) if each.finished]:
            self.leave_stem(sequence)
            self._close(sequence)
            scheduler.leave(sequence)
        for sequence in scheduler.drop_finished():
            self.leave_stem(sequence)

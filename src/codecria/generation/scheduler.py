"""Whose turn it is: a chunk of a prompt, or the next tokens of running texts.

The first priority that has work goes first, but every eighth turn is the next one's, so that nothing starves. Within a
priority the first to come is the first to be read, and chunks of prompts take turns with the running texts' tokens.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from codecria.common.errors import CodecriaError
from codecria.generation.sequence import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from codecria.generation.sequence import Sequence

_LOWER_TURN = 8


class QueueFullError(CodecriaError):
    """So many texts wait that no more are taken."""


class Turn(NamedTuple):
    """What is done next: a chunk of `reader`'s prompt, or else a token of each of `running`."""

    reader: Sequence | None
    running: list[Sequence]


class Scheduler:
    """Texts that wait, are read, and run.

    Attributes:
        reading: prompts of which a part has been read.
        running: texts that grow, in the order in which they began.
    """

    def __init__(self) -> None:
        self._waiting: dict[Priority, deque[Sequence]] = {priority: deque() for priority in Priority}
        self.reading: list[Sequence] = []
        self.running: list[Sequence] = []
        self._turns = 0
        self._read_last = False

    @property
    def waiting(self) -> int:
        """How many texts have not begun."""
        return sum(map(len, self._waiting.values()))

    @property
    def begun(self) -> int:
        """How many texts are read or run."""
        return len(self.reading) + len(self.running)

    def add(self, sequences: list[Sequence]) -> None:
        """Queue texts."""
        for sequence in sequences:
            self._waiting[sequence.priority].append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """Let a text that had begun wait again, before all others of its priority."""
        self.leave(sequence)
        self.wait(sequence)

    def wait(self, sequence: Sequence) -> None:
        """Queue a text before all others of its priority."""
        self._waiting[sequence.priority].appendleft(sequence)

    def leave(self, sequence: Sequence) -> None:
        """Take a text that has begun out."""
        (self.reading if sequence in self.reading else self.running).remove(sequence)

    def drop_finished(self) -> list[Sequence]:
        """Take out, and return, those that wait and have ended."""
        dropped: list[Sequence] = []
        for priority, queue in self._waiting.items():
            dropped += [sequence for sequence in queue if sequence.finished]
            self._waiting[priority] = deque(sequence for sequence in queue if not sequence.finished)
        return dropped

    def ready(self, room: int) -> list[Sequence]:
        """Take at most `room` waiting texts whose prompt has been read by another sample of it."""
        taken: list[Sequence] = []
        for priority, queue in self._waiting.items():
            can = [each for each in queue if each.stem is not None and each.stem.logits_1V is not None]
            taken += can[: max(0, room - len(taken))]
            if can:
                self._waiting[priority] = deque(each for each in queue if each not in taken)
        return taken

    def lower(self, priority: Priority) -> Sequence | None:
        """The text of a lower priority that began last."""
        below = [each for each in (*self.running, *self.reading) if each.priority > priority]
        # Of equals `max` takes the first.
        return max(reversed(below), key=lambda each: each.priority) if below else None

    def turn(self, begin: Callable[[Sequence], bool]) -> Turn | None:
        """What is done next; None when nothing can be.

        Args:
            begin: makes a place for a text and says whether it can be read now. A text that never can be is ended.
        """
        self._turns += 1
        levels = list(self._levels())
        if self._turns % _LOWER_TURN == 0:
            levels = levels[1:] + levels[:1]
        for level in levels:
            running = any(each.priority <= level for each in self.running)
            if not (running and self._read_last):
                reader = self._reader(level, begin)
                if reader is not None:
                    self._read_last = True
                    return Turn(reader, [])
            # Now, for to begin a text others may have been put back.
            rows = [each for each in self.running if each.priority <= level]
            if rows:
                self._read_last = False
                return Turn(None, rows)
        return None

    def _levels(self) -> Iterator[Priority]:
        begun = {each.priority for each in (*self.reading, *self.running)}
        return (priority for priority in Priority if priority in begun or self._waiting[priority])

    def _reader(self, level: Priority, begin: Callable[[Sequence], bool]) -> Sequence | None:
        for sequence in self.reading:
            if sequence.priority == level:
                return sequence
        queue = self._waiting[level]
        while queue:
            sequence = queue[0]
            if begin(sequence):
                queue.popleft()
                self.reading.append(sequence)
                return sequence
            if not sequence.finished:
                return None
            queue.popleft()
        return None

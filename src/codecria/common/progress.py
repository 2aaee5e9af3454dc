"""Progress of long work: how far, how fast, how long still. A bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

T = TypeVar("T")

console = Console(stderr=True)
"""Where progress and notes go: standard error, so that standard output holds only results."""

_LINE_EVERY_S = 10.0


@dataclass
class Bar:
    """One piece of long work under way. `advance` moves it; `note` shows a figure beside it."""

    what: str
    total: float | None
    unit: str
    done: float = 0.0
    start: float = 0.0
    started_s: float = field(default_factory=time.monotonic)
    _progress: Progress | None = None
    _task: TaskID | None = None
    _last_line_s: float = 0.0
    _note: str = ""

    def advance(self, amount: float = 1.0, note: str | None = None) -> None:
        """Move the bar by `amount` units and optionally replace the note."""
        self.set(self.done + amount, note)

    def set(self, done: float, note: str | None = None) -> None:
        """Put the bar at `done` units and optionally replace the note."""
        self.done = done
        if note is not None:
            self._note = note
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, note=self._note, rate=self._rate())
        elif time.monotonic() - self._last_line_s >= _LINE_EVERY_S:
            self._last_line_s = time.monotonic()
            self._print_line()

    def _rate(self) -> str:
        return f"{_short(self._per_s())} {self.unit}/s"

    def _per_s(self) -> float:
        return (self.done - self.start) / max(time.monotonic() - self.started_s, 1e-9)

    def _print_line(self) -> None:
        of = "" if self.total is None else f" of {_short(self.total)}"
        left = ""
        if self.total and self.done > self.start:
            left = f", {max(self.total - self.done, 0.0) / self._per_s():.0f} s left"
        note = f" · {self._note}" if self._note else ""
        line = f"{self.what}: {_short(self.done)}{of} {self.unit}, {self._rate()}{left}{note}"
        print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress_bar(what: str, total: float | None = None, unit: str = "items", start: float = 0.0) -> Generator[Bar]:
    """Show a bar named `what` while the block runs.

    On a terminal the bar shows the share done, the rate in `unit` a second and the time left; elsewhere a line
    is printed at most every 10 seconds and one at the end. `start` is what an earlier run had done: it counts as
    done, not in the rate.
    """
    if not console.is_terminal:
        bar = Bar(what, total, unit, done=start, start=start)
        bar._last_line_s = time.monotonic()  # pyright: ignore[reportPrivateUsage]
        yield bar
        bar._print_line()  # pyright: ignore[reportPrivateUsage]
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task(what, total=total, completed=start, note="", rate="")  # pyright: ignore[reportArgumentType]
        yield Bar(what, total, unit, done=start, start=start, _progress=progress, _task=task)


def track(items: Iterable[T], what: str, total: float | None = None, unit: str = "items") -> Iterator[T]:
    """Iterate with a bar; the total is `len(items)` where there is one."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # pyright: ignore[reportArgumentType]
    with progress_bar(what, total, unit) as bar:
        for item in items:
            yield item
            bar.advance()


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= size:
            return f"{number / (1e3 if letter == 'k' else size):.1f}{letter}"
    return f"{number:.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.1f}"

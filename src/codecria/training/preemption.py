"""SIGTERM and Ctrl-C: the step under way is finished, the state saved, and the process ends in time."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codecria.training.parallel import World

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ONE_SIGNAL_S = 1.0


class Preemption:
    """Catches the signals while its block runs.

    A second signal ends the process at once. Signals within a second count as one: `torchrun` passes on to its
    processes what a scheduler has sent to them already. When the state is not saved within `grace_s` of the signal,
    the process ends all the same and the last saved state holds.

    Args:
        grace_s: seconds from the signal to the end of the process.
        world: this rank among all.
    """

    def __init__(self, grace_s: float, world: World) -> None:
        self._grace_s, self._world = grace_s, world
        self._signal = 0
        self._came_s = 0.0
        self._old: dict[signal.Signals, Any] = {}
        self._too_late: threading.Timer | None = None

    def __enter__(self) -> Preemption:
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread handle signals
            self._old = {each: signal.signal(each, self._catch) for each in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for each, handler in self._old.items():
            signal.signal(each, handler)
        if self._too_late is not None:
            self._too_late.cancel()

    def asked(self) -> bool:
        """Whether any rank was told to stop; every rank gets the same answer."""
        return self._world.any(self._signal != 0)

    def leave(self, step: int) -> SystemExit:
        """Say at which step the run stops; what to raise: exit status 143 after SIGTERM, 130 after Ctrl-C."""
        number = self._signal or signal.SIGTERM
        if self._world.first:
            name = signal.Signals(number).name
            print(f"{name}: the state of step {step} is saved; the same command goes on from there", file=sys.stderr)
        return SystemExit(128 + number)

    def _catch(self, number: int, frame: object) -> None:
        del frame
        if not self._signal:
            self._signal, self._came_s = number, time.monotonic()
            self._too_late = threading.Timer(self._grace_s, self._end)
            self._too_late.daemon = True
            self._too_late.start()
        elif time.monotonic() - self._came_s > _ONE_SIGNAL_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _end(self) -> None:
        line = f"no state could be saved within {self._grace_s:g} s (watch.grace_s); the last one holds"
        print(line, file=sys.stderr, flush=True)
        os._exit(128 + self._signal)

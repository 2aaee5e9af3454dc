"""Processes of one program watched from the server: their output, their time, what they leave on the disk."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import confine

_LOOK_EVERY_S = 0.02
_FILES_MAX = 10_000
_DEPTH_MAX = 100
REPORT_BYTES_MAX = 1 << 16


class OverLimitError(Exception):
    """The program went over a limit. Arguments: status, detail."""


class Watch:
    """Watches one program's processes from now on.

    Args:
        walls: what they go behind, with the limits.

    `astray` is true where the next request would not be found at the start of what the world's pipe holds.
    """

    def __init__(self, walls: confine.Walls) -> None:
        self._walls = walls
        self._limits = walls.settings
        self._started_s = self._looked_s = time.monotonic()
        self._output = bytearray()
        self._output_r: int | None = None
        self._reports: dict[int, bytearray] = {}
        self._ended: set[int] = set()
        self._halves: dict[str, int] = {}
        self._endings: dict[str, tuple[int, float]] = {}
        self._killed: set[str] = set()
        self._poll = select.poll()
        self._poll.register(0, 0)
        self.astray = True

    def _watch(self, output: int, *reports: int) -> None:
        """Gather what comes on these pipes from now on."""
        self._output_r = output
        self._reports = {report: bytearray() for report in reports}
        for descriptor in (output, *reports):
            self._poll.register(descriptor, select.POLLIN)

    def _left_s(self) -> float:
        return self._started_s + self._limits.wall_s - time.monotonic()

    def _wait(self) -> None:
        """Wait a little, gathering reports and output.

        Raises:
            OverLimitError: a limit was passed.
        """
        left_s = self._left_s()
        if left_s <= 0:
            raise OverLimitError("timeout", f"not done after {self._limits.wall_s:g} s")
        self._gather(math.ceil(1000 * min(left_s, _LOOK_EVERY_S)))
        now_s = time.monotonic()
        if now_s - self._looked_s >= _LOOK_EVERY_S:
            self._look()
            self._looked_s = now_s

    def _gather(self, patience_ms: int) -> None:
        for descriptor, _ in self._poll.poll(patience_ms):
            if descriptor == 0:
                raise OverLimitError("failed", "the sandbox was closed")
            if descriptor == self._output_r:
                self._collect()
                continue
            part = os.read(descriptor, REPORT_BYTES_MAX)
            self._reports[descriptor] += part
            if not part:
                self._ended.add(descriptor)
                self._poll.unregister(descriptor)

    def _collect(self) -> None:
        """Take what the program has printed so far."""
        most = self._limits.output_bytes
        while self._output_r is not None and select.select([self._output_r], [], [], 0)[0]:
            part = os.read(self._output_r, 1 << 16)
            if not part:
                self._close_output()
            self._output += part
            if len(self._output) > most:
                del self._output[most:]
                raise OverLimitError("output", f"printed more than {most} bytes")

    def _close_output(self) -> None:
        if self._output_r is not None:
            self._poll.unregister(self._output_r)
            os.close(self._output_r)
            self._output_r = None

    def _look(self) -> None:
        """What no kernel limit counts: files and their total size; threads, where the account is shared."""
        files, size = _usage(self._limits.work)
        if files > _FILES_MAX or size > self._limits.file_bytes:
            most = f"{_FILES_MAX} files, {_DEPTH_MAX} folders deep or {self._limits.file_bytes} bytes"
            raise OverLimitError("failed", f"wrote more than {most}")
        most = self._limits.processes + self._limits.threads
        if not self._limits.counted and any(_threads(pid) > most for pid in self._halves.values()):
            raise OverLimitError("failed", f"ran more than {most} threads")

    def _end(self) -> None:
        """Kill both halves with all their processes: none of them can leave its group."""
        for half, pid in self._halves.items():
            # A number that was given back may be another's by now; only offspring can still hold the group's.
            if half not in self._endings or self._limits.processes > 1:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            if half not in self._endings:
                os.kill(pid, signal.SIGKILL)
        for half in self._halves:
            self._ending(half, math.inf)

    def _ending(self, half: str, patience_s: float) -> tuple[int, float]:
        """How a half ended (wait status) and the processor time it used; it is killed when patience ends."""
        until_s = time.monotonic() + patience_s
        while half not in self._endings:
            pid, status, usage = os.wait4(self._halves[half], 0 if patience_s == math.inf else os.WNOHANG)
            if pid:
                self._endings[half] = (status, usage.ru_utime + usage.ru_stime)
            elif time.monotonic() > until_s:
                os.kill(self._halves[half], signal.SIGKILL)
                self._killed.add(half)
                patience_s = math.inf
            else:
                time.sleep(0.001)
        return self._endings[half]


def _usage(folder: str) -> tuple[int, int]:
    """Files and folders beneath a folder, and the bytes they take; too many where they nest too deeply."""
    files = size = 0
    left = [folder]
    while left and files <= _FILES_MAX:
        place = left.pop()
        if place.count("/") - folder.count("/") > _DEPTH_MAX:
            return _FILES_MAX + 1, size
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                files += 1
                size += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
    return files, size


def _threads(pid: int) -> int:
    """Threads of a process; 0 where there is no /proc or no such process."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as status:
        return next((int(line.split()[1]) for line in status if line.startswith("Threads:")), 0)
    return 0

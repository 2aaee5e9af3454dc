"""One program, from its first fork to its verdict, within its limits."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import candidate, confine, judge, wire

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_EVERY_S = 0.02
_FILES_MAX = 10_000
_DEPTH_MAX = 100
_REPORT_BYTES_MAX = 1 << 16
_DETAIL_CHARACTERS = 1000
_PATIENCE_S = 1.0
_MEDDLED = "the program wrote to the sandbox's own pipes, or closed them"


class OverLimitError(Exception):
    """The program went over a limit. Arguments: status, detail."""


class Trial:
    """Runs one program.

    Args:
        walls: what both halves go behind.
        request: see `main`.

    `astray` is true where the next request would not be found at the start of what the pipe holds.
    """

    def __init__(self, walls: confine.Walls, request: dict[str, Any]) -> None:
        self._walls = walls
        self._limits = walls.settings
        self._request = request
        self._started_s = self._looked_s = time.monotonic()
        self._output = bytearray()
        self._report = bytearray()
        self._halves: dict[str, int] = {}
        self._endings: dict[str, tuple[int, float]] = {}
        self._killed: set[str] = set()
        self._pipes: set[int] = set()
        self._output_r: int | None = None
        self.astray = True

    def run(self) -> dict[str, Any]:
        """The verdict as `main` describes it, without `last`. Every process of the program has ended."""
        self._output_r, output_w = self._pipe()
        report_r, report_w = self._pipe()
        ask_r, ask_w = self._pipe()
        answer_r, answer_w = self._pipe()

        def run_candidate() -> None:
            candidate.run(self._walls, self._request, report_w, ask_r, answer_w)

        try:
            self._fork("program", output_w, (report_w, ask_r, answer_w), run_candidate)
            self._close(output_w, report_w, ask_r, answer_w)
            verdict = self._define(report_r) or self._judge(answer_r, ask_w)
        except OverLimitError as error:
            verdict = {"status": error.args[0], "detail": error.args[1]}
        finally:
            self._end()
        wall_s = time.monotonic() - self._started_s
        with contextlib.suppress(OverLimitError):
            self._collect()
        self._close(*self._pipes)
        return {**verdict, "wall_s": wall_s, "output": self._output.decode("utf-8", "replace")}

    def _define(self, report_r: int) -> dict[str, Any] | None:
        """Wait until the program's code is defined, or a script has ended; a verdict where that failed."""
        ready = self._take(report_r, 1)
        self.astray = ready != candidate.READY
        told = self._take(report_r, 1) if ready else b""
        if told == candidate.ENDED:
            return self._read_report(report_r)
        if told not in (candidate.DEFINED, b""):
            return {"status": "failed", "detail": _MEDDLED}
        if not self._request["script"]:
            return None if told == candidate.DEFINED else self._vanished("program")
        while self._output_r is not None:
            self._wait(None)
        status, _ = self._ending("program", self._left_s())
        if "program" in self._killed:
            raise OverLimitError("timeout", f"not done after {self._limits.wall_s:g} s")
        return None if status == 0 else self._vanished("program")

    def _judge(self, answer_r: int, ask_w: int) -> dict[str, Any]:
        """Have the tests sent, run them, return what they found."""
        output = bytes(self._output).decode("utf-8", "replace") if self._request["script"] else None
        report_r, report_w = self._pipe()

        def run_judge() -> None:
            judge.run(self._walls, world, report_w, answer_r, ask_w, output)

        wire.reply({"tests": True})
        self.astray = True
        world = os.dup(1)
        self._pipes.add(world)
        self._fork("tests", None, (world, report_w, answer_r, ask_w), run_judge)
        self._close(world, report_w, answer_r, ask_w)
        self._report.clear()
        self.astray = self._take(report_r, 1) != judge.READY
        told = b"" if self.astray else self._take(report_r, 1)
        if told == judge.TOLD:
            return {"status": "told", "detail": ""}
        return self._vanished("program" if told == judge.ENDED else "tests")

    def _read_report(self, report_r: int) -> dict[str, Any]:
        """What the program says of its own failure; that it failed is all that is believed."""
        count = int.from_bytes(self._take(report_r, 4), "little")
        try:
            told = json.loads(self._take(report_r, count))
            status = "memory" if told["status"] == "memory" else "failed"
            return {"status": status, "detail": str(told["detail"])[:_DETAIL_CHARACTERS]}
        except (ValueError, TypeError, KeyError, RecursionError):
            return {"status": "failed", "detail": _MEDDLED}

    def _vanished(self, half: str) -> dict[str, Any]:
        """A verdict on a half that ended without giving one, by the way it ended."""
        status, cpu_s = self._ending(half, _PATIENCE_S)
        if half in self._killed:
            return {"status": "failed", "detail": _MEDDLED}
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            if name == "SIGXCPU" or cpu_s >= self._limits.cpu_s:
                return {"status": "timeout", "detail": f"used {self._limits.cpu_s:g} s of processor time"}
            return {"status": "crashed", "detail": f"the {half} died of {name}"}
        if os.WEXITSTATUS(status) == candidate.MEMORY_EXIT:
            return {"status": "memory", "detail": f"the {half} needed more than {self._limits.memory_bytes} bytes"}
        code = os.WEXITSTATUS(status)
        return {"status": "failed", "detail": f"the {half} ended itself (status {code}) before the tests were done"}

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._pipes.update(ends)
        return ends

    def _close(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        self._pipes.difference_update(descriptors)

    def _fork(self, half: str, output: int | None, kept: tuple[int, ...], run: Callable[[], None]) -> None:
        pid = os.fork()
        if pid:
            self._halves[half] = pid
            return
        try:
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing if output is None else output, 1)
            os.dup2(nothing, 2)
            rules = () if self._walls.rules is None else (self._walls.rules,)
            _close_all_but({0, 1, 2, *kept, *rules})
            run()
        finally:
            os._exit(1)

    def _left_s(self) -> float:
        return self._started_s + self._limits.wall_s - time.monotonic()

    def _take(self, report_r: int, count: int) -> bytes:
        """The next bytes of a half's report; fewer where it ended."""
        if count > _REPORT_BYTES_MAX:
            return b""
        while len(self._report) < count and report_r in self._pipes:
            if self._wait(report_r):
                part = os.read(report_r, _REPORT_BYTES_MAX)
                if not part:
                    self._close(report_r)
                self._report += part
        taken = bytes(self._report[:count])
        del self._report[:count]
        return taken

    def _wait(self, report_r: int | None) -> bool:
        """Wait a little for a report, gathering output meanwhile; true where there is something to read.

        Raises:
            OverLimitError: a limit was passed.
        """
        if self._left_s() <= 0:
            raise OverLimitError("timeout", f"not done after {self._limits.wall_s:g} s")
        poll = select.poll()
        poll.register(0, 0)
        for descriptor in (self._output_r, report_r):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        found = dict(poll.poll(math.ceil(1000 * min(self._left_s(), _LOOK_EVERY_S))))
        if 0 in found:
            raise OverLimitError("failed", "the sandbox was closed")
        if self._output_r in found:
            self._collect()
        if time.monotonic() - self._looked_s >= _LOOK_EVERY_S:
            self._look()
            self._looked_s = time.monotonic()
        return report_r in found

    def _collect(self) -> None:
        """Take what the program has printed so far."""
        most = self._limits.output_bytes
        while self._output_r is not None and select.select([self._output_r], [], [], 0)[0]:
            part = os.read(self._output_r, 1 << 16)
            if not part:
                # Its number may be given to another pipe.
                self._close(self._output_r)
                self._output_r = None
            self._output += part
            if len(self._output) > most:
                del self._output[most:]
                raise OverLimitError("output", f"printed more than {most} bytes")

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
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Threads:"):
                return int(line.split()[1])
    return 0


def _close_all_but(kept: set[int]) -> None:
    held = sorted(kept)
    for low, high in zip(held, [*held[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        if low + 1 < high:  # an empty range would close everything (Python 3.11)
            os.closerange(low + 1, high)

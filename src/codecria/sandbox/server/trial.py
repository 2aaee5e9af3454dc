"""One program, from the order to its halves to its verdict, within its limits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from . import candidate, confine, judge, wire
from .watch import REPORT_BYTES_MAX, OverLimitError, Watch

if TYPE_CHECKING:
    from .halves import Half, Pair

_DETAIL_CHARACTERS = 1000
_PATIENCE_S = 1.0
_MEDDLED = "the program wrote to the sandbox's own pipes, or closed them"


class Trial(Watch):
    """Runs one program.

    Args:
        walls: what both halves go behind.
        request: see `main`.
        pair: the halves.
    """

    def __init__(self, walls: confine.Walls, request: dict[str, Any], pair: Pair) -> None:
        super().__init__(walls)
        self._request, self._pair = request, pair
        self._halves = {"program": pair.candidate.pid, "tests": pair.judge.pid}
        self._watch(pair.output, pair.candidate.report, pair.judge.report)

    def run(self) -> dict[str, Any]:
        """The verdict as `main` describes it, without `last`. Every process of the program has ended."""
        pair, request = self._pair, self._request
        try:
            os.write(pair.judge.go, judge.ORDER.pack(request["script"]))
            order = [request[name] for name in ("prelude_bytes", "code_bytes", "stdin_bytes", "script")]
            os.write(pair.candidate.go, candidate.ORDER.pack(*order))
            verdict = (self._finish() if request["script"] else None) or self._judge()
            with contextlib.suppress(OverLimitError):
                while not self._told(pair.judge) and pair.judge.report not in self._ended:
                    self._wait()
        except OverLimitError as error:
            verdict = {"status": error.args[0], "detail": error.args[1]}
        except BrokenPipeError:
            verdict = {"status": "crashed", "detail": "a half of the program ended before it began"}
        finally:
            with contextlib.suppress(OverLimitError):
                self._gather(0)
            self.astray = self._told(pair.judge)[:1] != judge.READY
            self._end()
        wall_s = time.monotonic() - self._started_s
        with contextlib.suppress(OverLimitError):
            self._collect()
        self._close_output()
        for half in (pair.candidate, pair.judge):
            os.close(half.go)
            os.close(half.report)
        return {**verdict, "wall_s": wall_s, "output": self._output.decode("utf-8", "replace")}

    def _told(self, half: Half) -> bytes:
        """What a half has told so far."""
        return bytes(self._reports[half.report])

    def _finish(self) -> dict[str, Any] | None:
        """Wait until a script has ended and give the judge what it printed; a verdict where it failed."""
        told = self._report(1)[:1]
        if told == candidate.FAILED:
            return self._failure()
        if told not in (candidate.ENDED, b""):
            return {"status": "failed", "detail": _MEDDLED}
        while self._output_r is not None:
            self._wait()
        status, _ = self._ending("program", self._left_s())
        if "program" in self._killed:
            raise OverLimitError("timeout", f"not done after {self._limits.wall_s:g} s")
        if status != 0:
            return self._vanished("program")
        wire.write_all(self._pair.judge.go, wire.frame(bytes(self._output)))
        return None

    def _judge(self) -> dict[str, Any]:
        """Wait for what the tests find."""
        while True:
            if self._told(self._pair.candidate) and not self._request["script"]:
                return self._failure()
            told = self._told(self._pair.judge)[1:2]
            if told == judge.TOLD:
                return {"status": "told", "detail": ""}
            if told == judge.ENDED:
                self._gather(0)
                failed = self._told(self._pair.candidate) and not self._request["script"]
                return self._failure() if failed else self._vanished("program")
            if told or self._pair.judge.report in self._ended:
                return self._vanished("tests")
            self._wait()

    def _failure(self) -> dict[str, Any]:
        """What the program says of its own failure; that it failed is all that is believed."""
        report = self._report(5)
        count = int.from_bytes(report[1:5], "little")
        if report[:1] != candidate.FAILED or count > REPORT_BYTES_MAX:
            return {"status": "failed", "detail": _MEDDLED}
        report = self._report(5 + count)
        try:
            told = json.loads(report[5 : 5 + count])
            status = "memory" if told["status"] == "memory" else "failed"
            return {"status": status, "detail": str(told["detail"])[:_DETAIL_CHARACTERS]}
        except (ValueError, TypeError, KeyError, RecursionError):
            return {"status": "failed", "detail": _MEDDLED}

    def _report(self, count: int) -> bytes:
        """So many bytes of what the candidate tells; fewer where it ended."""
        while len(self._told(self._pair.candidate)) < count and self._pair.candidate.report not in self._ended:
            self._wait()
        return self._told(self._pair.candidate)

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

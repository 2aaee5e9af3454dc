"""One program of another language: its files are written, then commands run one after another, each within its time.

    {"files": {name: text}, "environment": {name: value}, "steps": [{"name", "command", "wall_s", "cpu_s"}, …]}

A command is an absolute path with its arguments; one that begins with `./` is a file that an earlier step made. Output
and errors go into one pipe. The answer is that of `main`, with `step`, the name of the last step that ran, and a status
of "done" where every step ended with 0, "exited" where one ended with another.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import confine, landlock
from .halves import fork
from .watch import OverLimitError, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAIN = "program"
_CANNOT_START = 127
_KERNEL_CPU = 2
_PATIENCE_S = 5.0


class Steps(Watch):
    """Builds and runs a program. Memory and processor time are those of all its processes, looked at every 20 ms.

    The kernel's own limit of processor time, for each process, is twice as high: it counts whole ticks, which on a busy
    machine are a third more than was used.
    """

    def __init__(self, walls: confine.Walls, request: dict[str, Any]) -> None:
        super().__init__(walls)
        self._request = request
        self.astray = False

    def run(self) -> dict[str, Any]:
        """The answer, without `last`. Every process of the program has ended."""
        for name, text in self._request["files"].items():
            Path(name).write_bytes(text.encode("utf-8", "surrogatepass"))
        answer: dict[str, Any] = {}
        for step in self._request["steps"]:
            answer = {"step": step["name"], **self._run_step(step)}
            if answer["status"] != "done":
                break
        return answer

    def _run_step(self, step: dict[str, Any]) -> dict[str, Any]:
        self._limits = self._walls.settings._replace(wall_s=step["wall_s"], cpu_s=step["cpu_s"])
        self._started_s = time.monotonic()
        self._output.clear()
        command: list[str] = step["command"]
        if command[0].startswith("./"):
            # A linker's own `chmod` is only pretended.
            Path(command[0]).chmod(0o700)
        output_r, output_w = os.pipe()
        self._watch(output_r)
        try:
            self._halves[_MAIN] = fork(self._walls, output_w, (), lambda: self._execute(command))
            os.close(output_w)
            while not self._has_ended():
                self._wait()
            found = self._result()
        except OverLimitError as error:
            found = {"status": error.args[0], "detail": error.args[1]}
        finally:
            self._end()
            self.astray = not self._gone()
        wall_s = time.monotonic() - self._started_s
        with contextlib.suppress(OverLimitError):
            self._collect()
        self._close_output()
        self._halves.clear()
        self._endings.clear()
        return {**found, "wall_s": wall_s, "output": self._output.decode("utf-8", "replace")}

    def _execute(self, command: list[str]) -> None:
        """Become the command; to be called in a fork of the server."""
        os.dup2(1, 2)
        os.dup2(self._walls.nothing, 0)
        if self._walls.rules is not None:
            # Mono asks there where its stack is; other processes' folders stay closed where there is no namespace.
            landlock.allow_reading(self._walls.rules, f"/proc/{os.getpid()}")
        limits = self._limits._replace(cpu_s=_KERNEL_CPU * self._limits.cpu_s)
        confine.enter_program(self._walls._replace(bounds=confine.bounds(limits)))
        with contextlib.suppress(OSError):
            os.execve(command[0], command, {**os.environ, **self._request["environment"]})
        os._exit(_CANNOT_START)

    def _gone(self) -> bool:
        """Wait until what was killed has ended; whether it has."""
        until_s = time.monotonic() + _PATIENCE_S
        while (left := any(_group(self._halves[_MAIN]))) and time.monotonic() < until_s:
            time.sleep(0.001)
        return not left

    def _has_ended(self) -> bool:
        """Whether the command has ended; what it started may still run."""
        pid, status, usage = os.wait4(self._halves[_MAIN], os.WNOHANG)
        if pid:
            self._endings[_MAIN] = (status, usage.ru_utime + usage.ru_stime)
        return bool(pid)

    def _result(self) -> dict[str, Any]:
        status, _ = self._endings[_MAIN]
        if status == 0:
            return {"status": "done", "detail": ""}
        if not os.WIFSIGNALED(status):
            return {"status": "exited", "detail": f"exit status {os.WEXITSTATUS(status)}"}
        name = signal.Signals(os.WTERMSIG(status)).name
        return {"status": "timeout" if name == "SIGXCPU" else "crashed", "detail": f"died of {name}"}

    def _look(self) -> None:
        super()._look()
        processes = list(_group(self._halves[_MAIN]))
        most = self._limits.memory_bytes
        if sum(map(_held, processes)) > most:
            raise OverLimitError("memory", f"held more than {most} bytes")
        if sum(map(_computed, processes)) > self._limits.cpu_s:
            raise OverLimitError("timeout", f"used {self._limits.cpu_s:g} s of processor time")


def _group(leader: int) -> Iterator[Path]:
    """The folders in /proc of a process group's processes; none can leave it."""
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and os.getpgid(int(folder.name)) == leader:
                yield folder


def _held(process: Path) -> int:
    """Bytes of memory that a process made its own: no files, no libraries. 0 where it has ended."""
    held = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (process / "status").read_text().splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                held += int(line.split()[1]) << 10
    return held


def _computed(process: Path) -> float:
    """Seconds of processor time of a process and of the children it has waited for; 0 where it has ended."""
    with contextlib.suppress(OSError, ValueError):
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0

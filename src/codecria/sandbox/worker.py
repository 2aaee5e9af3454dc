"""One server process seen from outside: started, asked, restarted when it ends."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any, cast, get_args

from codecria.sandbox.isolation import Flavour, Launch, prepare
from codecria.sandbox.languages import Source, conclude, steps
from codecria.sandbox.server import judge, wire
from codecria.sandbox.toolchains import Toolchain, folders_of
from codecria.sandbox.verdict import Program, Status, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from codecria.sandbox.limits import Limits

_START_S = 30.0
_GRACE_S = 10.0
_STATUSES = frozenset(get_args(Status))


class BrokenError(Exception):
    """The server ended, answers nonsense or does not answer; why, in words."""


class Worker:
    """Runs programs one after another in a server of its own.

    Start and use it in one thread that lives as long as the worker: the kernel ends the server with that thread.

    Args:
        flavour: how its server is started.
        limits: of each program.
        import_paths: see `runner.open_sandbox`.
        index: its number among the workers of a sandbox.
        toolchains: by language; None for Python alone.
    """

    def __init__(
        self,
        flavour: Flavour,
        limits: Limits,
        import_paths: Sequence[Path],
        index: int,
        toolchains: Mapping[str, Toolchain] | None = None,
        *,
        preload: Sequence[str] = (),
    ) -> None:
        self.flavour = flavour
        self.landlock_abi = 0
        self._limits, self._import_paths, self._preload, self._index = limits, import_paths, preload, index
        self._toolchains = toolchains
        self._process: subprocess.Popen[bytes] | None = None
        self._launch: Launch | None = None
        self._held = bytearray()
        self._closed = threading.Event()

    def start(self) -> None:
        """Start the server.

        Raises:
            BrokenError: it does not start; the reason is its own.
        """
        with tempfile.TemporaryFile() as complaints:
            try:
                shown = None if self._toolchains is None else folders_of(self._toolchains.values())
                self._launch = launch = prepare(
                    self.flavour, self._limits, self._import_paths, self._index, shown, preload=self._preload
                )
                self._process = subprocess.Popen(
                    launch.command,
                    env=launch.environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                raise BrokenError(str(error)) from None
            for pipe in (self._process.stdin, self._process.stdout):
                os.set_blocking(pipe.fileno(), False)  # pyright: ignore[reportOptionalMemberAccess]
            try:
                until_s = time.monotonic() + _START_S
                self._send(wire.frame(json.dumps(launch.settings._asdict()).encode()), until_s)
                hello = self._receive(until_s)
            except BrokenError as error:
                self.close()
                complaints.seek(0)
                said = complaints.read().decode("utf-8", "replace").strip().splitlines()
                raise BrokenError(said[-1] if said else str(error)) from None
        if "refused" in hello:
            self.close()
            raise BrokenError(str(hello["refused"]))
        self.landlock_abi = int(hello["landlock"])

    def judge(self, program: Program | Source) -> Verdict:
        """A verdict on the program, whatever it does. One that ends the server is tried once more on a new one."""
        status: Status = "error"
        why = "the sandbox is closed"
        for _ in range(2):
            if self._closed.is_set():
                break
            try:
                if self._process is None:
                    self.start()
                status = "crashed"
                return self._judge(program) if isinstance(program, Program) else self._run(program)
            except BrokenError as error:
                why = f"the sandbox's server ended under it: {error}" if status == "crashed" else str(error)
                self.close()
        return Verdict(status, why, 0.0)

    def interrupt(self) -> None:
        """End the server and whatever runs in it, for good; may be called from any thread. `close` comes after."""
        self._closed.set()
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _judge(self, program: Program) -> Verdict:
        until_s = time.monotonic() + self._limits.wall_s + _GRACE_S
        nonce = secrets.token_hex(judge.NONCE_CHARACTERS // 2)
        texts = {"prelude": program.prelude, "code": program.code, "stdin": program.stdin or ""}
        parts = {f"{name}_bytes": text.encode("utf-8", "surrogatepass") for name, text in texts.items()}
        head = {name: len(part) for name, part in parts.items()} | {"script": program.stdin is not None}
        tests = judge.written(nonce, program.entry_point, program.tests)
        self._send(b"".join((wire.frame(json.dumps(head).encode()), *parts.values(), tests)), until_s)
        answer = self._receive(until_s)
        judged: dict[str, Any] = {}
        if "nonce" in answer:
            judged, answer = answer, self._receive(until_s)
        verdict = _verdict(answer, judged, nonce)
        if answer.get("last"):
            self.close()
        return verdict

    def _run(self, source: Source) -> Verdict:
        """Build and run a program of another language."""
        until_s = time.monotonic() + self._limits.build_wall_s + self._limits.wall_s + _GRACE_S
        nonce = secrets.token_hex(16)
        toolchain = (self._toolchains or {})[source.language]
        request = steps(source, toolchain.tools, self._limits, nonce)
        self._send(wire.frame(json.dumps(request).encode()), until_s)
        answer = self._receive(until_s)
        try:
            verdict = conclude(answer, nonce)
            if verdict.status not in _STATUSES:
                raise ValueError(verdict.status)
        except (KeyError, TypeError, ValueError):
            raise BrokenError("it answers nonsense") from None
        if answer.get("last"):
            self.close()
        return verdict

    def _send(self, data: bytes, until_s: float) -> None:
        stdin = self._pipe("stdin")
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(stdin, view) :]
            except BlockingIOError:
                left_s = until_s - time.monotonic()
                if left_s <= 0 or not select.select([], [stdin], [], left_s)[1]:
                    raise BrokenError("it does not read") from None
            except BrokenPipeError:
                raise BrokenError(self._ending()) from None

    def _receive(self, until_s: float) -> dict[str, Any]:
        answer = None
        count = int.from_bytes(self._read(4, until_s), "little")
        with contextlib.suppress(ValueError):
            answer = json.loads(self._read(count, until_s)) if count <= wire.FRAME_BYTES_MAX else None
        if not isinstance(answer, dict):
            raise BrokenError("it answers nonsense")
        return answer

    def _read(self, count: int, until_s: float) -> bytes:
        stdout = self._pipe("stdout")
        while len(self._held) < count:
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not select.select([stdout], [], [], left_s)[0]:
                raise BrokenError("it does not answer")
            part = os.read(stdout, max(1 << 16, min(count - len(self._held), 1 << 20)))
            if not part:
                raise BrokenError(self._ending())
            self._held += part
        data = bytes(self._held[:count])
        del self._held[:count]
        return data

    def _pipe(self, name: str) -> int:
        process = self._process
        if process is None:
            raise BrokenError("it was stopped")
        return getattr(process, name).fileno()

    def _ending(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired, AttributeError):
            status = self._process.wait(1)  # pyright: ignore[reportOptionalMemberAccess]
            return f"it died of {signal.Signals(-status).name}" if status < 0 else f"it exited with status {status}"
        return "it closed its pipes"

    def close(self) -> None:
        """Remove what is left; to be called when no thread uses the worker any more. A later program starts it anew."""
        process, self._process = self._process, None
        self._held.clear()
        launch, self._launch = self._launch, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        if launch is not None and launch.folder is not None:
            _remove(launch.folder)


def _verdict(answer: dict[str, Any], judged: dict[str, Any], nonce: str) -> Verdict:
    """What the judge says counts only with the nonce, which it alone was given."""
    try:
        status, detail, calls = answer["status"], answer["detail"], 0
        wall_s, output = float(answer["wall_s"]), str(answer["output"])
        if status == "told":
            if not hmac.compare_digest(str(judged.get("nonce")), nonce):
                return Verdict("failed", "a forged verdict", wall_s, output)
            status, detail, calls = judged["status"], judged["detail"], int(judged["calls"])
        detail = " ".join(str(detail).splitlines())
    except (KeyError, TypeError, ValueError):
        raise BrokenError("it answers nonsense") from None
    if type(status) is not str or status not in _STATUSES:
        raise BrokenError("it answers nonsense")
    return Verdict(cast("Status", status), detail, wall_s, output, calls)


def _remove(folder: Path) -> None:
    """Remove a work folder, even one that holds folders without rights or too deep for Python."""
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        subprocess.run(["chmod", "-R", "u+rwx", str(folder)], capture_output=True, check=False)
        subprocess.run(["rm", "-rf", str(folder)], capture_output=True, check=False)

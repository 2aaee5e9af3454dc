"""Sandboxes: a chosen backend with its workers, open for as long as programs come."""

from __future__ import annotations

import collections
import contextlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from codecria.common.errors import CodecriaError
from codecria.sandbox.attacks import self_test
from codecria.sandbox.isolation import BACKENDS, BackendName, Flavour, flavours, missing
from codecria.sandbox.languages import TOOLCHAIN_LIMITS, Source
from codecria.sandbox.limits import Limits
from codecria.sandbox.toolchains import Toolchain, find_toolchain
from codecria.sandbox.worker import BrokenError, Worker

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from pathlib import Path

    from codecria.sandbox.verdict import Program, Verdict

_WAITING_FOR_EACH = 4


@dataclass(frozen=True)
class BackendReport:
    """Whether a backend works here. `reason` says how, or why not and what mends it."""

    name: BackendName
    available: bool
    reason: str


class Sandbox:
    """Runs programs in isolation; made by `open_sandbox`.

    Attributes:
        backend: the backend in use.
        description: under which account programs run, and with which Landlock; filled in by `check`.
        limits: what each program may use.
        workers: how many programs run at once.
    """

    def __init__(
        self,
        flavour: Flavour,
        limits: Limits,
        workers: int,
        import_paths: Sequence[Path],
        toolchains: Mapping[str, Toolchain] | None = None,
        *,
        preload: Sequence[str] = (),
    ) -> None:
        self.backend: BackendName = flavour.backend
        self.description = ""
        self.limits = limits
        self.workers = workers
        self._toolchains = toolchains or {}
        self._all = [
            Worker(flavour, limits, import_paths, index, toolchains, preload=preload) for index in range(workers)
        ]
        self._free = collections.deque(self._all)
        self._of_thread = threading.local()
        self._pool = ThreadPoolExecutor(workers, "sandbox", initializer=self._take_worker)

    def run(self, program: Program | Source) -> Verdict:
        """Judge one program. Whatever the program does, this returns a verdict.

        Raises:
            CodecriaError: see `submit`.
        """
        return self.submit(program).result()

    def submit(self, program: Program | Source) -> Future[Verdict]:
        """Judge one program while the caller goes on; programs wait for a free worker in the order they came.

        Raises:
            CodecriaError: a language the sandbox was not opened for; in the future, tests that do not end as `Source`
                says.
        """
        if isinstance(program, Source) and program.language not in self._toolchains:
            mend = f"open_sandbox(languages=['{program.language}'])"
            raise CodecriaError(f"the sandbox was not opened for '{program.language}'", where="sandbox", mend=mend)
        return self._pool.submit(lambda: cast("Worker", self._of_thread.worker).judge(program))

    def run_many(self, programs: Iterable[Program | Source]) -> Generator[Verdict]:
        """Judge many, several at once; one verdict for each, in their order. Programs are drawn as they are needed."""
        waiting: collections.deque[Future[Verdict]] = collections.deque()
        try:
            for program in programs:
                waiting.append(self.submit(program))
                if len(waiting) > _WAITING_FOR_EACH * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """End every server and what runs in it."""
        for worker in self._all:
            worker.interrupt()
        self._pool.shutdown(cancel_futures=True)
        for worker in self._all:
            worker.close()

    def check(self) -> None:
        """Start a worker, try whether the isolation holds and fill in `description`.

        Raises:
            BrokenError: it does not start, or a program got through.
        """
        self._pool.submit(self._check).result()

    def _check(self) -> None:
        worker = cast("Worker", self._of_thread.worker)
        worker.start()
        account = "an account of their own" if worker.flavour.own_account else "the caller's account"
        self.description = f"programs run under {account}, Landlock ABI {worker.landlock_abi}"
        got_through = self_test(worker.judge, toolchains=bool(self._toolchains))
        if got_through is not None:
            raise BrokenError(got_through)

    def _take_worker(self) -> None:
        self._of_thread.worker = self._free.popleft()


@contextlib.contextmanager
def open_sandbox(
    limits: Limits | None = None,
    backend: Literal["auto"] | BackendName = "auto",
    workers: int = 1,
    import_paths: Sequence[Path] = (),
    languages: Sequence[str] = (),
    preload: Sequence[str] = (),
) -> Generator[Sandbox]:
    """A sandbox for as long as the block runs.

    Args:
        limits: what each program may use; if None the defaults of `Limits`, with languages `TOOLCHAIN_LIMITS`.
        backend: `auto` takes the first that passes its self-test: bubblewrap, then landlock.
        workers: how many programs run at once.
        import_paths: folders programs and tests may import from besides the standard library, read-only.
        languages: of `LANGUAGES`, whose programs (`Source`) it will run. Give none where only Python is run: its
            servers start no processes and see less.
        preload: modules that the server imports once, so that no program waits for them. Their import runs inside the
            isolation but before every program, and could bend any verdict: name only what verdicts may depend on.

    Raises:
        CodecriaError: a language's tools are not here.
        CodecriaError: no backend isolates programs on this machine. Nothing is ever run without isolation.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise CodecriaError(f"no backend '{backend}'", where="backend", mend=f"one of: auto, {', '.join(BACKENDS)}")
    if workers < 1:
        raise CodecriaError(f"{workers} workers", where="workers", mend="give at least 1")
    for path in import_paths:
        if not path.is_dir():
            raise CodecriaError("no such folder to import from", where=path)
    resolved = tuple(path.resolve() for path in import_paths)
    toolchains = {name: find_toolchain(name) for name in languages} if languages else None
    limits = limits or (TOOLCHAIN_LIMITS if languages else Limits())
    reasons: list[str] = []
    for name in BACKENDS if backend == "auto" else (backend,):
        sandbox, reason = _try(name, limits, workers, resolved, toolchains, preload=preload)
        if sandbox is not None:
            with contextlib.closing(sandbox):
                yield sandbox
            return
        reasons.append(f"{name}: {reason}")
    mend = "install bubblewrap and allow user namespaces, or use Linux 5.13 or later with Landlock"
    what = f"no way to isolate programs works here ({'; '.join(reasons)})"
    raise CodecriaError(what, where="sandbox", mend=mend)


def available_backends() -> list[BackendReport]:
    """Start and test each backend; takes about 0.2 s for each."""
    reports: list[BackendReport] = []
    for name in BACKENDS:
        sandbox, reason = _try(name, Limits(), 1, ())
        if sandbox is not None:
            sandbox.close()
        reports.append(BackendReport(name, sandbox is not None, reason))
    return reports


def _try(
    name: BackendName,
    limits: Limits,
    workers: int,
    import_paths: Sequence[Path],
    toolchains: Mapping[str, Toolchain] | None = None,
    *,
    preload: Sequence[str] = (),
) -> tuple[Sandbox | None, str]:
    """A sandbox that passed its self-test and how it works, or None and why not."""
    reason = missing(name)
    if reason is not None:
        return None, reason
    reasons: list[str] = []
    for flavour in flavours(name):
        if limits.processes > 1 and not flavour.counted:
            reasons.append(f"{limits.processes} processes a program cannot be counted here; set processes to 1")
            continue
        sandbox = Sandbox(flavour, limits, workers, import_paths, toolchains, preload=preload)
        try:
            sandbox.check()
            return sandbox, sandbox.description
        except BrokenError as error:
            reasons.append(str(error))
        except BaseException:
            sandbox.close()
            raise
        sandbox.close()
    return None, ", then ".join(dict.fromkeys(reasons))

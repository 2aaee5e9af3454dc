"""Generated programs, run in the sandbox; or the reason why they are not."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from codecria.common.errors import CodecriaError
from codecria.sandbox.limits import Limits
from codecria.sandbox.runner import Sandbox, open_sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from codecria.sandbox.verdict import Program, Verdict


class Judge:
    """Runs programs in sandboxes that are opened with the first program of each kind. A context manager.

    Where no sandbox can be had nothing is run: `reason` says why, and tasks write it into their rows.

    Args:
        limits: of a program that brings none; the sandbox's own by default.
        workers: programs at a time.
        enabled: False runs nothing, and says so.
    """

    def __init__(self, limits: Limits | None = None, workers: int = 1, enabled: bool = True) -> None:
        self._limits = limits or Limits()
        self._workers = workers
        self._stack = ExitStack()
        # Entered first, so closed last: what still waits in it has been cancelled by its sandbox then.
        self._pool = self._stack.enter_context(ThreadPoolExecutor(workers, "judge"))
        self._sandboxes: dict[Limits, Sandbox] = {}
        self.reason = "" if enabled else "execution is switched off"

    def submit(self, program: Program, limits: Limits | None = None) -> Future[Verdict] | None:
        """Run a program while the caller goes on; None where it cannot be run, and `reason` is set."""
        sandbox = self._sandbox(limits)
        return None if sandbox is None else sandbox.submit(program)

    def submit_series(self, programs: Sequence[Program], limits: Limits | None = None) -> Future[list[Verdict]] | None:
        """Run programs one after another up to the first that does not pass, while the caller goes on.

        Returns:
            Their verdicts, to come; None where they cannot be run, and `reason` is set.
        """
        sandbox = self._sandbox(limits)
        return None if sandbox is None else self._pool.submit(_run_series, sandbox, programs)

    def _sandbox(self, limits: Limits | None) -> Sandbox | None:
        chosen = limits or self._limits
        if chosen not in self._sandboxes and not self.reason:
            try:
                self._sandboxes[chosen] = self._stack.enter_context(open_sandbox(chosen, workers=self._workers))
            except CodecriaError as error:
                self.reason = f"no sandbox: {error}"
        return None if self.reason else self._sandboxes[chosen]

    def run(self, programs: Sequence[Program], limits: Limits | None = None) -> list[Verdict] | None:
        """A verdict for each program in order; None where they cannot be run, and `reason` is set."""
        futures = [self.submit(program, limits) for program in programs]
        return [future.result() for future in futures if future is not None] if not self.reason else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()


def _run_series(sandbox: Sandbox, programs: Sequence[Program]) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for program in programs:
        verdicts.append(sandbox.run(program))
        if not verdicts[-1].passed:
            break
    return verdicts

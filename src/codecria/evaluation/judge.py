"""Generated programs, run in the sandbox; or the reason why they are not."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from codecria.common.errors import CodecriaError
from codecria.sandbox.languages import TOOLCHAIN_LIMITS, Source
from codecria.sandbox.limits import Limits
from codecria.sandbox.runner import Sandbox, open_sandbox
from codecria.sandbox.toolchains import toolchain_reports

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from codecria.sandbox.verdict import Program, Verdict


class Judge:
    """Runs programs in sandboxes that are opened with the first program of each kind. A context manager.

    Where a kind has no sandbox none of it is run: `reason` says of the last that was handed in why it is not, "" where
    it is, and tasks write that into its row.

    Args:
        limits: of a Python program that brings none; the sandbox's own by default.
        workers: programs at a time.
        enabled: False runs nothing, and says so.
    """

    def __init__(self, limits: Limits | None = None, workers: int = 1, enabled: bool = True) -> None:
        self._limits = limits or Limits()
        self._workers = workers
        self._stack = ExitStack()
        # Entered first, so closed last: what still waits in it has been cancelled by its sandbox then.
        self._pool = self._stack.enter_context(ThreadPoolExecutor(workers, "judge"))
        self._sandboxes: dict[tuple[Limits, bool], Sandbox | str] = {}
        self._enabled = enabled
        self.reason = "" if enabled else "execution is switched off"

    def submit(self, program: Program | Source, limits: Limits | None = None) -> Future[Verdict] | None:
        """Run a program while the caller goes on; None where it cannot be run, and `reason` is set."""
        sandbox = self._sandbox(program, limits)
        return None if sandbox is None else sandbox.submit(program)

    def submit_series(
        self, programs: Sequence[Program | Source], limits: Limits | None = None
    ) -> Future[list[Verdict]] | None:
        """Run programs of one kind one after another up to the first that does not pass, while the caller goes on.

        Returns:
            Their verdicts, to come, none of none; None where they cannot be run, and `reason` is set.
        """
        sandbox = self._sandbox(programs[0] if programs else None, limits)
        return None if sandbox is None else self._pool.submit(_run_series, sandbox, programs)

    def _sandbox(self, program: Program | Source | None, limits: Limits | None) -> Sandbox | None:
        """The sandbox of a program's kind, Python or the other languages; opened with the first that asks."""
        if not self._enabled:
            return None
        other = isinstance(program, Source)
        key = (limits or (TOOLCHAIN_LIMITS if other else self._limits), other)
        if key not in self._sandboxes:
            here = [report.name for report in toolchain_reports() if report.available] if other else []
            try:
                opened = open_sandbox(key[0], workers=self._workers, languages=here)
                self._sandboxes[key] = self._stack.enter_context(opened)
            except CodecriaError as error:
                self._sandboxes[key] = f"no sandbox: {error}"
        found = self._sandboxes[key]
        self.reason = found if isinstance(found, str) else ""
        return None if isinstance(found, str) else found

    def run(self, programs: Sequence[Program | Source], limits: Limits | None = None) -> list[Verdict] | None:
        """A verdict for each program in order; None where they cannot be run, and `reason` is set."""
        futures = [future for program in programs if (future := self.submit(program, limits)) is not None]
        return [future.result() for future in futures] if len(futures) == len(programs) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()


def _run_series(sandbox: Sandbox, programs: Sequence[Program | Source]) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for program in programs:
        verdicts.append(sandbox.run(program))
        if not verdicts[-1].passed:
            break
    return verdicts

"""Generated programs, run in the sandbox; or the reason why they are not."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from codecria.common.errors import CodecriaError
from codecria.sandbox.languages import TOOLCHAIN_LIMITS, Source
from codecria.sandbox.limits import Limits
from codecria.sandbox.runner import Sandbox, open_sandbox
from codecria.sandbox.toolchains import toolchain_reports

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from codecria.sandbox.verdict import Program, Verdict


class Judge:
    """Runs programs in sandboxes that are opened with the first program of each kind. A context manager.

    Where no sandbox can be had nothing is run: `reason` says why, and tasks write it into their rows.

    Args:
        limits: of a Python program that brings none; the sandbox's own by default.
        workers: programs at a time.
        enabled: False runs nothing, and says so.
    """

    def __init__(self, limits: Limits | None = None, workers: int = 1, enabled: bool = True) -> None:
        self._limits = limits or Limits()
        self._workers = workers
        self._stack = ExitStack()
        self._sandboxes: dict[tuple[Limits, bool], Sandbox] = {}
        self.reason = "" if enabled else "execution is switched off"

    def submit(self, program: Program | Source, limits: Limits | None = None) -> Future[Verdict] | None:
        """Run a program while the caller goes on; None where it cannot be run, and `reason` is set."""
        other = isinstance(program, Source)
        key = (limits or (TOOLCHAIN_LIMITS if other else self._limits), other)
        if key not in self._sandboxes and not self.reason:
            here = [report.name for report in toolchain_reports() if report.available] if other else []
            try:
                opened = open_sandbox(key[0], workers=self._workers, languages=here)
                self._sandboxes[key] = self._stack.enter_context(opened)
            except CodecriaError as error:
                self.reason = f"no sandbox: {error}"
        return None if self.reason else self._sandboxes[key].submit(program)

    def run(self, programs: Sequence[Program | Source], limits: Limits | None = None) -> list[Verdict] | None:
        """A verdict for each program in order; None where they cannot be run, and `reason` is set."""
        futures = [self.submit(program, limits) for program in programs]
        return [future.result() for future in futures if future is not None] if not self.reason else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

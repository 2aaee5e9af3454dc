"""Generated programs, run in the sandbox; or the reason why they are not."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from codecria.common.errors import CodecriaError
from codecria.sandbox.runner import Sandbox, open_sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from codecria.sandbox.limits import Limits
    from codecria.sandbox.verdict import Program, Verdict


class Judge:
    """Runs programs in a sandbox that is opened with the first of them. A context manager.

    Where no sandbox can be had nothing is run: `reason` says why, and tasks write it into their rows.

    Args:
        limits: of each program; the sandbox's own by default.
        workers: programs at a time.
        enabled: False runs nothing, and says so.
    """

    def __init__(self, limits: Limits | None = None, workers: int = 1, enabled: bool = True) -> None:
        self._limits = limits
        self._workers = workers
        self._stack = ExitStack()
        self._sandbox: Sandbox | None = None
        self.reason = "" if enabled else "execution is switched off"

    def run(self, programs: Sequence[Program]) -> list[Verdict] | None:
        """A verdict for each program in order; None where they cannot be run, and `reason` is set."""
        if self._sandbox is None and not self.reason:
            try:
                self._sandbox = self._stack.enter_context(open_sandbox(self._limits, workers=self._workers))
            except CodecriaError as error:
                self.reason = f"no sandbox: {error}"
        if self._sandbox is None:
            return None
        return list(self._sandbox.run_many(programs))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

"""Runs untrusted Python and says whether it passes its tests.

    with open_sandbox(Limits(wall_s=3), workers=2) as sandbox:
        for verdict in sandbox.run_many(programs):
            ...

The program and its tests run in two processes, each isolated from the machine and from the other: see `isolation` for
what the isolation does not protect from, `verdict.Program` for what tests can and cannot do, `server` for the inside.
"""

from codecria.sandbox.attacks import AttackResult, run_attacks
from codecria.sandbox.limits import Limits
from codecria.sandbox.runner import BackendReport, Sandbox, available_backends, open_sandbox
from codecria.sandbox.verdict import Program, Verdict

__all__ = [
    "AttackResult",
    "BackendReport",
    "Limits",
    "Program",
    "Sandbox",
    "Verdict",
    "available_backends",
    "open_sandbox",
    "run_attacks",
]

"""Runs untrusted programs and says whether they pass their tests: Python, and the languages of `languages`.

    with open_sandbox(Limits(wall_s=3), workers=2) as sandbox:
        for verdict in sandbox.run_many(programs):
            ...

A Python program and its tests run in two processes, each isolated from the machine and from the other: see `isolation`
for what the isolation does not protect from, `verdict.Program` for what tests can and cannot do, `languages` for what
programs in other languages could forge, `server` for the inside.
"""

from codecria.sandbox.attacks import AttackResult, run_attacks
from codecria.sandbox.languages import LANGUAGES, TOOLCHAIN_LIMITS, Source
from codecria.sandbox.limits import Limits
from codecria.sandbox.runner import BackendReport, Sandbox, available_backends, open_sandbox
from codecria.sandbox.toolchains import toolchain_reports
from codecria.sandbox.verdict import Program, Verdict

__all__ = [
    "LANGUAGES",
    "TOOLCHAIN_LIMITS",
    "AttackResult",
    "BackendReport",
    "Limits",
    "Program",
    "Sandbox",
    "Source",
    "Verdict",
    "available_backends",
    "open_sandbox",
    "run_attacks",
    "toolchain_reports",
]

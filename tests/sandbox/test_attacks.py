"""Every attack against every kind of sandbox; and that the attacks work where nothing stops them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from codecria.sandbox.attack_texts import FORGE_FROM_WITHIN
from codecria.sandbox.attacks import Bait, attacks, lay_bait, run_attacks, self_test
from codecria.sandbox.limits import Limits
from codecria.sandbox.verdict import Program, Verdict
from tests.sandbox.flavours import EVERY, open_flavour, spell

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.sandbox.isolation import Flavour
    from codecria.sandbox.runner import Sandbox


@pytest.mark.parametrize("flavour", EVERY, ids=spell)
def test_every_attack_is_stopped(flavour: Flavour) -> None:
    sandbox = open_flavour(flavour, Limits(wall_s=1.5))
    try:
        results = run_attacks(sandbox)
        after = sandbox.run(Program("def f(x): return x + 1", "assert f(1) == 2"))
    finally:
        sandbox.close()
    assert [(result.name, result.verdict) for result in results if not result.contained] == []
    assert len(results) >= 80
    assert after.passed


UNGUARDED = [
    "read a file outside",
    "write a file outside",
    "write over a file outside",
    "empty a file outside",
    "empty a file by opening it",
    "remove a file outside",
    "run a command",
    "run a command through the shell",
    "connect by TCP",
    "send by UDP",
    "connect to the host by a Unix socket",
    "leave the process group",
    "write through a symbolic link",
    "read through a symbolic link",
    "connect to an abstract Unix socket",
    "ask a name server",
    "read its own mappings",
]


@pytest.mark.parametrize("name", UNGUARDED)
def test_the_attack_works_without_a_sandbox(name: str, tmp_path: Path) -> None:
    with lay_bait() as bait:
        attack = next(attack for attack in attacks(bait) if attack.name == name)
        program = f"{attack.program.code}\n{attack.program.tests}\n"
        command = [sys.executable, "-I", "-S", "-c", program]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        changes = ("write", "empty", "remove", "run", "connect by TCP", "connect to an abstract")
        assert bait.seen() == name.startswith(changes)


CHEATS_OF_ONE_PROCESS = [
    "exit before the tests",
    "os._exit inside the tests",
    "an answer equal to everything",
    "an answer near everything",
    "a number equal to everything",
    "built-in functions replaced",
    "the tests' objects used to reach their globals",
]


@pytest.mark.parametrize("name", CHEATS_OF_ONE_PROCESS)
def test_the_cheat_is_passed_by_a_harness_of_one_process(name: str) -> None:
    with lay_bait() as bait:
        attack = next(attack for attack in attacks(bait) if attack.name == name)
    program = f"{attack.program.code}\n{attack.program.tests.splitlines()[0]}\n"
    assert subprocess.run([sys.executable, "-I", "-S", "-c", program], check=False).returncode == 0


def test_a_forger_within_the_tests_would_be_believed(any_sandbox: Sandbox) -> None:
    """So the attack that tries to have it run there is worth trying."""
    assert any_sandbox.run(Program("x = 1", FORGE_FROM_WITHIN)).passed


def test_names_are_told_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    bait = Bait(tmp_path_factory.mktemp("bait"), 1, "secret", 1, lambda: False)
    names = [attack.name for attack in attacks(bait)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("status", "complaint"),
    [("passed", "a wrong program was not failed"), ("failed", "a right program was not passed")],
)
def test_the_self_test_sees_a_judge_that_always_says_the_same(status: str, complaint: str) -> None:
    assert complaint in str(self_test(lambda _: Verdict(status, "", 0.0)))  # type: ignore[arg-type]


def test_the_self_test_sees_a_leak() -> None:
    def judge(program: Program) -> Verdict:
        if "assert f(1) == 2" in program.tests:
            return Verdict("passed" if "x + 1" in program.code else "failed", "", 0.0)
        for place in program.code.splitlines():
            if "'w').write('x')" in place:
                exec(place.strip())
        return Verdict("failed", "", 0.0)

    assert "write a file outside" in str(self_test(judge))

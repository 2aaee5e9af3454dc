"""Verdicts on MBPP+ of November 2023, one by one against evalplus 0.3.1: the same stored programs, judged by both.

The programs: references, then mutants of them (`sandbox/mutation.py`), one a task in turn: 400 of every fifth task,
with `--full` 2,000 of all 399, with `--quick` 40 of eight. `--run FOLDER` adds what a model wrote in an evaluation of
mbpp_plus. They are written to programs.jsonl of `--out` and read from there by both sides; verdicts are kept one by
one, so a killed comparison goes on.

evalplus gets an environment of its own, the same file of inputs (MBPP_OVERRIDE_PATH) and, where bwrap is installed, a
file system it cannot write to and no network; its `check_correctness` judges as its command does. It gives a program
1 s of the clock an input (or 4 times the reference), which other work on the machine uses up. So where the two differ,
both judge again with time enough (30 s an input there, 120 s of a processor here). The last line printed names each
program on which they still differ.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

PEER = "evalplus==0.3.1"
PATIENT_S = {"evalplus": 30.0, "ours": 120.0}


def main(options: argparse.Namespace) -> None:
    from importlib.metadata import version

    options.out.mkdir(parents=True, exist_ok=True)
    programs = stored_programs(options)
    judged = {
        "evalplus": by_evalplus(options, "evalplus", programs, 1.0),
        "ours": by_codecria(options, "ours", programs, 20.0),
    }
    differing = [each for each in programs if len({judged[side][each["id"]]["passed"] for side in judged}) > 1]
    again = {
        "evalplus": by_evalplus(options, "evalplus-patient", differing, PATIENT_S["evalplus"]),
        "ours": by_codecria(options, "ours-patient", differing, PATIENT_S["ours"]),
    }
    rows = [
        {"id": each["id"], **{side: [judged[side][each["id"]], again[side][each["id"]]] for side in judged}}
        for each in differing
    ]
    for row in rows:
        print(json.dumps(row), file=sys.stderr)
    left = [row for row in rows if row["ours"][1]["passed"] != row["evalplus"][1]["passed"]]
    told = {
        "programs": len(programs),
        "passed_by_ours": sum(verdict["passed"] for verdict in judged["ours"].values()),
        "equal": len(programs) - len(differing),
        "equal_with_time_enough": len(programs) - len(left),
        "differ": [row["id"] for row in left],
        "peer_name": f"{PEER}, check_correctness on base and plus inputs",
        "versions": {"python": platform.python_version(), "codecria": version("codecria")},
    }
    print(json.dumps(told))


def stored_programs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Written once; later calls read what is there."""
    path = options.out / "programs.jsonl"
    if not path.exists():
        from codecria.common.files import write_atomic

        rows = [*made_programs(options), *(written_programs(options) if options.run else [])]
        write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
    return [json.loads(line) for line in path.read_text().splitlines()]


def made_programs(options: argparse.Namespace) -> list[dict[str, Any]]:
    from codecria.sandbox.mutation import mutants

    every, most = (1, 2000) if options.full else (50, 40) if options.quick else (5, 400)
    chosen = exercises(options.data)[::every]
    rows = [program(each.number, "reference", each.code) for each in chosen]
    wrong = {each.number: mutants(each.code, seed=0) for each in chosen}
    for place in range(max(map(len, wrong.values()))):
        rows += [program(task, f"mutant {place}", found[place]) for task, found in wrong.items() if place < len(found)]
    return rows[:most]


def program(number: int, kind: str, code: str) -> dict[str, Any]:
    return {"id": f"Mbpp/{number} {kind}", "task_id": f"Mbpp/{number}", "solution": code}


def written_programs(options: argparse.Namespace) -> list[dict[str, Any]]:
    from codecria.evaluation.run import read_run

    return [
        {"id": f"{sample.id} {sample.method} {number}", "task_id": sample.id, "solution": text}
        for sample in read_run(options.run)[1]
        if sample.task == "mbpp_plus"
        for number, text in enumerate(sample.outputs)
    ]


def exercises(folder: Path) -> list[Any]:
    from codecria.corpus.evaluation_sets import read_rows
    from codecria.evaluation.data import Data
    from codecria.evaluation.tasks import mbpp, mbpp_plus

    data = Data(folder)
    rows: list[Any] = list(read_rows(data.find(mbpp_plus.MBPP_PLUS).path))
    return mbpp_plus.load_plus(rows, mbpp.load_exercises(data.find(mbpp.MBPP).path))


def by_codecria(
    options: argparse.Namespace, name: str, programs: list[dict[str, Any]], cpu_s: float
) -> dict[str, dict[str, Any]]:
    from dataclasses import replace

    from codecria.evaluation.judge import Judge
    from codecria.evaluation.tasks.plus import LIMITS
    from codecria.sandbox.verdict import Program

    limits = replace(LIMITS, cpu_s=cpu_s, wall_s=max(LIMITS.wall_s, 10 * cpu_s))
    known = {f"Mbpp/{each.number}": each for each in exercises(options.data)}
    path = options.out / f"{name}.jsonl"
    done = verdicts(path)
    with Judge(workers=options.workers) as judge, path.open("a") as file:
        left = [each for each in programs if each["id"] not in done]
        tasks = [known[each["task_id"]] for each in left]
        waiting = [
            judge.submit(Program(each["solution"], task.tests, task.entry_point), limits)
            for each, task in zip(left, tasks, strict=True)
        ]
        assert not judge.reason, judge.reason
        for each, future in zip(left, waiting, strict=True):
            assert future is not None
            verdict = future.result()
            row = {"id": each["id"], "passed": verdict.passed, "told": f"{verdict.status}: {verdict.detail}"[:200]}
            print(json.dumps(row), file=file, flush=True)
    return verdicts(path)


def by_evalplus(
    options: argparse.Namespace, name: str, programs: list[dict[str, Any]], limit_s: float
) -> dict[str, dict[str, Any]]:
    from codecria.evaluation.data import Data
    from codecria.evaluation.tasks.mbpp_plus import MBPP_PLUS

    path = options.out / f"{name}.jsonl"
    left = [each for each in programs if each["id"] not in verdicts(path)]
    if left:
        python, folder = environment(), str(options.out.resolve())
        (options.out / "left.jsonl").write_text("".join(json.dumps(each) + "\n" for each in left))
        command = [python, str(Path(__file__).resolve()), "--child", name, "--out", folder, "--limit-s", str(limit_s)]
        if shutil.which("bwrap"):
            walls = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev"]
            command = [*walls, "--proc", "/proc", "--tmpfs", "/var/tmp", "--bind", folder, folder, *command]
        inputs = str(Data(options.data).find(MBPP_PLUS).path.resolve())
        variables = {**os.environ, "MBPP_OVERRIDE_PATH": inputs, "XDG_CACHE_HOME": folder, "TMPDIR": "/var/tmp"}
        subprocess.run(command, env=variables, check=True)
    return verdicts(path)


def verdicts(path: Path) -> dict[str, dict[str, Any]]:
    """Those kept so far; a last line that a kill cut short does not count."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    if len(rows) < len(lines):
        path.write_text("".join(lines[: len(rows)]))
    return {row["id"]: {"passed": row["passed"], "told": row["told"]} for row in rows}


def environment() -> str:
    """The Python that has evalplus; its environment is made when absent."""
    from codecria.common.files import cache_folder

    folder = cache_folder() / "benchmarks" / f"venv-{PEER}"
    python = str(folder / "bin" / "python")
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PEER], check=True)
        (folder / "complete").touch()
    return python


def child(options: argparse.Namespace) -> None:
    """Judge what is left, in evalplus's environment, with what its command calls."""
    from evalplus.data import get_mbpp_plus, get_mbpp_plus_hash
    from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
    from evalplus.evaluate import check_correctness, get_groundtruth

    left = [json.loads(line) for line in (options.out / "left.jsonl").read_text().splitlines()]
    problems = get_mbpp_plus()
    expected = get_groundtruth(problems, get_mbpp_plus_hash(), MBPP_OUTPUT_NOT_NONE_TASKS)
    # Each check is a fork: the less there is to copy, the sooner it starts.
    expected = {each["task_id"]: expected[each["task_id"]] for each in left}
    gc.collect()
    gc.freeze()
    with (options.out / f"{options.child}.jsonl").open("a") as file:
        for each in left:
            task = each["task_id"]
            found = check_correctness(
                "mbpp",
                0,
                problems[task],
                each["solution"],
                expected[task],
                fast_check=True,
                min_time_limit=options.limit_s,
            )
            parts = {
                name: (status, len(details)) for name, (status, details) in ((n, found[n]) for n in ("base", "plus"))
            }
            passed = all(status == "pass" for status, _ in parts.values())
            told = ", ".join(f"{name} {status} at input {count}" for name, (status, count) in parts.items())
            print(json.dumps({"id": each["id"], "passed": passed, "told": told}), file=file, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=os.environ.get("CODECRIA_DATA"), help="folder of published data")
    parser.add_argument("--run", type=Path, help="a finished evaluation of mbpp_plus, whose programs are added")
    parser.add_argument("--out", type=Path, default=Path("runs/verdicts"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child")
    parser.add_argument("--limit-s", type=float, default=1.0)
    chosen = parser.parse_args()
    child(chosen) if chosen.child else main(chosen)

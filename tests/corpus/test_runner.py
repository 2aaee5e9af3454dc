import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from codecria.common.errors import CodecriaError
from codecria.corpus.runner import RunnerRecipe, run_in_order

ONE, TWO = RunnerRecipe(), RunnerRecipe(workers=2)


def square(number: int) -> int:
    return number * number


def refuse(number: int) -> int:
    if number == 40:
        raise ValueError("forty")
    return number


def die_once(mark: str) -> str:
    """Kill this very process, the first time."""
    if mark and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return mark


def test_one_process_takes_one_item_at_a_time():
    taken = []

    def items():
        for number in range(5):
            taken.append(number)
            yield number

    stream = run_in_order(square, items(), ONE)
    assert next(stream) == 0
    assert taken == [0]
    assert list(stream) == [1, 4, 9, 16]


def test_several_processes_give_the_same_in_the_same_order():
    assert list(run_in_order(square, range(300), TWO)) == list(run_in_order(square, range(300), ONE))


def test_several_processes_read_little_ahead_and_stop_early():
    counter = itertools.count()
    stream = run_in_order(square, counter, TWO)
    assert [next(stream) for _ in range(3)] == [0, 1, 4]
    stream.close()
    assert next(counter) <= 10


def test_an_error_in_a_worker_reaches_the_caller():
    with pytest.raises(ValueError, match="forty"):
        list(run_in_order(refuse, range(100), TWO))


def test_a_killed_worker_is_one_clear_line(tmp_path):
    with pytest.raises(CodecriaError, match=r"a worker process was killed; .* run again, and it goes on from here"):
        list(run_in_order(die_once, ["", str(tmp_path / "mark"), ""], TWO))


def test_ray_runs_the_task_of_a_killed_worker_again(tmp_path):
    items = ["", str(tmp_path / "mark"), ""]
    assert list(run_in_order(die_once, items, RunnerRecipe(type="ray", workers=2))) == items
    assert (tmp_path / "mark").exists()


def test_ray_raises_the_functions_own_errors():
    with pytest.raises(ValueError, match="forty"):
        list(run_in_order(refuse, range(38, 42), RunnerRecipe(type="ray", workers=2)))


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from codecria.corpus.runner import RunnerRecipe, run_in_order\n"
        "def slow(number):\n    time.sleep(0.01)\n    return number\n"
        "if __name__ == '__main__':\n"
        "    for number in run_in_order(slow, range(10**9), RunnerRecipe(workers=2)):\n"
        "        print(number, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline_s = time.monotonic() + 10
    while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in workers):
        assert time.monotonic() < deadline_s, "workers outlived their parent"
        time.sleep(0.05)

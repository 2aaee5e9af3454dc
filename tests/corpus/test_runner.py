import itertools
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from codecria.corpus.runner import run_in_order


def square(number: int) -> int:
    return number * number


def refuse(number: int) -> int:
    if number == 40:
        raise ValueError("forty")
    return number


def test_one_process_takes_one_item_at_a_time():
    taken = []

    def items():
        for number in range(5):
            taken.append(number)
            yield number

    stream = run_in_order(square, items())
    assert next(stream) == (0, 0)
    assert taken == [0]
    assert list(stream) == [(n, n * n) for n in range(1, 5)]


def test_several_processes_give_the_same_in_the_same_order():
    assert list(run_in_order(square, range(500), workers=2)) == list(run_in_order(square, range(500)))


def test_several_processes_read_little_ahead_and_stop_early():
    counter = itertools.count()
    stream = run_in_order(square, counter, workers=2)
    assert [next(stream) for _ in range(3)] == [(0, 0), (1, 1), (2, 4)]
    stream.close()
    assert next(counter) <= 32 * 9


def test_an_error_in_a_worker_reaches_the_caller():
    with pytest.raises(ValueError, match="forty"):
        list(run_in_order(refuse, range(100), workers=2))


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from codecria.corpus.runner import run_in_order\n"
        "def slow(number):\n    time.sleep(0.01)\n    return number\n"
        "if __name__ == '__main__':\n"
        "    for number, _ in run_in_order(slow, range(10**9), workers=2):\n"
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

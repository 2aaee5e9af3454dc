"""A server from outside: it may be killed, used up, or lied about."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from codecria.sandbox import isolation
from codecria.sandbox.limits import Limits
from codecria.sandbox.server import landlock
from codecria.sandbox.verdict import Program
from codecria.sandbox.worker import BrokenError, Worker, _verdict
from tests.sandbox.flavours import EVERY, open_flavour, spell

if TYPE_CHECKING:
    from collections.abc import Iterator

RIGHT = Program("def f(x):\n    return x + 1", "assert f(1) == 2")


@pytest.fixture(params=EVERY, ids=spell)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    open_flavour(request.param, Limits()).close()
    made = Worker(request.param, Limits(wall_s=5), (), 0)
    yield made
    made.close()


def kill(worker: Worker) -> None:
    process = worker._process
    assert process is not None
    os.killpg(process.pid, signal.SIGKILL)


def test_a_killed_server_is_started_again(worker: Worker) -> None:
    assert worker.judge(RIGHT).passed
    assert worker.landlock_abi == landlock.abi()
    kill(worker)
    assert worker.judge(RIGHT).passed


def test_a_program_whose_server_is_killed_is_run_again(worker: Worker) -> None:
    worker.start()
    threading.Timer(0.2, lambda: kill(worker)).start()
    started_s = time.monotonic()
    assert worker.judge(Program("import time\ntime.sleep(0.5)", "")).passed
    assert time.monotonic() - started_s > 0.6


def descendants(pid: int) -> list[int]:
    children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(deeper for child in children for deeper in descendants(child))]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_halves_that_wait_end_with_their_server(worker: Worker) -> None:
    for end in (kill, Worker.close, kill):
        assert worker.judge(RIGHT).passed
        assert worker._process is not None
        waiting: list[int] = []
        until_s = time.monotonic() + 5
        while len(waiting) < 2 and time.monotonic() < until_s:  # the next program's
            waiting = [one for one in descendants(worker._process.pid) if not descendants(one)]
        assert len(waiting) == 2
        end(worker)
        while any(map(runs, waiting)) and time.monotonic() < until_s:
            time.sleep(0.02)
        assert [pid for pid in waiting if runs(pid)] == []


def test_limits_count_from_the_program_s_start(worker: Worker) -> None:
    """Its halves waited longer than it may run, and have used no processor time of its own."""
    impatient = Worker(worker.flavour, Limits(wall_s=1, cpu_s=1), (), 1)
    assert impatient.judge(RIGHT).passed
    time.sleep(1.5)
    verdict = impatient.judge(
        Program("import time\nbefore = time.process_time()\ntime.sleep(0.4)", "assert before < 0.5")
    )
    impatient.close()
    assert verdict.passed
    assert 0.4 <= verdict.wall_s < 1


NOSE = """
import gc, sys
mark = "of an " + "earlier program"
def held(value, depth=3):
    if isinstance(value, (bytes, bytearray)):
        return mark.encode() in value
    if isinstance(value, str):
        return mark in value and value is not mark
    inside = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
    return depth > 0 and any(held(each, depth - 1) for each in (*inside, *getattr(value, "__dict__", {}).values()))
def found():
    seen = []
    frame = sys._getframe(2)
    while frame is not None:
        seen += [(frame.f_code.co_name, name) for name, value in frame.f_locals.items() if held(value)]
        frame = frame.f_back
    return seen + [type(each).__name__ for each in gc.get_objects() if type(each) is dict and held(each, 1)]
"""


def test_a_half_that_waited_has_nothing_of_an_earlier_program(worker: Worker) -> None:
    earlier = Program(
        "mark = 'of an ' + 'earlier program'\nprint(mark)\nraise ValueError(mark)", "# of an earlier program"
    )
    assert "of an earlier program" in worker.judge(earlier).detail
    assert worker.judge(Program("print('of an ' + 'earlier program')\ndef f(): pass", "f()")).passed
    verdict = worker.judge(
        Program(f"{NOSE}\ninside = found()", f"{NOSE}\nassert inside == [], inside\nassert found() == []")
    )
    assert verdict.passed, verdict


class Doomed(Worker):
    """Its servers start well and are killed as soon as a program runs."""

    running = False

    def start(self) -> None:
        self.running = False
        super().start()
        self.running = True

    def _receive(self, until_s: float) -> dict[str, Any]:
        if self.running:
            kill(self)
        return super()._receive(until_s)


def test_a_program_that_ends_every_server_has_crashed(worker: Worker) -> None:
    doomed = Doomed(worker.flavour, Limits(wall_s=5), (), 1)
    verdict = doomed.judge(RIGHT)
    doomed.close()
    assert verdict.status == "crashed"
    assert verdict.detail == "the sandbox's server ended under it: it died of SIGKILL"


def test_servers_are_renewed(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> None:
    monkeypatch.setattr(isolation, "_RECYCLE_AFTER", 3)
    servers = set()
    for _ in range(7):
        assert worker.judge(RIGHT).passed
        servers.add(worker._process and worker._process.pid)
    assert len(servers) == 4  # three, and None when the third program of each was judged


def test_a_worker_that_is_closed_says_so(worker: Worker) -> None:
    worker.interrupt()
    verdict = worker.judge(RIGHT)
    assert (verdict.status, verdict.detail) == ("error", "the sandbox is closed")


def answer(**fields: Any) -> dict[str, Any]:
    return {"status": "told", "detail": "", "wall_s": 0.1, "output": "", "last": False, **fields}


def test_a_verdict_without_its_nonce_is_forged() -> None:
    judged = {"status": "passed", "detail": "", "calls": 1, "nonce": "right"}
    assert _verdict(answer(), judged, "right").passed
    for forged in ({}, {**judged, "nonce": "wrong"}, {**judged, "nonce": None}, {**judged, "nonce": ["right"]}):
        assert _verdict(answer(), forged, "right").status == "failed"


@pytest.mark.parametrize(
    "nonsense",
    [{}, answer(status="fine"), answer(status=["told"]), answer(wall_s="x"), {"status": "failed"}, answer(wall_s=None)],
)
def test_nonsense_is_not_a_verdict(nonsense: dict[str, Any]) -> None:
    json.dumps(nonsense)
    with pytest.raises(BrokenError):
        _verdict(nonsense, {}, "right")

"""A server from outside: it may be killed, used up, or lied about."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from codecria.sandbox import isolation
from codecria.sandbox.limits import Limits
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
    kill(worker)
    assert worker.judge(RIGHT).passed


def test_a_program_whose_server_is_killed_is_run_again(worker: Worker) -> None:
    worker.start()
    threading.Timer(0.2, lambda: kill(worker)).start()
    started_s = time.monotonic()
    assert worker.judge(Program("import time\ntime.sleep(0.5)", "")).passed
    assert time.monotonic() - started_s > 0.6


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

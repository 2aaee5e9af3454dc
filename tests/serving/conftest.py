from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest
import torch

from codecria.generation.code_model import load
from tests.tiny import write_infilling_checkpoint, write_tiny_checkpoint

PREFIX = "def area(radius):\n    return "
SUFFIX = "\n\n\nprint(area(2))\n"


class ServerProcess:
    """`codecria serve` in a process of its own.

    Attributes:
        url: where it listens.
        line: what it said when it was ready.
    """

    def __init__(self, model, *options, env=None):
        command = [sys.executable, "-m", "codecria.cli.main", "serve", str(model)]
        command += ["--port", "0", "--threads", "1", "--dtype", "fp32", *options]
        environment = {**os.environ, **(env or {}), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self._log = []
        self._reader = threading.Thread(target=lambda: self._log.extend(self.process.stderr), daemon=True)
        self._reader.start()
        self.line = self.process.stdout.readline().strip()
        if not self.line:
            self.process.wait(10)
            raise AssertionError(f"it did not start: {self.log()}")
        self.url = next(word for word in self.line.split() if word.startswith("http://"))
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def log(self):
        """What it has written to standard error."""
        return "".join(self._log)

    def logged(self, holds, seconds=30):
        """Wait for the log, which is written behind an answer, to be so; what it is then."""
        ends = time.monotonic() + seconds
        while not holds(self.log()):
            assert time.monotonic() < ends, self.log()[-2000:]
            time.sleep(0.02)
        return self.log()

    def post(self, path, body, **more):
        return self.client.post(path, json=body, **more)

    def number(self, name):
        """A number of /metrics."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise AssertionError(f"no {name}")

    def until(self, name, value, seconds=30):
        """Wait for a number to become so."""
        ends = time.monotonic() + seconds
        while (found := self.number(name)) != value:
            assert time.monotonic() < ends, f"{name} is {found}, not {value}"
            time.sleep(0.01)

    def stop(self):
        """Ask it to end: its status."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self._reader.join(5)
        return status


@contextlib.contextmanager
def serving(model, *options, env=None):
    server = ServerProcess(model, *options, env=env)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory):
    """A tiny model without infill markers."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("plain") / "tiny-plain")


@pytest.fixture(scope="session")
def model_folder(plain_folder, tmp_path_factory):
    """The same with markers, their rows untrained."""
    return write_infilling_checkpoint(tmp_path_factory.mktemp("infill") / "tiny", plain_folder)


@pytest.fixture(scope="session")
def code_model(model_folder):
    """The model that the server serves, here."""
    return load(model_folder, dtype="fp32", device="cpu")


@pytest.fixture(scope="session")
def server(model_folder):
    """A server that all tests of a run share."""
    with serving(model_folder) as running:
        yield running


@pytest.fixture(scope="session")
def plain_server(plain_folder):
    """A server of a model that does not infill."""
    with serving(plain_folder) as running:
        yield running

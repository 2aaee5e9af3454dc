"""Killed with texts at work and started again at the same address: the same answers, and nothing to repair."""

import signal
import time

import httpx
import pytest

from codecria.cli import options
from tests.serving.conftest import PREFIX, SUFFIX, ServerProcess
from tests.serving.test_app import LONG, raw, request

CODE = {"input_prefix": PREFIX, "input_suffix": SUFFIX, "n_predict": 12, "temperature": 0}


def first_answer(server):
    return server.post("/infill", CODE).json()["content"]


def test_a_killed_server_is_replaced_at_once(model_folder, record_property):
    killed_and_started_again(model_folder, record_property)


@pytest.mark.slow
def test_a_killed_server_of_the_shipped_model_is_replaced_at_once(record_property):
    killed_and_started_again(options.INFILLING_MODEL, record_property)


def killed_and_started_again(model, record_property):
    first = ServerProcess(model)
    port = first.client.base_url.port
    try:
        expected = first_answer(first)
        held = [raw(first, request("/completion", {**LONG, "stream": stream, "seed": stream})) for stream in (0, 1)]
        first.until("codecria_running", 2)
        first.process.send_signal(signal.SIGKILL)
        killed_s = time.monotonic()
        for connection in held:
            gone(connection)
    finally:
        first.process.kill()
        first.process.wait()
    with pytest.raises(httpx.TransportError):
        first_answer(first)
    again = ServerProcess(model, "--port", str(port))
    try:
        assert again.client.base_url.port == port  # connections that hang on do not keep the address
        assert first_answer(again) == expected
        record_property("seconds_to_recover", round(time.monotonic() - killed_s, 2))
        assert again.number("codecria_texts") == 0
    finally:
        assert again.stop() == 0


def gone(connection):
    """Wait until the other side is gone: a client is not left waiting."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    connection.close()

"""Many editors at once, half of whose requests are given up: nothing is left behind."""

import asyncio
import os
import random

import httpx
import psutil
import pytest

from tests.serving.conftest import SUFFIX, serving

CLIENTS = 64
SECONDS = float(os.environ.get("CODECRIA_LOAD_S", "20"))
LINE = "    total = radius * 3 + area(radius) - perimeter(radius)\n"


async def editor(url, number, ends, seen):
    draw = random.Random(number)
    prefix = f"def area_{number}(radius):\n"
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        while asyncio.get_running_loop().time() < ends:
            for place in range(len(LINE)):
                if asyncio.get_running_loop().time() >= ends:
                    break
                body = {"input_prefix": prefix, "input_suffix": SUFFIX, "prompt": LINE[:place], "n_predict": 16}
                asked = asyncio.create_task(
                    client.post("/infill", json={**body, "temperature": 0, "stream": draw.random() < 0.5})
                )
                if draw.random() < 0.5:
                    await asyncio.sleep(draw.random() * 0.1)
                    asked.cancel()
                try:
                    seen.append((await asked).status_code)
                except asyncio.CancelledError:
                    seen.append("gone")
            prefix = prefix + LINE if len(prefix) < 2000 else f"def area_{number}(radius):\n"


def typed(url, seconds):
    async def run():
        seen = []
        ends = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(editor(url, number, ends, seen) for number in range(CLIENTS)))
        return seen

    return asyncio.run(run())


@pytest.mark.slow
def test_editors_that_come_and_go_leave_nothing(model_folder):
    with serving(model_folder, "--max-waiting", "64", "--log-level", "warning") as server:
        process = psutil.Process(server.process.pid)
        typed(server.url, SECONDS / 2)  # caches fill, pools grow
        server.until("codecria_texts", 0, 60)
        before = process.memory_info().rss
        seen = typed(server.url, SECONDS)
        server.until("codecria_texts", 0, 60)
        server.until("codecria_running", 0)
        server.until("codecria_locked_bytes", 0)
        grown = process.memory_info().rss - before
        files = process.num_fds()
        assert server.log() == ""
    assert set(seen) <= {200, 429, "gone"}
    assert seen.count(200) > CLIENTS and seen.count("gone") > CLIENTS
    cached = 2**20 * 4
    assert grown < 32 * 2**20 + cached, f"{grown / 2**20:.0f} MiB more after {len(seen)} requests"
    assert files < 64

"""`codecria serve` under many editors: what is left behind by 64 that come and go, and how soon four are answered.

    python benchmarks/serving_load.py [--seconds 300] [--keys 120]

    come and go  64 clients type on loopback against a tiny model of random weights; half of their requests are given up
                 at random. Memory, file descriptors, threads and cache are looked at when all have gone, each minute.
    typing       four clients type Python of the standard library against the shipped model, a key 150 ms after the last
                 one's first token (or end), which closes its connection; milliseconds to first tokens.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import statistics
import sys
import sysconfig
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx
import psutil

from codecria.cli.options import INFILLING_MODEL
from codecria.common.progress import progress_bar
from tests.serving.conftest import serving
from tests.serving.test_load import CLIENTS, typed
from tests.tiny import write_infilling_checkpoint, write_tiny_checkpoint

PAUSE_S = 0.15
TYPISTS = 4
MINUTE_S = 60.0


def come_and_go(seconds: float) -> dict:
    """The clients for so long, a minute at a time."""
    looks: list[dict] = []
    seen: list[int | str] = []
    with tempfile.TemporaryDirectory() as folder:
        model = write_infilling_checkpoint(Path(folder, "tiny"), write_tiny_checkpoint(Path(folder, "plain")))
        with serving(model, "--max-waiting", "64", "--log-level", "warning") as server:
            process = psutil.Process(server.process.pid)
            left = seconds
            with progress_bar("64 clients come and go", seconds, "s") as bar:
                while left > 0:
                    part = min(MINUTE_S, left)
                    seen += typed(server.url, part)
                    left -= part
                    bar.advance(part)
                    server.until("codecria_texts", 0, 120)
                    server.until("codecria_running", 0)
                    looks.append(look(server, process))
                    print(json.dumps(looks[-1]), file=sys.stderr, flush=True)
            log = server.log()
    assert not log, log[-2000:]
    kinds = {str(kind): seen.count(kind) for kind in sorted(set(seen), key=str)}
    return {"clients": CLIENTS, "seconds": seconds, "requests": len(seen), "answers": kinds, "each_minute": looks}


def look(server, process: psutil.Process) -> dict:
    """What a server holds."""
    return {
        "rss_mib": round(process.memory_info().rss / 2**20, 1),
        "file_descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "cached_mib": round(server.number("codecria_cached_bytes") / 2**20, 2),
        "locked_bytes": server.number("codecria_locked_bytes"),
        "texts": server.number("codecria_texts"),
    }


def typing(keys: int) -> dict:
    """Four editors on the shipped model."""
    with serving(INFILLING_MODEL, "--dtype", "int8", "--threads", str(psutil.cpu_count())) as server:
        asyncio.run(type_all(server.url, 20))  # the first texts warm up
        began = time.monotonic()
        milliseconds = sorted(asyncio.run(type_all(server.url, keys)))
        seconds = time.monotonic() - began
        share = server.number("codecria_cache_hit_share")
        server.until("codecria_texts", 0)
    cuts = statistics.quantiles(milliseconds, n=20)
    return {
        "clients": TYPISTS,
        "keys": len(milliseconds),
        "seconds": round(seconds, 1),
        "first_token_ms": {"p50": round(cuts[9], 1), "p95": round(cuts[18], 1), "most": round(milliseconds[-1], 1)},
        "cache_hit_share": round(share, 3),
    }


async def type_all(url: str, keys: int) -> list[float]:
    """All four, each in a file of its own."""
    files = [path for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")) if path.stat().st_size > 2**14]
    clients = (typist(url, path.read_text(errors="replace").split("\n"), keys) for path in files[:TYPISTS])
    return [each for found in await asyncio.gather(*clients) for each in found]


async def typist(url: str, lines: list[str], keys: int) -> list[float]:
    """One editor: it writes lines of a file anew, from the 100th on."""
    found: list[float] = []
    pause = random.Random(len(lines))
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        for at in range(100, len(lines)):
            for end in range(len(lines[at]) - len(lines[at].lstrip()) + 1, len(lines[at]) + 1):
                if len(found) == keys:
                    return found
                body = {
                    "input_prefix": "\n".join(lines[at - 60 : at]) + "\n",
                    "input_suffix": "\n" + "\n".join(lines[at + 1 : at + 31]),
                    "prompt": lines[at][:end],
                    "n_predict": 24,
                    "temperature": 0,
                    "stream": True,
                }
                found.append(await first_token_ms(client, body))
                await asyncio.sleep(PAUSE_S * (0.5 + pause.random()))
    return found


async def first_token_ms(client: httpx.AsyncClient, body: dict) -> float:
    """Milliseconds to the first event; then the connection is closed."""
    began = time.perf_counter()
    async with client.stream("POST", "/infill", json=body) as answer:
        assert answer.status_code == 200
        async for _ in answer.aiter_bytes():
            break
        return 1000 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long the 64 clients type")
    parser.add_argument("--keys", type=int, default=120, help="keys of each of the four")
    arguments = parser.parse_args()
    result = {"come_and_go": come_and_go(arguments.seconds)} if arguments.seconds else {}
    print(json.dumps(result), flush=True)
    result["typing"] = typing(arguments.keys)
    versions = {name: version(name) for name in ("codecria", "torch", "uvicorn")}
    print(json.dumps({**result, "versions": {"python": platform.python_version(), **versions}}))


if __name__ == "__main__":
    main()

"""`codecria serve` against llama.cpp's server over HTTP: the same model, the same trace, in turn.

    python -m venv peer && CMAKE_ARGS=-DGGML_NATIVE=ON peer/bin/pip install 'llama-cpp-python[server]'  # minutes
    python -m venv peer && peer/bin/pip install xllamacpp  # or this: llama.cpp's own server in a wheel
    python benchmarks/serving.py --peer-python peer/bin/python [--quick] [--threads 2]

The model is the shipped infilling one: ours in int8, there as Q8_0. A round's trace is made from a file of the standard
library that no other round has:

    typing       one editor: at each key of a line a middle of 12 tokens is asked for; milliseconds to the first token
    completions  an editor's rest: texts of 64 tokens behind 60 lines of code, one after another and from four clients

Prompts are texts with markers, suffix first, that both servers read to the same ids (checked by their counts): there a
key changes the prompt's end alone, and both find the rest in their caches. Sampling is greedy.
llama.cpp's own server (xllamacpp) has four slots here. llama-cpp-python writes one text at a time, so four clients wait
for each other there; `throughput_one` is without.
The last line is JSON: `ratio` is the smaller of the ratios of time to first token and of throughput.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

import codecria
from codecria.checkpoint.convert import convert
from codecria.cli.options import INFILLING_MODEL
from codecria.common.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codecria.generation.code_model import CodeModel

GREEDY = {"model": "x", "temperature": 0, "top_p": 1}
MIDDLE, TEXT, CLIENTS = 12, 64, 4
START_S = 300


# llama.cpp's own server in the process, at a port: model, port and threads are its arguments.
XLLAMACPP = """
import sys, time, xllamacpp
asked = xllamacpp.CommonParams()
asked.model.path, asked.port, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
asked.n_parallel, asked.n_ctx = 4, 4 * 2048
asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(asked)
while True:
    time.sleep(3600)
"""


class Trace(NamedTuple):
    """What a round asks: prompts of keys in their order, and prompts to be gone on from."""

    keys: list[str]
    texts: list[str]


class Measured(NamedTuple):
    """What a round took: milliseconds to each key's first token, tokens a second of one client and of four."""

    first_ms: list[float]
    one: float
    four: float


def traces(model: CodeModel, rounds: int, keys: int, texts: int) -> list[Trace]:
    """The rounds, each from a file of its own."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    sources = [path.read_text(errors="replace").split("\n") for path in sorted(folder.glob("*.py"))]
    long = [lines for lines in sources if len(lines) > 400][:rounds]
    assert len(long) == rounds, f"the standard library has only {len(long)} files of 400 lines"
    return [_trace(model, lines, keys, texts) for lines in long]


def _trace(model: CodeModel, lines: list[str], keys: int, texts: int) -> Trace:
    at = next(place for place in range(200, len(lines)) if len(lines[place].strip()) > 30)
    before, line, after = "\n".join(lines[at - 60 : at]) + "\n", lines[at], "\n" + "\n".join(lines[at + 1 : at + 31])
    indent = len(line) - len(line.lstrip())
    typed = [line[:end] for end in range(indent + 1, min(len(line), indent + keys) + 1)]
    step = (len(lines) - 60) // texts
    starts = ["\n".join(lines[place : place + 60]) + "\n" for place in range(0, step * texts, step)]
    return Trace([_spelled(model, before + each, after) for each in typed], starts)


def _spelled(model: CodeModel, prefix: str, suffix: str) -> str:
    """A prompt of ids as a text, markers as they are spelt."""
    ids = model.prepare_infill(prefix, suffix, order="spm", heal=False, max_tokens=MIDDLE).ids
    controls = set(model.tokenizer.special_ids)
    data = (
        model.tokenizer.token_text(id).encode() if id in controls else model.tokenizer.token_bytes(id) for id in ids
    )
    return b"".join(data).decode()


class Server:
    """A server on a port of its own.

    Args:
        name: for messages.
        command: starts it.
        port: where it listens.
    """

    def __init__(self, name: str, command: list[str], port: int) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (the process keeps it)
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        # A connection a request, as llama.vim's curl: who waits for the other's round might find its own closed.
        once = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600, limits=once)
        ends = time.monotonic() + START_S
        while True:
            with contextlib.suppress(httpx.TransportError):
                if self.client.get("/v1/models").status_code == 200:
                    return
            if self._process.poll() is not None or time.monotonic() > ends:
                self._log.seek(0)
                raise SystemExit(f"{name} did not start:\n{self._log.read().decode(errors='replace')[-2000:]}")
            time.sleep(0.2)

    def close(self) -> None:
        self.client.close()
        self._process.terminate()
        self._process.wait(60)

    def first_ms(self, prompt: str) -> float:
        """Milliseconds from the request to the first piece of text; the middle is read to its end."""
        began, first = time.perf_counter(), 0.0
        body = {**GREEDY, "prompt": prompt, "max_tokens": MIDDLE, "stream": True}
        with self.client.stream("POST", "/v1/completions", json=body) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {") and not first and json.loads(line[6:])["choices"][0]["text"]:
                    first = time.perf_counter()
        return 1000 * ((first or time.perf_counter()) - began)

    def written(self, prompt: str, limit: int = TEXT) -> dict[str, int]:
        """Write a text: how many tokens it took."""
        answer = self.client.post("/v1/completions", json={**GREEDY, "prompt": prompt, "max_tokens": limit})
        assert answer.status_code == 200, answer.text
        return answer.json()["usage"]

    def run(self, trace: Trace) -> Measured:
        """A round. Four clients have other texts than one."""
        first_ms = [self.first_ms(prompt) for prompt in trace.keys]
        half = len(trace.texts) // 2
        return Measured(first_ms, self._rate(trace.texts[:half], 1), self._rate(trace.texts[half:], CLIENTS))

    def _rate(self, prompts: list[str], clients: int) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            tokens = sum(used["completion_tokens"] for used in pool.map(self.written, prompts))
        return tokens / (time.perf_counter() - began)


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def servers(peer: str, peer_python: str, gguf: Path, threads: int) -> Iterator[tuple[Server, Server]]:
    """Ours and llama.cpp's, both running; who is not asked waits."""
    with contextlib.ExitStack() as stack:
        port = free_port()
        ours = [sys.executable, "-m", "codecria.cli.main", "serve", INFILLING_MODEL, "--dtype", "int8"]
        ours += ["--port", str(port), "--threads", str(threads), "--log-level", "warning"]
        mine = Server("codecria", ours, port)
        stack.callback(mine.close)
        port = free_port()
        other = Server(peer, [peer_python, *_command(peer, gguf, port, threads)], port)
        stack.callback(other.close)
        yield mine, other


def in_turn(ours: Server, peer: Server, number: int, trace: Trace) -> tuple[Measured, Measured]:
    """A round of both; who begins changes from round to round."""
    if number % 2:
        mine = ours.run(trace)
        return mine, peer.run(trace)
    theirs = peer.run(trace)
    return ours.run(trace), theirs


def _command(peer: str, gguf: Path, port: int, threads: int) -> list[str]:
    if peer == "xllamacpp":
        return ["-c", XLLAMACPP, str(gguf), str(port), str(threads)]
    command = ["-m", "llama_cpp.server", "--model", str(gguf), "--port", str(port), "--n_ctx", "2048"]
    return [*command, "--n_threads", str(threads), "--n_threads_batch", str(threads), "--interrupt_requests", "false"]


def compared(name: str, pairs: list[tuple[float, float]], better: str) -> dict[str, Any]:
    """Medians and their ratio, above 1 where ours is better."""
    ratios = [theirs / mine if better == "less" else mine / theirs for mine, theirs in pairs]
    found = {
        "ratio": round(statistics.median(ratios), 3),
        "ours": round(statistics.median(mine for mine, _ in pairs), 1),
        "peer": round(statistics.median(theirs for _, theirs in pairs), 1),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
    }
    print(json.dumps({"case": name, **found}), flush=True)
    return found


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    environment = os.environ.get("CODECRIA_LLAMA_CPP_PYTHON")
    parser.add_argument("--peer-python", default=environment, help="an interpreter that has the peer: see above")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="see that everything runs: one short round")
    arguments = parser.parse_args()
    if arguments.peer_python is None:
        parser.error("name an interpreter with --peer-python or CODECRIA_LLAMA_CPP_PYTHON; above is how to make it")
    return arguments


def find_peer(peer_python: str) -> tuple[str, str]:
    """The package with the server that an interpreter has, and its version."""
    code = "from importlib.metadata import version; import sys; print(version(sys.argv[1]))"
    for name in ("xllamacpp", "llama-cpp-python"):
        found = subprocess.run([peer_python, "-c", code, name], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return name, found.stdout.strip()
    raise SystemExit(f"{peer_python} has neither xllamacpp nor llama-cpp-python")


def main() -> None:
    arguments = parse()
    rounds, keys, texts = (1, 6, 4) if arguments.quick else (5, 30, 16)
    peer_name, peer_version = find_peer(arguments.peer_python)
    versions = {"python": platform.python_version(), "codecria": version("codecria"), "torch": version("torch")}
    versions[peer_name] = peer_version
    model = codecria.load(INFILLING_MODEL)
    warm, *counted = traces(model, rounds + 1, keys, texts)
    del model
    with tempfile.TemporaryDirectory() as folder:
        gguf = Path(folder, "q8.gguf")
        convert(INFILLING_MODEL, gguf, "gguf-q8_0")
        with servers(peer_name, arguments.peer_python, gguf, arguments.threads) as (ours, peer):
            for prompt in (warm.keys[0], warm.texts[0]):
                asked = [each.written(prompt, 1)["prompt_tokens"] for each in (ours, peer)]
                # Ours takes a prefix's last token back, to heal it.
                assert asked[1] - asked[0] in (0, 1), f"the servers read {asked} tokens in one prompt"
            in_turn(ours, peer, 0, warm)
            both = [in_turn(ours, peer, number, trace) for number, trace in enumerate(track(counted, "rounds"))]
    first = compared(
        "first token, ms", [(statistics.median(a.first_ms), statistics.median(b.first_ms)) for a, b in both], "less"
    )
    four = compared(f"tokens/s, {CLIENTS} clients", [(a.four, b.four) for a, b in both], "more")
    one = compared("tokens/s, one client", [(a.one, b.one) for a, b in both], "more")
    new = compared("first token of a new file, ms", [(a.first_ms[0], b.first_ms[0]) for a, b in both], "less")
    worst = min((first, four), key=lambda case: case["ratio"])
    result = {
        **worst,
        "peer_name": f"llama.cpp's server through {peer_name}, Q8_0, {arguments.threads} threads",
        "tokens_per_s": four["ours"],
        "first_token_ms": first,
        "throughput": four,
        "throughput_one": one,
        "first_token_of_a_new_file_ms": new,
        "versions": versions,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

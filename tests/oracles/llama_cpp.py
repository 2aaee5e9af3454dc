"""llama.cpp as an oracle: node-llama-cpp with its prebuilt binary, installed from npm into the cache."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from codecria.common.files import cache_folder

PACKAGES = ["node-llama-cpp@3.22.1", "@node-llama-cpp/linux-x64@3.22.1"]
SCRIPT = Path(__file__).parent / "llama_cpp_greedy.mjs"


def install() -> Path:
    """The folder with node_modules; skips the test where node, npm or the package cannot be had."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not on this machine")
    folder = cache_folder() / "test-data" / "node-llama-cpp-3.22.1"
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", *PACKAGES]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.skip(f"node-llama-cpp cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
        (folder / "installed").touch()
    shutil.copy(SCRIPT, folder / SCRIPT.name)
    return folder


def greedy(model: Path, prompts: list[list[int]], steps: int) -> list[list[int]]:
    """Greedy continuations of prompts of ids by llama.cpp on the CPU."""
    folder = install()
    path = folder / f"prompts-{model.stem}.json"
    path.write_text(json.dumps(prompts))
    command = ["node", SCRIPT.name, str(model), str(path), str(steps)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout.splitlines()[-1])


class Process:
    """A script beside llama.cpp that answers one JSON object a line for each it reads; the first says that it is ready.

    Args:
        script: a file of ours, copied beside the package.
        arguments: the script's.
    """

    def __init__(self, script: Path, *arguments: object) -> None:
        folder = install()
        shutil.copy(script, folder / script.name)
        command = ["node", script.name, *map(str, arguments)]
        self._process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def ask(self, request: dict) -> dict:
        """Send a request and wait for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()

    def _read(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("llama.cpp's process has ended")
        return json.loads(line)

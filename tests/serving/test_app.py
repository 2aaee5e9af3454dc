"""The parts that all dialects share, over a real socket, against `codecria serve` in a process of its own."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.datastructures import Headers

from codecria.common.errors import CodecriaError
from codecria.generation.code_model import load
from codecria.serving import guard
from codecria.serving.app import build_app
from codecria.serving.bridge import Bridge
from codecria.serving.dialects import all_dialects, llama_cpp, openai
from codecria.serving.problems import Unauthorised
from codecria.serving.routes import Dialect, Reply, Route
from codecria.serving.run import serve
from codecria.serving.settings import Settings
from tests.serving.conftest import serving

# Drawn, so that no guess of its next tokens holds: a greedy text of this model repeats itself and is over at once.
LONG = {"prompt": "import os\n", "n_predict": 1900, "temperature": 1.0, "ignore_eos": True}
SHORT = {"prompt": "import os\n", "n_predict": 4, "temperature": 0}
KEY = "a-key-of-its-own"


@pytest.fixture(scope="module")
def keyed(model_folder):
    options = ("--allow-origin", "https://page.example", "--allow-host", "box.example", "--log-prompts")
    with serving(model_folder, *options, env={"CODECRIA_API_KEY": KEY}) as server:
        yield server


def raw(server, data):
    """A connection of our own, with a request sent."""
    place = urlsplit(server.url)
    connection = socket.create_connection((place.hostname, place.port), timeout=30)
    connection.sendall(data)
    return connection


def request(path, body, *headers):
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(data)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + data


def test_the_ready_line_names_the_model_and_the_address_not_the_path(server, model_folder):
    assert server.line == f"codecria serves tiny at {server.url} (llama.cpp, Mistral, Ollama, OpenAI, Tabby)"
    assert str(model_folder.parent) not in server.client.get("/props").text + server.client.get("/v1/models").text


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_goes_ends_the_text(server, stream):
    before = server.number("codecria_cancelled_total")
    connection = raw(server, request("/completion", {**LONG, "stream": stream, "seed": int(stream)}))
    server.until("codecria_running", 1)
    if stream:
        assert b"200 OK" in connection.recv(1024)
    connection.close()
    server.until("codecria_cancelled_total", before + 1)
    server.until("codecria_running", 0)
    server.until("codecria_texts", 0)
    server.logged(lambda log: '"status": 499' in log)


def test_a_key_is_asked_for_and_compared(keyed):
    assert keyed.client.get("/health").json() == {"status": "ok"}
    assert keyed.client.get("/v1/health").status_code == 401  # where a Tabby agent learns that its key is wrong
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": KEY}):
        for path, body in (("/completion", SHORT), ("/v1/completions", {"prompt": "x"}), ("/infill", {})):
            answer = keyed.post(path, body, headers=headers)
            assert answer.status_code == 401, (path, headers)
            assert answer.json()["error"]["type"] == "authentication_error"
    assert keyed.client.get("/metrics").status_code == 401
    assert keyed.client.get("/v1/models").status_code == 401
    for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-Api-Key": KEY}, {"Authorization": f"bearer {KEY}"}):
        assert keyed.post("/completion", SHORT, headers=headers).status_code == 200
        assert "model" in keyed.client.get("/health", headers=headers).json()
    assert KEY not in keyed.log()


def test_without_a_key_an_empty_bearer_and_any_other_is_ignored(server):
    # llama.vim sends an empty one always.
    for value in ("Bearer ", "Bearer something", "Basic x"):
        connection = raw(server, request("/completion", SHORT, f"Authorization: {value}"))
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_pages_of_other_origins_and_foreign_names_are_refused(server, keyed):
    assert server.post("/completion", SHORT, headers={"Origin": "https://evil.example"}).status_code == 403
    assert server.post("/completion", SHORT, headers={"Origin": "null"}).status_code == 403
    assert server.post("/completion", SHORT, headers={"Origin": server.url}).status_code == 200
    rebound = server.client.get("/v1/models", headers={"Host": "evil.example"})
    assert rebound.status_code == 403
    assert "access-control-allow-origin" not in rebound.headers
    for host in ("localhost:8012", "127.0.0.1", "[::1]:8012"):
        assert server.client.get("/v1/models", headers={"Host": host}).status_code == 200
    headers = {"Authorization": f"Bearer {KEY}", "Origin": "https://page.example", "Host": "box.example"}
    allowed = keyed.post("/completion", SHORT, headers=headers)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://page.example"
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in keyed.client.options("/completion", headers=asked).headers


def test_a_page_that_may_ask_may_send_the_headers_of_its_client(keyed):
    """OpenAI's client says of itself what it runs on; a key may come in either header."""
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-api-key,x-stainless-os",
    }
    allowed = keyed.client.options("/v1/completions", headers={**asked, "Origin": "https://page.example"})
    assert allowed.status_code == 200
    assert "x-stainless-os" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in allowed.headers
    refused = keyed.client.options("/v1/completions", headers={**asked, "Origin": "https://evil.example"})
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("origin", ["http://[", "http://[x]y", "//", "x", "", "http://", "http://a]@localhost"])
def test_an_origin_that_is_no_address_is_foreign(server, origin):
    assert server.post("/completion", SHORT, headers={"Origin": origin}).status_code == 403
    assert '"level": "error"' not in server.log()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_key_of_any_letters_is_compared_as_it_is_sent(encoding):
    settings = Settings(api_key="schlüssel")
    asks = Headers(raw=[(b"authorization", "Bearer schlüssel".encode(encoding))])
    guard.check_key(asks, settings)
    for wrong in ("schlüssel!", "schl?ssel", "", "schlÃ¼ssel"):
        with pytest.raises(Unauthorised):
            guard.check_key(Headers(raw=[(b"x-api-key", wrong.encode("utf-8"))]), settings)


def test_limits_of_the_body(server):
    told = raw(server, b"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{")
    assert told.recv(4096).startswith(b"HTTP/1.1 413")
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    untold = raw(server, b"POST /completion HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        for _ in range(80):
            untold.sendall(chunk)
    except ConnectionError:
        pass  # it has stopped reading
    assert untold.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_long_body_is_waited_for_as_curl_sends_it(server):
    """curl asks before it sends a long one, and waits a second where nobody answers; llama.vim drives curl."""
    head, _, body = request("/completion", SHORT).partition(b"\r\n\r\n")
    connection = raw(server, head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 100 Continue\r\n")
    connection.sendall(body)
    assert connection.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'"x"', b"nul", b"\xff", b"[" * 5000, b'"\\ud800"', b'{"a":"\\ud8"}']
)
def test_bodies_that_are_no_objects(server, data):
    for path in ("/completion", "/v1/chat/completions", "/infill"):
        answer = server.client.post(path, content=data)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["message"]


def test_half_a_surrogate_pair_is_a_replacement_character(server, code_model):
    text = r"\ud83d \ud83d\ude00 \ude00\uD83D\u00e9 \\ud83d \n\\\ud83d\ud83d\ude00 \ud83d"
    told = server.client.post("/tokenize", content=f'{{"content":"{text}"}}'.encode()).json()
    expected = "\ufffd 😀 \ufffd\ufffdé \\ud83d \n\\\ufffd😀 \ufffd"
    assert code_model.tokenizer.decode(told["tokens"]) == expected


def test_addresses_and_methods_that_are_not_there(server):
    missing = server.client.get("/../../etc/passwd")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    assert server.client.get("/v1/models/..%2F..%2Fetc%2Fpasswd").status_code == 404
    assert server.client.get("/completion").status_code == 405
    assert server.post("/completion", {**SHORT, "model": "/etc/passwd"}).json()["model"] == "tiny"


def test_the_log_has_numbers_and_no_prompts(server, keyed):
    secret = "hunter2_is_a_secret"
    before = len(server.log().splitlines())
    server.post("/completion", {**SHORT, "prompt": secret})
    server.post("/v1/chat/completions", {"messages": [{"role": secret, "content": secret}]})
    server.post("/completion", {"prompt": [secret, 10**9]})
    server.client.post("/infill", content=secret.encode())
    log = server.logged(lambda log: len(log.splitlines()) >= before + 4)
    lines = [json.loads(line) for line in log.splitlines()[before:]]
    # A line is written when its answer has gone out: on a busy machine the next request's may come first.
    answered = {(line["path"], line["status"]): line for line in lines}
    refused = ("/v1/chat/completions", "/completion", "/infill")
    assert set(answered) == {("/completion", 200), *((path, 400) for path in refused)}
    written = answered["/completion", 200]
    assert written["prompt_tokens"] > 0 and written["written_tokens"] == 4
    assert secret not in server.log()
    keyed.post("/completion", {**SHORT, "prompt": secret}, headers={"Authorization": f"Bearer {KEY}"})
    keyed.logged(lambda log: secret in log)


def test_metrics_count(server):
    names = ("codecria_read_tokens_total", "codecria_written_tokens_total", "codecria_first_token_seconds_count")
    before = [server.number(name) for name in names]
    answer = server.post("/completion", {**SHORT, "prompt": "a text that was not asked for before"}).json()
    assert answer["tokens_predicted"] - 4 in (0, 1)  # the prompt's last token, taken back, may come again beside them
    server.until(names[1], before[1] + answer["tokens_predicted"])
    after = [server.number(name) for name in names]
    assert after[0] - before[0] == answer["timings"]["prompt_n"]
    assert after[2] == before[2] + 1
    assert server.number("llamacpp:tokens_predicted_total") == after[1]
    assert 0 < server.number("codecria_cache_hit_share") < 1


@pytest.mark.parametrize(
    "path",
    ["/v1/completions", "/v1/chat/completions", "/v1/fim/completions", "/completion", "/infill", "/api/generate"],
)
def test_a_long_stop_string_is_one_and_of_many_there_are_too_many(server, path):
    asked = {"prompt": "x", "messages": [{"role": "user", "content": "x"}], "input_prefix": "x", "input_suffix": "y"}

    def status(stop):
        body = {**asked, "max_tokens": 1, "n_predict": 1, "stream": False}
        wrapped = {"options": {"num_predict": 1, "stop": stop}} if path.startswith("/api") else {"stop": stop}
        return server.post(path, {**body, **wrapped}).status_code

    assert [status(stop) for stop in ("x" * 100, ["x" * 100], ["x"] * 64, ["x"] * 65)] == [200, 200, 200, 400]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/apply-template", "/page/chat"])
def test_messages_are_nested_as_deep_as_is_wanted_and_not_deeper(server, path):
    def status(levels):
        nested = "[" * levels + "]" * levels
        message = f'{{"role":"user","content":"hi","x":{nested}}}'
        body = f'{{"messages":[{message}],"max_tokens":1,"options":{{"num_predict":1}},"stream":false}}'
        return server.client.post(path, content=body.encode()).status_code

    assert [status(levels) for levels in (2, 250, 300, 900)] == [200, 200, 400, 400]
    assert not [line for line in server.log().splitlines() if '"level": "error"' in line]


def test_the_openapi_document_has_every_address_and_form(server):
    document = server.client.get("/openapi.json").json()
    for dialect in all_dialects():
        for route in dialect.routes:
            operation = document["paths"][route.path.replace(":path", "")][route.method.lower()]
            assert ("requestBody" in operation) == (route.body is not None)
    form = document["components"]["schemas"]["InfillBody"]
    assert form["required"] == ["input_prefix", "input_suffix"]
    assert "t_max_predict_ms" in form["properties"]


def test_of_two_dialects_with_one_address_the_one_that_claims_has_the_request():
    async def segments(_call):
        return Reply({"other": True})

    def claim(call):
        return "segments" in call.body

    claims = Route("POST", "/v1/completions", segments, "Other", openai.CompletionBody, claims=claim)
    backend = Bridge(lambda: None, "x", Settings())
    app = build_app(backend, [openai.DIALECT, Dialect("other", (claims,), openai.error)], Settings())
    endpoint = next(route for route in app.routes if route.path == "/v1/completions").endpoint
    assert [dialect.name for dialect, _ in endpoint._owners] == ["other", "OpenAI"]
    transport = httpx.ASGITransport(app)

    async def ask(body):
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/completions", json=body)

    assert asyncio.run(ask({"segments": {"prefix": "x"}})).json() == {"other": True}
    loading = asyncio.run(ask({"prompt": "x"}))
    assert (loading.status_code, loading.headers["retry-after"]) == (503, "1")
    with pytest.raises(ValueError, match="two dialects"):
        build_app(backend, [openai.DIALECT, openai.DIALECT], Settings())


def whole_answer(connection):
    answer = b""
    while data := connection.recv(65536):
        answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    return json.loads(body)


def test_sigterm_lets_a_running_text_end(model_folder):
    with serving(model_folder, "--grace", "20") as server:
        connection = raw(server, request("/completion", {**LONG, "n_predict": 600}))
        server.until("codecria_running", 1)
        assert server.stop() == 0
        assert whole_answer(connection)["tokens_predicted"] in (600, 601)  # with the prompt's last


def test_a_full_queue_is_429_and_after_the_grace_time_a_text_ends_with_what_it_has(model_folder):
    with serving(model_folder, "--max-waiting", "0", "--grace", "0.3") as server:
        held = [raw(server, request("/completion", {**LONG, "seed": seed})) for seed in range(16)]
        server.until("codecria_texts", 16)
        refused = server.post("/completion", SHORT)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert server.post("/v1/completions", {"prompt": "x"}).json()["error"]["code"] == "rate_limit_exceeded"
        for each in held[1:]:
            each.close()
        server.until("codecria_texts", 1)
        assert server.post("/completion", SHORT).status_code == 200
        assert server.stop() == 0
        told = whole_answer(held[0])
    assert 0 < told["tokens_predicted"] < 1900
    assert told["stop_type"] == "limit"


def test_a_model_that_is_not_there_and_a_port_that_is_taken_are_errors_of_one_line(tmp_path):
    with pytest.raises(CodecriaError, match="nowhere"):
        serve(Bridge(lambda: load(tmp_path / "nowhere"), "nowhere", Settings()), Settings(port=0), print)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CodecriaError, match="give another --port"):
        serve(Bridge(lambda: load(tmp_path), "x", Settings()), Settings(port=taken.getsockname()[1]), print)


def test_while_the_model_is_loaded_it_answers_503_and_can_be_ended(model_folder):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "codecria.cli.main", "serve", str(model_folder), "--port", str(port)]
    slow = "import time, codecria.cli.options as options; options.load = lambda *_: time.sleep(60); "
    command[1:3] = ["-c", slow + "from codecria.cli.main import main; main()"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        answer = None
        while answer is None:
            assert process.poll() is None, process.stderr.read()
            try:
                answer = client.get("/health")
            except httpx.ConnectError:
                time.sleep(0.1)
        assert answer.status_code == 503
        assert answer.json()["error"] == {"code": 503, "message": "Loading model", "type": "unavailable_error"}
        for path, body in (("/infill", {"input_prefix": "", "input_suffix": ""}), ("/v1/completions", {"prompt": "x"})):
            refused = client.post(path, json=body)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    process.terminate()
    assert process.wait(60) == 0


def test_dialects_are_found_by_their_files():
    assert {dialect.name for dialect in all_dialects()} >= {llama_cpp.DIALECT.name, openai.DIALECT.name}

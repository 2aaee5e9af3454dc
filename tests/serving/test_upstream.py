"""`codecria serve --upstream` before a second process of our own, and before a server that speaks as vLLM does."""

import asyncio
import json
import logging
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import ollama
import openai
import pytest

from codecria.cli.serve import serve as command
from codecria.common.errors import CodecriaError
from codecria.generation.sampling import SamplingOptions
from codecria.serving.prepare import prepare
from codecria.serving.problems import Problem
from codecria.serving.requests import Complete, TextRequest
from codecria.serving.run import serve
from codecria.serving.settings import Settings
from codecria.serving.upstream import KEY_VARIABLE, Upstream
from codecria.serving.upstream_texts import UpstreamTexts
from tests.generation.openai_server import OpenAIServer
from tests.serving.conftest import PREFIX, SUFFIX, ServerProcess, serving
from tests.serving.test_app import KEY, LONG, raw, request

GREEDY = {"temperature": 0, "max_tokens": 12}
MESSAGES = [{"role": "user", "content": "Say something."}]
INFILL = {"max_tokens": 12, "order": "spm", "heal": False}


@pytest.fixture(scope="module")
def front(server, model_folder):
    with serving(model_folder, "--upstream", f"{server.url}/v1") as running:
        yield running


@pytest.fixture(scope="module")
def vllm(code_model):
    with OpenAIServer(code_model) as server:
        yield server


class TellsNoIds(OpenAIServer):
    def events(self, path, body):
        for event in super().events(path, body):
            for choice in event["choices"]:
                choice.pop("token_ids", None)
            if event.get("usage"):
                event["usage"]["completion_tokens"] = body["max_tokens"]
            yield event


def test_every_interface_infills_by_ids_through_it(front, code_model):
    assert front.line.startswith("codecria serves tiny at ")
    expected = code_model.infill(PREFIX, SUFFIX, **INFILL)
    infill = {"input_prefix": PREFIX, "input_suffix": SUFFIX, "n_predict": 12, "temperature": 0}
    told = front.post("/infill", infill).json()
    assert (told["content"], told["tokens_evaluated"]) == (expected.text, expected.prompt_tokens)
    assert told["tokens_predicted"] == 12
    body = {"prompt": PREFIX, "suffix": SUFFIX, **GREEDY}
    assert front.post("/v1/completions", body).json()["choices"][0]["text"] == expected.text
    mistral = front.post("/v1/fim/completions", body).json()["choices"][0]["message"]["content"]
    assert mistral == expected.text
    options = {"temperature": 0, "num_predict": 12}
    generated = ollama.Client(front.url).generate("x", prompt=PREFIX, suffix=SUFFIX, options=options)
    assert (generated.response, generated.prompt_eval_count) == (expected.text, expected.prompt_tokens)
    pasted = f"<PRE> {PREFIX} <SUF>{SUFFIX} <MID>"
    assert front.post("/completion", {"prompt": pasted, **infill}).json()["content"] == expected.text
    segments = {"segments": {"prefix": PREFIX, "suffix": SUFFIX}, "temperature": 0}
    block = code_model.infill(PREFIX, SUFFIX, **{**INFILL, "max_tokens": 64}, stop_at="block").text
    assert front.post("/v1/completions", segments).json()["choices"][0]["text"] == block


def test_completions_chats_and_streams(front, code_model):
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as client:
        plain = code_model.complete("import os\n", max_tokens=12, heal=False, logprobs=True)
        answer = client.completions.create(model="x", prompt="import os\n", logprobs=2, **GREEDY)
        assert answer.choices[0].text == plain.text
        assert answer.choices[0].logprobs.token_logprobs == pytest.approx(plain.log_probabilities, abs=1e-4)
        assert all(len(top) == 2 for top in answer.choices[0].logprobs.top_logprobs)
        assert answer.usage.completion_tokens == 12
        chat = code_model.chat(MESSAGES, max_tokens=12)
        assert client.chat.completions.create(model="x", messages=MESSAGES, **GREEDY).choices[0].message.content == (
            chat.text
        )
        chunks = list(client.chat.completions.create(model="x", messages=MESSAGES, stream=True, **GREEDY))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == chat.text
        assert len(chunks) > 5  # as they are written, not at once
        (found,) = client.models.list().data
        assert (found.id, found.max_model_len) == ("tiny", code_model.max_positions)


def test_samples_stops_and_seeds(front, server, code_model):
    greedy = front.post("/v1/completions", {"prompt": "import os\n", "n": 3, **GREEDY}).json()
    text = code_model.complete("import os\n", max_tokens=12, heal=False).text
    assert [choice["text"] for choice in greedy["choices"]] == [text] * 3
    hot = {"prompt": "import os\n", "n": 3, "temperature": 1.2, "seed": 4, "max_tokens": 8, "heal": False}
    here, there = (each.post("/v1/completions", hot).json()["choices"] for each in (front, server))
    assert [choice["text"] for choice in here] == [choice["text"] for choice in there]
    assert len({choice["text"] for choice in here}) > 1
    stop = {"prompt": "import os\n", **GREEDY, "stop": text[3:5]}
    assert front.post("/v1/completions", stop).json()["choices"][0]["text"] == text[: text.index(text[3:5])]
    warm_up = {"input_prefix": PREFIX, "input_suffix": SUFFIX, "n_predict": 0}
    assert front.post("/infill", warm_up).json()["content"] == ""


@pytest.mark.parametrize("stop", ["\n", "\n\n"])
def test_stop_words_of_a_document_with_cr_lf(front, server, code_model, stop):
    newline = code_model.tokenizer.encode("\n")[0]
    parts = {"input_prefix": PREFIX.replace("\n", "\r\n"), "input_suffix": "\r\nx\r\n"}
    body = {
        **parts,
        "n_predict": 9,
        "temperature": 0,
        "stop": [stop],
        "logit_bias": [[newline, 100]],
        "ignore_eos": True,
    }
    for each in (server, front):
        told = each.post("/infill", body).json()
        assert (told["stop_type"], told["stopping_word"]) == ("word", stop)
        assert "\r" not in told["content"]
        lines = each.post("/infill", {**body, "stream": True, "stop": ["x"]}).text.splitlines()
        pieces = [json.loads(line[6:])["content"] for line in lines if line]
        assert "".join(pieces).endswith("\r\n" * 8)
        assert "\r" not in "".join(pieces).replace("\r\n", "")


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_goes_ends_the_text_there(front, server, stream):
    before = server.number("codecria_cancelled_total")
    connection = raw(front, request("/completion", {**LONG, "stream": stream, "seed": 77 + stream}))
    server.until("codecria_running", 1)
    connection.close()
    server.until("codecria_cancelled_total", before + 1)
    server.until("codecria_texts", 0)
    front.until("codecria_texts", 0)


def test_a_rule_that_ends_a_text_here_ends_it_there(front, server):
    before = server.number("codecria_cancelled_total")
    body = {"prompt": "import os\n", "n_predict": 1500, "temperature": 0, "logit_bias": [["\n", 100]]}
    told = front.post("/completion", {**body, "t_max_predict_ms": 1}).json()
    assert set(told["content"]) <= {"\n"}
    assert told["tokens_predicted"] < 1500
    server.until("codecria_cancelled_total", before + 1)


def test_what_was_held_back_is_shown_when_time_runs_out(code_model):
    request = TextRequest(Complete("x"), SamplingOptions(max_tokens=9, stop=("abc",), n=2))
    texts = UpstreamTexts(request, prepare(code_model, request, None), code_model.tokenizer)
    assert [piece.text for piece in texts.take({"choices": [{"index": 0, "text": "xab"}]})] == ["x", "x"]
    assert [(piece.text, piece.finish_reason) for piece in texts.end_late()] == [("ab", "length")] * 2


def test_equal_requests_are_one_there_too(front, server):
    before = front.number("codecria_joined_total")
    body = {"prompt": "import sys\n", "temperature": 0, "max_tokens": 200}
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: front.post("/v1/completions", body).json(), range(3)))
    assert len({answer["choices"][0]["text"] for answer in answers}) == 1
    assert front.number("codecria_joined_total") > before
    assert server.number("codecria_texts") == 0


def test_a_server_that_speaks_as_vllm_does(vllm, model_folder, code_model):
    expected = code_model.infill(PREFIX, SUFFIX, **INFILL)
    with serving(model_folder, "--upstream", vllm.url, env={KEY_VARIABLE: KEY}) as front:
        answer = front.post("/v1/completions", {"prompt": PREFIX, "suffix": SUFFIX, **GREEDY}).json()
    assert answer["choices"][0]["text"] == expected.text
    assert answer["usage"]["completion_tokens"] == len(expected.ids)
    sent = vllm.bodies[-1]
    prepared = code_model.prepare_infill(PREFIX, SUFFIX, **INFILL)
    assert sent["prompt"] == list(prepared.ids) and "suffix" not in sent
    assert (sent["model"], sent["stream"], sent["return_token_ids"]) == ("tiny", True, True)
    assert set(prepared.options.stop_ids) <= set(sent["stop_token_ids"])
    assert set(vllm.keys) == {f"Bearer {KEY}"}


def test_a_text_without_a_limit_is_asked_for_as_long_as_the_context_holds(vllm, refused_front, code_model):
    positions = code_model.max_positions
    choice = {"index": 0, "text": "x", "token_ids": [70], "finish_reason": "length"}
    told = f"data: {json.dumps({'choices': [choice]})}\n\n"

    def answer(body):
        if len(body["prompt"]) + body["max_tokens"] > positions or body.get("min_tokens", 0) > body["max_tokens"]:
            return 400, {}, '{"error": {"message": "longer than max_model_len"}}'
        return 200, {"Content-Type": "text/event-stream"}, told

    vllm.refuse = answer
    asked = [
        ("/v1/chat/completions", {"messages": MESSAGES, "min_tokens": positions}),
        ("/api/chat", {"messages": MESSAGES, "stream": False}),
        ("/v1/fim/completions", {"prompt": PREFIX, "suffix": SUFFIX}),
        ("/completion", {"prompt": "import os\n"}),
    ]
    answers = [refused_front.post(path, body) for path, body in asked]
    vllm.refuse = lambda _body: None
    assert [each.status_code for each in answers] == [200] * 4, [each.text for each in answers]
    assert all(len(each["prompt"]) + each["max_tokens"] == positions for each in vllm.bodies[-4:])


def test_a_server_that_tells_no_ids(model_folder, code_model):
    with TellsNoIds(code_model) as plain, serving(model_folder, "--upstream", plain.url) as front:
        answer = front.post("/v1/completions", {"prompt": PREFIX, "suffix": SUFFIX, **GREEDY}).json()
    assert answer["choices"][0]["text"] == code_model.infill(PREFIX, SUFFIX, **INFILL).text
    assert answer["usage"]["completion_tokens"] == 12


def test_events_end_with_their_lines_alone(vllm, refused_front):
    text = "a\u2028b\u2029c\x85d"
    choices = [{"index": 0, "text": text}, {"index": 0, "text": "", "finish_reason": "stop"}]
    events = "".join(f"data: {json.dumps({'choices': [each]}, ensure_ascii=False)}\n\n" for each in choices)
    vllm.refuse = lambda _body: (200, {"Content-Type": "text/event-stream"}, events)
    answer = refused_front.post("/v1/completions", {"prompt": "x", "max_tokens": 2})
    vllm.refuse = lambda _body: None
    assert answer.json()["choices"][0]["text"] == text


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        ((429, {"Retry-After": "7"}, '{"error": {"message": "too many"}}'), 429),
        ((400, {}, '{"error": {"message": "no such thing"}}'), 400),
        ((401, {}, '{"error": {"message": "a key"}}'), 503),
        ((500, {}, "broken"), 503),
        ("drop", 503),
    ],
)
def test_what_the_engine_refuses_is_answered(vllm, refused_front, refusal, status):
    vllm.refuse = lambda _body: refusal
    answer = refused_front.post("/v1/completions", {"prompt": "x", "max_tokens": 2})
    vllm.refuse = lambda _body: None
    assert answer.status_code == status
    assert "engine" in answer.json()["error"]["message"]
    if status == 429:
        assert answer.headers["retry-after"] == "7"
    assert refused_front.post("/v1/completions", {"prompt": "x", "max_tokens": 2}).status_code == 200


@pytest.mark.parametrize(
    ("event", "named"),
    [
        ({"choices": [{"index": "a"}]}, "ValueError"),
        ({"choices": 5}, "TypeError"),
        ({"choices": [5]}, "AttributeError"),
        ({"choices": [{"index": 0, "token_ids": [999_999]}]}, "CodecriaError"),
        ([], None),
    ],
)
def test_what_is_no_event_is_503_and_the_log_says_why(vllm, refused_front, event, named):
    before = len(refused_front.log())
    vllm.refuse = lambda _body: (200, {"Content-Type": "text/event-stream"}, f"data: {json.dumps(event)}\n\n")
    answer = refused_front.post("/v1/completions", {"prompt": "x", "max_tokens": 2})
    vllm.refuse = lambda _body: None
    assert answer.status_code == 503
    assert "the engine sends what is no event" in answer.json()["error"]["message"]
    if named:
        refused_front.logged(lambda log: named in log[before:])


def test_a_fault_of_our_own_is_logged(refused_front, model_folder, monkeypatch, caplog):
    async def run():
        upstream = Upstream(refused_front.url + "/v1", str(model_folder), Settings())
        await upstream.start()
        logging.getLogger("codecria.serving").addHandler(caplog.handler)
        monkeypatch.setattr("codecria.serving.upstream.prepare", lambda *_: 1 / 0)
        try:
            async with upstream.submit(TextRequest(Complete("x"), SamplingOptions())) as ticket:
                await ticket.finished()
        finally:
            logging.getLogger("codecria.serving").removeHandler(caplog.handler)
            await upstream.stop()

    with pytest.raises(Problem, match="its log says more"):
        asyncio.run(run())
    assert "ZeroDivisionError" in caplog.text


@pytest.fixture(scope="module")
def refused_front(vllm, model_folder):
    with serving(model_folder, "--upstream", vllm.url) as front:
        yield front


def test_an_engine_that_dies_is_503_and_one_that_is_not_there_an_error_of_one_line(model_folder):
    engine = ServerProcess(model_folder)
    try:
        with serving(model_folder, "--upstream", f"{engine.url}/v1") as front:
            with ThreadPoolExecutor(1) as pool:
                waits = pool.submit(front.post, "/completion", LONG)
                engine.until("codecria_running", 1)
                engine.process.send_signal(signal.SIGKILL)
                assert waits.result().status_code == 503
            assert front.post("/completion", LONG).status_code == 503
            assert front.client.get("/health").status_code == 200
            began = time.monotonic()
            assert front.stop() == 0
            assert time.monotonic() - began < 10
    finally:
        engine.process.kill()
        engine.stop()
    for model, said in ((f"{engine.url}/v1", "does not answer"), ("here", "no URL")):
        with pytest.raises(CodecriaError, match=said):
            serve(Upstream(model, str(model_folder), Settings()), Settings(port=0), print)
    with pytest.raises(CodecriaError, match="--upstream alone"):
        command(tokenizer="x")

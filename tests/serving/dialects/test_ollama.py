"""Ollama's own Python client against the server."""

import json
import time
from datetime import datetime

import ollama
import pytest

from codecria.serving.dialects.ollama_bodies import GenerateBody
from codecria.serving.problems import BadRequest
from codecria.tokenizer.chat import encode_chat
from tests.serving.conftest import PREFIX, SUFFIX

GREEDY = {"temperature": 0, "num_predict": 10}
MESSAGES = [{"role": "user", "content": "Say something."}]


@pytest.fixture(scope="module")
def client(server):
    return ollama.Client(host=server.url)


@pytest.fixture(scope="module")
def plain_client(plain_server):
    return ollama.Client(host=plain_server.url)


def lines(answer):
    """The objects of a stream: one a line, compact, nothing between them."""
    assert answer.headers["content-type"] == "application/x-ndjson"
    parts = answer.text.split("\n")
    assert parts.pop() == ""
    return [json.loads(part) for part in parts]


def test_suffix_infills_by_ids(client, code_model):
    expected = code_model.infill(PREFIX, SUFFIX, max_tokens=10, order="spm")
    answer = client.generate("codellama:7b-code", prompt=PREFIX, suffix=SUFFIX, options=GREEDY)
    assert answer.response == expected.text
    assert (answer.prompt_eval_count, answer.eval_count) == (expected.prompt_tokens, len(expected.ids))
    assert (answer.done, answer.done_reason, answer.model) == (True, "length", "tiny")
    spelled = f"<PRE> {PREFIX} <SUF>{SUFFIX} <MID>"
    quoted = client.generate("x", prompt=spelled, suffix=SUFFIX, options=GREEDY)
    assert quoted.prompt_eval_count == code_model.infill(spelled, SUFFIX, max_tokens=10, order="spm").prompt_tokens


def test_a_middle_at_the_documents_end_is_no_chat(client, plain_client, code_model):
    expected = code_model.infill(PREFIX, "", max_tokens=10, order="spm")
    answer = client.generate("x", prompt=PREFIX, suffix="", options=GREEDY)
    assert (answer.response, answer.prompt_eval_count) == (expected.text, expected.prompt_tokens)
    assert plain_client.generate("x", prompt=PREFIX, suffix="", options=GREEDY).done  # nothing to insert before


def test_a_middle_at_the_documents_start(client, code_model):
    answer = client.generate("x", prompt="", suffix=SUFFIX, options=GREEDY)
    assert answer.response == code_model.infill("", SUFFIX, max_tokens=10, order="spm").text


@pytest.mark.parametrize("raw", [True, False])
def test_markers_in_a_prompt_are_the_layout(client, code_model, raw):
    """twinny says that its prompt is raw, llm-ls does not."""
    expected = code_model.infill(PREFIX, SUFFIX, max_tokens=10, order="spm").text
    for prompt in (f"<PRE> {PREFIX} <SUF>{SUFFIX} <MID>", f"<fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>"):
        assert client.generate("x", prompt=prompt, raw=raw, options=GREEDY).response == expected


@pytest.mark.parametrize("raw", [True, False])
def test_behind_pasted_markers_tokens_are_the_text_where_they_are_told(server, code_model, raw):
    expected = code_model.infill("import o", SUFFIX, max_tokens=6, order="spm", heal=False)
    body = {"prompt": f"<PRE> import o <SUF>{SUFFIX} <MID>", "raw": raw, "stream": False, "logprobs": True}
    told = server.post("/api/generate", {**body, "options": {"num_predict": 6, "temperature": 0}}).json()
    assert told["response"] == expected.text
    assert [each["bytes"] for each in told["logprobs"]] == [
        list(code_model.tokenizer.token_bytes(id)) for id in expected.ids
    ]


def test_raw_template_and_chat_prompts(client, code_model):
    raw = client.generate("x", prompt="import os\n", raw=True, options=GREEDY)
    assert raw.response == code_model.complete("import os\n", max_tokens=10).text
    assert raw.context is None
    filled = client.generate("x", prompt="os", template="import {{- .System }} {{ .Prompt }}\n", options=GREEDY)
    assert filled.response == code_model.complete("import os\n", max_tokens=10).text
    asked = client.generate("x", prompt="Say something.", system="Be brief.", options=GREEDY)
    messages = [{"role": "system", "content": "Be brief."}, *MESSAGES]
    assert asked.response == code_model.chat(messages, max_tokens=10).text


@pytest.mark.parametrize(
    "template", ["{{" + " " * 50_000, " " * (1 << 20), "{{ " * 100_000, "{{-" + " -}" * 100_000, "{{-" * 100_000]
)
def test_a_template_of_any_form_is_filled_in_time(template):
    body = GenerateBody.model_validate({"prompt": "x", "template": template})
    began = time.monotonic()
    body.filled_template()
    assert time.monotonic() - began < 1


def test_a_template_trims_on_the_sides_that_say_so():
    def filled(template):
        return GenerateBody.model_validate({"prompt": "p", "system": "s", "template": template}).filled_template()

    assert filled("a {{.Prompt}} \n {{- .System -}} \n b{{  .Prompt\t}}") == "a psbp"
    assert filled("{{ open { and } .Prompt") == "{{ open { and } .Prompt"
    assert filled("\n {{- .Prompt }} }}") == "p }}"
    for odd in ("{{ {.Prompt} }}", '{{ "}" }}', "{{}}"):
        with pytest.raises(BadRequest, match="is not understood"):
            filled(odd)


def test_a_conversation_goes_on_from_its_context(client, code_model):
    first = client.generate("x", prompt="Say something.", options=GREEDY)
    prompt = encode_chat(code_model.tokenizer, MESSAGES, add_generation_prompt=True).ids
    assert first.context[: len(prompt)] == prompt
    assert len(first.context) == len(prompt) + first.eval_count
    second = client.generate("x", prompt="Say something.", context=first.context, options=GREEDY)
    ids = [*first.context, *prompt[len(code_model.tokenizer.bos_ids) :]]
    assert second.prompt_eval_count == len(ids)
    prepared = code_model.prepare_ids(ids, max_tokens=10)
    expected = code_model.engine.generate([prepared.ids], prepared.options, [prepared.text])[0][0].text
    assert second.response == expected


def test_streams_are_lines_and_the_default(client, server):
    whole = client.generate("x", prompt=PREFIX, suffix=SUFFIX, options=GREEDY)
    parts = list(client.generate("x", prompt=PREFIX, suffix=SUFFIX, options=GREEDY, stream=True))
    assert "".join(part.response for part in parts) == whole.response
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    found = lines(server.post("/api/generate", {"model": "x", "prompt": PREFIX, "suffix": SUFFIX, "options": GREEDY}))
    assert "".join(part["response"] for part in found) == whole.response
    last = found[-1]
    assert (last["response"], last["done"], last["done_reason"]) == ("", True, "length")
    durations = [last[f"{name}_duration"] for name in ("load", "prompt_eval", "eval")]
    assert last["total_duration"] == pytest.approx(sum(durations), abs=10)
    assert all(isinstance(each, int) and each >= 0 for each in durations)
    assert last["total_duration"] > 100_000  # nanoseconds
    assert all(datetime.fromisoformat(part["created_at"]).tzinfo for part in found)


def test_chat_whole_and_streamed(client, code_model):
    expected = code_model.chat(MESSAGES, max_tokens=10).text
    answer = client.chat("x", messages=MESSAGES, options=GREEDY)
    assert (answer.message.role, answer.message.content) == ("assistant", expected)
    parts = list(client.chat("x", messages=MESSAGES, options=GREEDY, stream=True))
    assert "".join(part.message.content for part in parts) == expected
    assert parts[-1].done_reason == "length"


def test_options_reach_the_sampler(client, code_model):
    text = code_model.complete("import os\n", max_tokens=10).text
    stop = client.generate("x", prompt="import os\n", raw=True, options={**GREEDY, "stop": [text[3:5]]})
    assert (stop.response, stop.done_reason) == (text[: text.index(text[3:5])], "stop")
    seeded = {"num_predict": 12, "temperature": 1.5, "seed": 7, "top_k": 0, "top_p": 1.0}
    once, again = (client.generate("x", prompt="import os\n", raw=True, options=seeded).response for _ in range(2))
    assert once == again
    same = code_model.complete("import os\n", max_tokens=12, temperature=1.5, seed=7)
    assert once == same.text
    told = client.generate("x", prompt="import os\n", raw=True, options=GREEDY, logprobs=True, top_logprobs=2)
    expected = code_model.complete("import os\n", max_tokens=10, heal=False, logprobs=True)
    assert [each.logprob for each in told.logprobs] == pytest.approx(expected.log_probabilities, abs=1e-4)
    assert all(len(each.top_logprobs) == 2 for each in told.logprobs)


def test_an_empty_prompt_only_loads(client):
    for answer in (client.generate("x"), client.generate("x", keep_alive="5m", stream=False)):
        assert (answer.response, answer.done, answer.done_reason) == ("", True, "load")
    assert client.chat("x").message.content == ""


def test_what_is_told_of_the_model(client, plain_client, server):
    (model,) = client.list().models
    assert model.model == "tiny"
    assert model.size > 0 and len(model.digest) == 64
    assert [each.model for each in client.ps().models] == ["tiny"]
    shown = client.show("any")
    assert shown.capabilities == ["completion", "insert"]
    assert ".Suffix" in shown.template  # by which Continue knows
    assert "num_ctx 2048" in shown.parameters.splitlines()
    assert shown.modelinfo["llama.context_length"] == 2048
    assert shown.details.family == "llama"
    assert server.post("/api/show", {"name": "any"}).json()["model_info"] == shown.modelinfo
    plain = plain_client.show("any")
    assert plain.capabilities == ["completion"] and ".Suffix" not in plain.template
    assert server.client.get("/api/version").json()["version"].count(".") == 2


def test_whether_there_is_a_server(server):
    told = server.client.get("/", headers={"Accept": "*/*"})
    assert (told.status_code, told.text) == (200, "Ollama is running")
    head = server.client.head("/")
    assert (head.status_code, head.text, head.headers["content-length"]) == (200, "", str(len("Ollama is running")))
    page = server.client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.text != "Ollama is running"


def test_a_model_without_markers_does_not_insert(plain_client):
    with pytest.raises(ollama.ResponseError, match="does not support insert") as refused:
        plain_client.generate("x", prompt=PREFIX, suffix=SUFFIX)
    assert refused.value.status_code == 400


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"raw": True, "template": "{{ .Prompt }}"}, "raw"),
        ({"raw": True, "system": "x"}, "raw"),
        ({"raw": True, "context": [1]}, "raw"),
        ({"context": [999999]}, "999999"),
        ({"format": "json"}, "format"),
        ({"format": {"type": "object"}}, "format"),
        ({"think": True}, "thinking"),
        ({"images": ["aGVsbG8="]}, "text alone"),
        ({"template": "{{ range .Messages }}x{{ end }}"}, "template"),
        ({"options": {"temperature": "hot"}}, "temperature"),
        ({"options": {"repeat_penalty": -1}}, "repeat_penalty"),
        ({"prompt": 3}, "prompt"),
    ],
)
def test_what_is_wrong_is_said_in_ollamas_shape(server, change, said):
    answer = server.post("/api/generate", {"model": "x", "prompt": "x", **change})
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"]


def test_chat_refuses_tools_and_pictures(client):
    with pytest.raises(ollama.ResponseError, match="does not support tools"):
        client.chat("x", messages=MESSAGES, tools=[{"type": "function", "function": {"name": "f"}}])
    with pytest.raises(ollama.ResponseError, match="text alone"):
        client.chat("x", messages=[{"role": "user", "content": "x", "images": [b"png"]}])

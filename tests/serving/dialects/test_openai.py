"""OpenAI's own client against the server."""

import json

import openai
import pytest

from codecria.serving.dialects.openai_answers import _Offsets
from codecria.serving.requests import Piece
from tests.serving.conftest import PREFIX, SUFFIX

MESSAGES = [{"role": "user", "content": "Say something."}]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def plain_client(plain_server):
    with openai.OpenAI(base_url=f"{plain_server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def events(text):
    """The contents of a stream's events, each line of which must be one."""
    parts = text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") and "\n" not in part for part in parts)
    assert parts.pop() == "data: [DONE]"
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def test_models(client):
    (model,) = client.models.list().data
    assert model.id == client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_completion_is_the_models_own_text(client, code_model):
    answer = client.completions.create(model="any", prompt="import os\n", max_tokens=12, temperature=0)
    expected = code_model.complete("import os\n", max_tokens=12)
    assert answer.object == "text_completion"
    assert answer.choices[0].text == expected.text
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.prompt_tokens == expected.prompt_tokens
    assert answer.usage.completion_tokens == len(expected.ids)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_suffix_infills_by_ids(client, code_model):
    expected = code_model.infill(PREFIX, SUFFIX, max_tokens=12, order="spm")
    answer = client.completions.create(model="x", prompt=PREFIX, suffix=SUFFIX, max_tokens=12, temperature=0)
    assert answer.choices[0].text == expected.text
    assert answer.usage.prompt_tokens == expected.prompt_tokens
    plain = code_model.complete(PREFIX, max_tokens=12)
    assert answer.usage.prompt_tokens > plain.prompt_tokens  # llama.cpp ignores the field without a word


def test_an_empty_suffix_is_a_documents_end_and_no_layout(client, plain_client, code_model):
    """Continue and minuet send one in every new file; the code before the cursor may spell markers."""
    for prompt in (PREFIX, "<|fim_prefix|>x<|fim_suffix|>y<|fim_middle|>"):
        answer = client.completions.create(model="x", prompt=prompt, suffix="", max_tokens=12, temperature=0)
        expected = code_model.infill(prompt, "", max_tokens=12, order="spm")
        assert (answer.choices[0].text, answer.usage.prompt_tokens) == (expected.text, expected.prompt_tokens)
    assert (
        plain_client.completions.create(model="x", prompt=PREFIX, suffix="", max_tokens=2).usage.completion_tokens == 2
    )


def test_what_spells_a_marker_is_text_where_there_is_a_suffix_and_layout_where_there_is_none(client, code_model):
    spelled = f"<PRE> {PREFIX} <SUF>{SUFFIX} <MID>"
    pasted = client.completions.create(model="x", prompt=spelled, max_tokens=12, temperature=0)
    assert pasted.choices[0].text == code_model.infill(PREFIX, SUFFIX, max_tokens=12, order="spm").text
    quoted = client.completions.create(model="x", prompt=spelled, suffix=SUFFIX, max_tokens=12, temperature=0)
    expected = code_model.infill(spelled, SUFFIX, max_tokens=12, order="spm")
    assert quoted.choices[0].text == expected.text
    assert quoted.usage.prompt_tokens == expected.prompt_tokens > pasted.usage.prompt_tokens
    own = "<|fim_prefix|>x<|fim_suffix|>y<|fim_middle|>"
    chat = client.chat.completions.create(model="x", messages=[{"role": "user", "content": own}], max_tokens=4)
    plain = code_model.chat([{"role": "user", "content": own}], max_tokens=4)
    assert chat.usage.prompt_tokens == plain.prompt_tokens


@pytest.mark.parametrize("prompt", ["import os\n", ["import os\n", "x = "], [74, 75], [[74, 75], [76], [77, 78, 79]]])
def test_forms_of_prompts(client, code_model, prompt):
    answer = client.completions.create(model="x", prompt=prompt, max_tokens=6, temperature=0, n=2, seed=1)
    nested = prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]
    assert [choice.index for choice in answer.choices] == list(range(2 * len(nested)))
    for place, each in enumerate(nested):
        if isinstance(each, str):
            expected = code_model.complete(each, max_tokens=6).text
        else:
            prepared = code_model.prepare_ids(each, max_tokens=6)
            expected = code_model.engine.generate([prepared.ids], prepared.options, [prepared.text])[0][0].text
        assert [answer.choices[2 * place].text, answer.choices[2 * place + 1].text] == [expected] * 2
    parts = [""] * len(answer.choices)
    for chunk in client.completions.create(
        model="x", prompt=prompt, max_tokens=6, temperature=0, n=2, seed=1, stream=True
    ):
        parts[chunk.choices[0].index] += chunk.choices[0].text
    assert parts == [choice.text for choice in answer.choices]


def test_stream_ends_as_the_client_wants(client, server):
    options = {"model": "x", "prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 9, "temperature": 0}
    whole = client.completions.create(**options)
    chunks = list(client.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 9
    answer = server.post("/v1/completions", {**options, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = events(answer.text)
    assert all("usage" not in each for each in found)
    assert found[-1]["choices"][0]["finish_reason"] == "length"


def test_logprobs(client, code_model):
    options = {"model": "x", "prompt": "import os\n", "max_tokens": 5, "temperature": 0, "logprobs": 3}
    told = client.completions.create(**options).choices[0].logprobs
    expected = code_model.complete("import os\n", max_tokens=5, heal=False, logprobs=True)
    assert told.token_logprobs == pytest.approx(expected.log_probabilities, abs=1e-4)
    assert len(told.tokens) == len(told.top_logprobs) == 5
    for token, value, top in zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True):
        assert len(top) <= 3
        assert max(top.values()) == pytest.approx(value) and top[token] == value  # greedy
    assert told.text_offset[0] == len("import os\n")
    chunks = list(client.completions.create(**options, stream=True))
    assert [token for chunk in chunks if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.tokens] == (
        told.tokens
    )


def test_log_probabilities_are_told_where_they_are_asked_for(server):
    def told(**asked):
        body = {"prompt": "import o", "max_tokens": 2, "temperature": 0, **asked}
        return server.post("/v1/completions", body).json()["choices"][0]["logprobs"]

    assert [told(), told(logprobs=None), told(logprobs=False)] == [None] * 3
    assert [len(told(logprobs=best)["top_logprobs"][0]) for best in (0, True, 3)] == [0, 1, 3]


def test_offsets_count_characters_also_where_several_tokens_spell_one(code_model):
    tokenizer = code_model.tokenizer
    ids = tokenizer.encode("é😀x")
    parts = [tokenizer.token_bytes(id) for id in ids]
    told = _Offsets(tokenizer, 3, as_ids=False).told([Piece(0, id, "", log_probability=0.0) for id in ids])
    assert told["tokens"][0].startswith("bytes:") and told["tokens"][-1] == "x"
    before = [b"".join(parts[:place]).decode(errors="ignore") for place in range(len(parts))]
    assert told["text_offset"] == [3 + len(text) for text in before]
    assert told["text_offset"][-1] == 5


@pytest.mark.parametrize("asked", [{"logprobs": 0}, {"heal": False}])
def test_behind_pasted_markers_tokens_are_the_text_where_they_are_told(server, code_model, asked):
    expected = code_model.infill("import o", SUFFIX, max_tokens=6, order="spm", heal=False)
    assert expected.ids != code_model.infill("import o", SUFFIX, max_tokens=6, order="spm").ids
    body = {"prompt": f"<PRE> import o <SUF>{SUFFIX} <MID>", "max_tokens": 6, "temperature": 0}
    choice = server.post("/v1/completions", {**body, **asked, "return_token_ids": True}).json()["choices"][0]
    assert (choice["text"], choice["token_ids"]) == (expected.text, expected.ids)


def test_a_count_out_of_range_is_refused_and_ends_no_other_text(server):
    long = {"prompt": "import os\n", "max_tokens": 600, "min_tokens": 600, "seed": 1, "stream": True}
    with server.client.stream("POST", "/v1/completions", json=long) as answer:
        lines = answer.iter_lines()
        next(lines)
        for top_k in (2**31, 2**63, 2**64 - 1):
            refused = server.post("/v1/completions", {"prompt": "b", "max_tokens": 2, "top_k": top_k})
            assert refused.status_code == 400 and "top_k" in refused.json()["error"]["message"]
        *_, last, done = (line for line in lines if line)
    assert json.loads(last.removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
    assert done == "data: [DONE]"


def test_stop_strings_and_echo(client, code_model):
    text = code_model.complete("import os\n", max_tokens=20).text
    stop = text[4:6]
    answer = client.completions.create(model="x", prompt="import os\n", max_tokens=20, temperature=0, stop=stop)
    assert answer.choices[0].text == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    echoed = client.completions.create(model="x", prompt="import os\n", max_tokens=20, temperature=0, echo=True)
    assert echoed.choices[0].text == "import os\n" + text


def test_chat_whole_and_streamed(client, code_model):
    expected = code_model.chat(MESSAGES, max_tokens=10)
    options = {"model": "x", "messages": MESSAGES, "max_completion_tokens": 10, "temperature": 0}
    answer = client.chat.completions.create(**options, logprobs=True, top_logprobs=2)
    assert answer.choices[0].message.content == expected.text
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.prompt_tokens == expected.prompt_tokens
    assert all(len(each.top_logprobs) == 2 for each in answer.choices[0].logprobs.content)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == expected.text
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage.total_tokens == answer.usage.total_tokens


def test_chat_takes_parts_and_refuses_pictures(client):
    parts = [{"type": "text", "text": "Say "}, {"type": "text", "text": "something."}]
    options = {"model": "x", "max_tokens": 5, "temperature": 0}
    joined = client.chat.completions.create(messages=[{"role": "user", "content": parts}], **options)
    whole = client.chat.completions.create(messages=MESSAGES, **options)
    assert joined.choices[0].message.content == whole.choices[0].message.content
    picture = [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]
    with pytest.raises(openai.BadRequestError, match="no text"):
        client.chat.completions.create(messages=[{"role": "user", "content": picture}], **options)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"n": 0}, "n"),
        ({"n": 100}, "texts"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "empty"),
        ({"prompt": [999999]}, "999999"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"logit_bias": {"999999": 1}}, "999999"),
        ({"best_of": 3}, "best_of"),
        ({"prompt": [74], "suffix": "x"}, "suffix"),
        ({"max_tokens": "many"}, "max_tokens"),
    ],
)
def test_what_is_wrong_is_said_in_openais_shape(server, change, param):
    answer = server.post("/v1/completions", {"prompt": "x", "max_tokens": 2, **change})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert param in error["message"]


def test_limits_by_llama_cpps_names_and_options_by_ollamas(server):
    def written(path, **body):
        told = server.post(path, {"temperature": 0, **body}).json()
        return told["usage"]["completion_tokens"], told["choices"][0]["finish_reason"]

    chat = {"messages": MESSAGES}
    assert written("/v1/chat/completions", **chat, n_predict=0) == (0, "length")
    assert written("/v1/chat/completions", **chat, n_predict=3) == (3, "length")
    assert written("/v1/completions", prompt="x", n_predict=3) == (3, "length")
    assert written("/v1/completions", prompt="x", options={"num_predict": 3}) == (3, "length")
    assert written("/v1/completions", prompt="x", options={"num_predict": 3}, max_tokens=2) == (2, "length")
    assert written("/v1/completions", prompt=[74] * 2040, max_tokens=-1)[0] > 1
    for limit in (-2, 2**32, "many"):
        assert server.post("/v1/completions", {"prompt": "x", "max_tokens": limit}).status_code == 400


def test_a_prompt_over_the_context_has_its_code(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="x", prompt=[74] * 2048)
    assert refused.value.code == "context_length_exceeded"


def test_a_model_without_markers_refuses_a_suffix_and_completes(plain_client):
    with pytest.raises(openai.APIStatusError, match="infill") as refused:
        plain_client.completions.create(model="x", prompt=PREFIX, suffix=SUFFIX)
    assert refused.value.status_code == 501
    assert plain_client.completions.create(model="x", prompt=PREFIX, max_tokens=3).usage.completion_tokens == 3

"""Mistral's address for middles, as Continue and minuet read its answers."""

import json

import pytest

from tests.serving.conftest import PREFIX, SUFFIX

BODY = {"model": "codestral-latest", "prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 10, "temperature": 0}


@pytest.mark.parametrize("path", ["/v1/fim/completions", "/fim/completions"])
def test_a_middle_by_ids_in_the_shape_of_a_chat(server, code_model, path):
    expected = code_model.infill(PREFIX, SUFFIX, max_tokens=10, order="spm")
    answer = server.post(path, BODY).json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": expected.text, "refusal": None}
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["prompt_tokens"] == expected.prompt_tokens


def test_a_stream(server, code_model):
    parts = server.post("/v1/fim/completions", {**BODY, "stream": True}).text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == code_model.infill(PREFIX, SUFFIX, max_tokens=10, order="spm").text
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_without_a_suffix_it_goes_on(server, code_model):
    body = {**BODY, "suffix": None}
    content = server.post("/v1/fim/completions", body).json()["choices"][0]["message"]["content"]
    assert content == code_model.complete(PREFIX, max_tokens=10).text


def test_an_empty_suffix_is_a_documents_end_and_a_prompt_is_never_a_layout(server, code_model):
    def said(prompt, suffix):
        answer = server.post("/v1/fim/completions", {**BODY, "prompt": prompt, "suffix": suffix}).json()
        return answer["choices"][0]["message"]["content"]

    spelled = f"<|fim_prefix|>{PREFIX}<|fim_suffix|>{SUFFIX}<|fim_middle|>"
    for prompt in (PREFIX, spelled):
        assert said(prompt, "") == code_model.infill(prompt, "", max_tokens=10, order="spm").text
    assert said(spelled, None) == code_model.complete(spelled, max_tokens=10).text


def test_stop_and_the_fewest_tokens(server, code_model):
    text = code_model.infill(PREFIX, SUFFIX, max_tokens=10, order="spm").text
    stopped = server.post("/v1/fim/completions", {**BODY, "stop": text[2:4]}).json()["choices"][0]
    assert stopped["message"]["content"] == text[: text.index(text[2:4])]
    assert stopped["finish_reason"] == "stop"
    # Texts of the tiny model hardly ever end by themselves: of many draws some do, and with min_tokens none.
    hot = {**BODY, "temperature": 3.0, "max_tokens": 20}

    def shortest(**more):
        answers = [server.post("/v1/fim/completions", {**hot, **more, "random_seed": seed}) for seed in range(16)]
        reasons = {answer.json()["choices"][0]["finish_reason"] for answer in answers}
        return min(answer.json()["usage"]["completion_tokens"] for answer in answers), reasons

    fewest, reasons = shortest()
    assert fewest < 20 and "stop" in reasons
    assert shortest(min_tokens=20) == (20, {"length"})


def test_what_is_wrong_is_said(server, plain_server):
    assert server.post("/v1/fim/completions", {"suffix": "x"}).json()["error"]["message"].startswith("Field 'prompt'")
    assert plain_server.post("/v1/fim/completions", BODY).status_code == 501

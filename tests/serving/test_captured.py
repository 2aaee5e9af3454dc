"""Requests of llama.vim, llama.vscode, Continue, twinny, minuet and llm-ls, and what each demands of the answer.

Where a plugin does not run here, what it does with an answer is done here in its stead: see `bodies/` for sources.
"""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.serving.captured import NAMES, captured, play
from tests.serving.conftest import PREFIX, SUFFIX

NUMBERS = [f"timings/{kind}_{name}" for kind in ("prompt", "predicted") for name in ("n", "ms", "per_second")]
EVENTS = ["continue_chat", "continue_llama_cpp", "continue_mistral", "continue_openai", "minuet", "minuet_codestral"]
EVENTS += ["twinny_llama_cpp", "twinny_openai_compatible"]
ENDLESS = ["llama_vim_instruct"]  # without a limit: the tiny model writes until its context is full
LINES = ["continue_ollama", "continue_ollama_at_the_end", "twinny_ollama"]
OBJECTS = sorted(set(NAMES) - set(EVENTS) - set(LINES) - set(ENDLESS))


@pytest.fixture(scope="module")
def middle(code_model):
    """The middle of a captured request as the model itself writes it, greedily as Continue's nearly is."""

    def written(body, prefix, suffix):
        limit = body.get("max_tokens") or body.get("n_predict") or body["options"]["num_predict"]
        return code_model.infill(prefix, suffix, max_tokens=limit, order="spm").text

    return written


def events(answer):
    """As the plugins split a stream: lines that begin with `data: `, one object each. Nothing else may stand there."""
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    parts = answer.text.split("\n\n")
    parts.pop()
    # A line with `: ping` ends Continue's stream, and a `data:` of several lines is two of minuet's.
    assert all(part.startswith("data: ") and "\n" not in part for part in parts)
    return [part.removeprefix("data: ") for part in parts]


@pytest.mark.parametrize("name", NAMES)
def test_each_says_where_it_is_from_and_is_answered(server, name):
    assert captured(name).notes.startswith(("Captured from ", "Written from "))
    answer = play(server, name, events=8 if name in ENDLESS else None)
    assert answer.status_code == 200, answer.text
    server.until("codecria_texts", 0)


@pytest.mark.parametrize("name", OBJECTS)
def test_json_is_one_line_without_spaces(server, name):
    answer = play(server, name)
    assert answer.headers["content-type"] == "application/json"
    assert answer.text == json.dumps(answer.json(), separators=(",", ":"), ensure_ascii=False)
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize("name", EVENTS)
def test_a_stream_has_events_alone(server, name):
    *pieces, last = events(play(server, name))
    assert all(isinstance(json.loads(piece), dict) for piece in pieces)
    if captured(name).path == "/completion":
        assert json.loads(last)["stop"] is True  # llama.cpp's have no [DONE]
    else:
        assert last == "[DONE]"


def test_llama_vim_gets_the_fields_it_picks_and_finds_the_content_before_it_decodes(server):
    answer, wanted = play(server, "llama_vim"), captured("llama_vim").body["response_fields"]
    assert re.match(r"\s*\{", answer.text) and re.search(r'"content"\s*:"', answer.text)
    told = answer.json()
    assert list(told) == wanted  # flat: the key is the path
    assert isinstance(told["content"], str) and isinstance(told["tokens_cached"], int)
    assert all(isinstance(told[name], int | float) for name in NUMBERS)


def test_llama_vim_reads_other_files_ahead_of_the_request_that_follows(server):
    answer = play(server, "llama_vim_ahead")
    assert answer.text == "{}"
    whole = server.post("/infill", {**captured("llama_vim").body, "response_fields": []}).json()
    assert {"content", "timings", "generation_settings"} <= set(whole)
    body = {**captured("llama_vim").body, "response_fields": ["timings/cache_n", "no/such", "stop_type/x"]}
    told = server.post("/infill", body).json()
    assert list(told) == ["timings/cache_n"]  # what is not there is left out
    (file,) = body["input_extra"]
    shown = server.post("/tokenize", {"content": f"# {file['filename']}\n" + file["text"][:40]}).json()["tokens"]
    assert told["timings/cache_n"] >= len(shown)


def test_llama_vims_instruction_is_read_ahead_and_no_answer_written_to_it(server):
    before = server.number("codecria_written_tokens_total")
    told = play(server, "llama_vim_instruct_ahead").json()
    assert told["usage"]["completion_tokens"] == 0
    assert server.number("codecria_written_tokens_total") == before
    before = server.number("codecria_cancelled_total")
    texts = [json.loads(event) for event in events(play(server, "llama_vim_instruct", 20, temperature=0))]
    server.until("codecria_cancelled_total", before + 1)  # its cancel key closes the connection
    assert all(isinstance(each["choices"][0]["delta"].get("content", ""), str) for each in texts)
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in texts)


def test_llama_vscode_gets_a_list_where_it_asks_for_several_and_settings_in_each(server):
    told = play(server, "llama_vscode").json()
    assert [each["index"] for each in told] == [0, 1, 2]
    for each in (*told, play(server, "llama_vscode_ahead").json()):
        assert isinstance(each["content"], str)
        assert each["generation_settings"]["n_ctx"] > 0  # read in a timer, where a TypeError ends its looking ahead
    edit = play(server, "llama_vscode_edit").json()
    assert isinstance(edit["choices"][0]["message"]["content"], str)
    # -1 is no limit.
    assert len(events(play(server, "llama_vscode_edit", 40, stream=True, temperature=0))) >= 40


def test_what_llama_vscode_asks_about_the_server(server):
    assert server.client.get("/health").json()["status"] == "ok"
    (model,) = server.client.get("/v1/models").json()["data"]
    assert (model["owned_by"], model["object"]) == ("llamacpp", "model")
    assert model["meta"]["n_ctx_train"] > 0 and isinstance(model["id"], str)
    assert server.client.get("/props").json()["default_generation_settings"]["n_ctx"] > 0


def test_continue_reads_content_on_llama_cpps_address(server, middle):
    found = [json.loads(event) for event in events(play(server, "continue_llama_cpp"))]
    # Tabby needs both keys in each.
    assert all(isinstance(each["content"], str) and isinstance(each["stop"], bool) for each in found)
    body = captured("continue_llama_cpp").body
    assert "".join(each["content"] for each in found) == middle(body, PREFIX, SUFFIX)


@pytest.mark.parametrize("name", ["continue_openai", "minuet"])
def test_text_of_the_first_choice_on_openais_address(server, middle, name):
    found = [json.loads(event) for event in events(play(server, name, temperature=0))[:-1]]
    text = "".join(each["choices"][0]["text"] for each in found)
    body = captured(name).body
    if name == "continue_openai":
        assert text == middle(body, PREFIX, SUFFIX)
    else:
        assert text and len(found) > 2  # as it is written: curl gives up after 3 s and shows what has come


@pytest.mark.parametrize("name", ["continue_mistral", "minuet_codestral"])
def test_a_delta_of_the_first_choice_on_mistrals_address(server, name):
    found = [json.loads(event) for event in events(play(server, name, temperature=0))[:-1]]
    assert all(isinstance(each["choices"][0]["delta"].get("content", ""), str) for each in found)
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in found)


@pytest.mark.parametrize("name", LINES)
def test_a_response_or_an_error_in_each_line_on_ollamas_address(server, code_model, name):
    answer = play(server, name)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = answer.text.split("\n")
    assert lines.pop() == ""
    found = [json.loads(line) for line in lines]
    assert all(isinstance(each["response"], str) for each in found)
    assert [each["done"] for each in found] == [False] * (len(found) - 1) + [True]
    body = captured(name).body
    suffix = "" if name == "continue_ollama_at_the_end" else SUFFIX
    prefix = PREFIX if "continue" in name else body["prompt"].removeprefix("<PRE> ").partition(" <SUF>")[0]
    expected = code_model.infill(prefix, suffix, max_tokens=24, order="spm")
    assert found[-1]["prompt_eval_count"] == expected.prompt_tokens  # a middle, not a chat


def test_continue_finds_out_from_ollamas_show_that_the_model_infills(server):
    told = server.post("/api/show", {"name": "codellama:7b"}).json()
    assert ".Suffix" in told["template"]
    # A line that this does not match is a TypeError there, and the model then does not infill.
    lines = [re.match(r'^(\S+)\s+((?:".*")|\S+)$', line) for line in told["parameters"].split("\n")]
    assert all(lines)
    assert all(isinstance(json.loads(line[2]), str) for line in lines if line[1] == "stop")


def test_twinnys_limit_counts_by_whichever_name(server):
    found = [json.loads(event) for event in events(play(server, "twinny_llama_cpp", temperature=0))]
    assert found[-1]["tokens_predicted"] == 24
    options = {**captured("twinny_openai_compatible").body["options"], "temperature": 0}
    told = play(server, "twinny_openai_compatible", stream=False, options=options).json()
    assert told["usage"]["completion_tokens"] == 24


def test_three_equal_requests_of_minuet_share_their_prompt_and_are_three_texts(server):
    before = server.number("codecria_read_tokens_total")
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: play(server, "minuet"), range(3)))
    texts = {"".join(json.loads(each)["choices"][0]["text"] for each in events(answer)[:-1]) for answer in answers}
    assert len(texts) > 1
    body = {**captured("minuet").body, "stream": False}
    tokens = server.post("/v1/completions", body).json()["usage"]["prompt_tokens"]
    server.until("codecria_running", 0)
    assert server.number("codecria_read_tokens_total") - before < 2 * tokens


def test_llm_ls_reads_the_text_of_every_choice(server):
    told = play(server, "llm_ls").json()
    assert [isinstance(choice["text"], str) for choice in told["choices"]] == [True]

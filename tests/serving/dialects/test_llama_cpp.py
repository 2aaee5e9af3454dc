"""llama.cpp's addresses: fields, limits, samplers, errors. What plugins demand of them is in test_captured.py."""

import asyncio
import contextlib
import json
import threading

import pytest

from codecria.serving.dialects.llama_cpp import completion, tokenize
from codecria.serving.dialects.llama_cpp_bodies import CompletionBody
from codecria.serving.problems import BadRequest, Busy
from codecria.serving.requests import ModelInfo
from codecria.serving.routes import Call
from codecria.serving.settings import Settings
from tests.serving.conftest import PREFIX, SUFFIX

CODE = {"input_prefix": PREFIX, "input_suffix": SUFFIX, "n_predict": 12, "temperature": 0}
FIELDS = {
    "index", "content", "tokens", "id_slot", "stop", "model", "tokens_predicted", "tokens_evaluated",
    "generation_settings", "prompt", "has_new_line", "truncated", "stop_type", "stopping_word", "tokens_cached",
    "timings",
}  # fmt: skip
TIMINGS = {
    "cache_n", "prompt_n", "prompt_ms", "prompt_per_token_ms", "prompt_per_second", "predicted_n", "predicted_ms",
    "predicted_per_token_ms", "predicted_per_second",
}  # fmt: skip


def test_the_middle_is_the_models_own_and_every_field_is_there(server, code_model):
    told = server.post("/infill", CODE).json()
    expected = code_model.infill(PREFIX, SUFFIX, max_tokens=12, order="spm")
    assert told["content"] == expected.text
    assert told["tokens_evaluated"] == expected.prompt_tokens
    assert told["tokens_predicted"] == len(expected.ids) == 12
    assert set(told) == FIELDS
    assert set(told["timings"]) == TIMINGS
    assert told["timings"]["cache_n"] + told["timings"]["prompt_n"] == expected.prompt_tokens
    assert told["stop_type"] == "limit"


def test_the_line_at_the_cursor_belongs_to_the_prefix_wherever_it_is_cut(server):
    whole = server.post("/infill", CODE).json()
    for cut in range(len(PREFIX)):
        parts = {"input_prefix": PREFIX[:cut], "prompt": PREFIX[cut:]}
        told = server.post("/infill", {**CODE, **parts}).json()
        assert (told["content"], told["prompt"]) == (whole["content"], whole["prompt"])


def test_other_files_stand_behind_the_beginning_and_before_the_markers(server, code_model):
    files = [("shapes.py", "def perimeter(radius):\n    return 2 * 3.14 * radius\n")]
    body = {**CODE, "input_extra": [{"filename": name, "text": text} for name, text in files]}
    told = server.post("/infill", body).json()
    expected = code_model.infill(PREFIX, SUFFIX, max_tokens=12, order="spm", files=files)
    assert told["content"] == expected.text
    assert told["tokens_evaluated"] == expected.prompt_tokens


@pytest.mark.parametrize(
    "extra",
    [{}, {"filename": "ok"}, {"filename": 123}, {"filename": 123, "text": "x"}, {"text": 5}, {"text": ["x"]}, "x"],
)
def test_malformed_extra_context_is_400(server, extra):
    answer = server.post("/infill", {**CODE, "input_extra": [extra]})
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"code", "message", "type"}
    assert server.post("/infill", {**CODE, "input_extra": extra or 5}).status_code == 400


@pytest.mark.parametrize(
    "change",
    [{"input_prefix": None}, {"input_suffix": None}, {"input_prefix": 3}, {"prompt": ["x"]}, {"n_cmpl": 0},
     {"n_cmpl": 17}, {"top_k": "many"}, {"stop": 5}, {"stop": [5]}, {"t_max_predict_ms": "x"}],
)  # fmt: skip
def test_malformed_infill_is_400_and_names_the_field(server, change):
    answer = server.post("/infill", {**CODE, **change})
    assert answer.status_code == 400
    assert next(iter(change)) in answer.json()["error"]["message"]


def test_a_model_without_markers_answers_501_in_llama_cpps_words(plain_server):
    answer = plain_server.post("/infill", CODE)
    assert answer.status_code == 501
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == (501, "not_supported_error")
    assert error["message"].startswith("Infill is not supported by this model")


def test_markers_in_the_code_are_text(server, code_model):
    prefix, suffix = "x = '<PRE> a <SUF> b <MID>'\n", "<|fim_middle|><|im_end|><EOT>\n"
    told = server.post("/infill", {**CODE, "input_prefix": prefix, "input_suffix": suffix}).json()
    expected = code_model.infill(prefix, suffix, max_tokens=12, order="spm")
    assert (told["content"], told["tokens_evaluated"]) == (expected.text, expected.prompt_tokens)


def test_completion_goes_on_from_text_ids_and_both(server, code_model):
    tokenizer = code_model.tokenizer
    options = {"n_predict": 8, "temperature": 0, "heal": False}
    expected = code_model.complete("import os\n", max_tokens=8, heal=False).text
    ids = tokenizer.encode("import os\n")
    for prompt in ("import os\n", ids, [*ids[:2], tokenizer.decode(ids[2:])], [ids], ["import os\n"]):
        assert server.post("/completion", {"prompt": prompt, **options}).json()["content"] == expected
    several = server.post("/completions", {"prompt": ["import os\n", ids, [74, "x"]], **options}).json()
    assert [each["content"] for each in several][:2] == [expected, expected]
    assert [each["index"] for each in several] == [0, 1, 2]
    for prompt in ([], [[]], [10**9], [[74, ["x"]]], {"a": 1}, [-1]):
        assert server.post("/completion", {"prompt": prompt, **options}).status_code == 400


class RecordingTokenizer:
    """A model's tokenizer that notes what it encoded and in which thread it was asked."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.encoded, self.threads = [], set()

    def __getattr__(self, name):
        found = getattr(self._tokenizer, name)
        if name in ("encode", "encode_infilling", "token_bytes"):
            self.threads.add(threading.current_thread())
        if name.startswith("encode"):
            return lambda text: self.encoded.append(text) or found(text)
        return found


class FullBackend:
    """Has a model and no room."""

    sentinels = None

    def __init__(self, code_model):
        self.tokenizer = RecordingTokenizer(code_model.tokenizer)
        self.info = ModelInfo("tiny", code_model.max_positions, 0, 0, 0, 0, 0)

    def submit(self, _request):
        raise Busy("full")


@pytest.mark.parametrize(
    ("handler", "body"),
    [
        (completion, {"prompt": [1, "import os\n"]}),
        (completion, {"prompt": [[1], ["import os\n", 1]]}),
        (completion, {"prompt": "x", "logit_bias": [["import", 1]]}),
        (tokenize, {"content": "import os\n", "with_pieces": True}),
    ],
)
def test_texts_are_encoded_beside_the_connections(code_model, handler, body):
    backend = FullBackend(code_model)
    call = Call(backend, Settings(), None, body, {}, {}, {})
    with contextlib.suppress(Busy):
        asyncio.run(handler(call))
    assert backend.tokenizer.encoded
    assert threading.current_thread() not in backend.tokenizer.threads


@pytest.mark.parametrize("prompt", [[1, "x = 1\n" * 100_000], [["x = 1\n" * 100_000, 1], "x"]])
def test_an_endless_mixed_prompt_is_refused_before_it_is_encoded(code_model, prompt):
    tokenizer = RecordingTokenizer(code_model.tokenizer)
    with pytest.raises(BadRequest, match="600000 characters"):
        CompletionBody(prompt=prompt).prompts(tokenizer, code_model.max_positions)
    assert not tokenizer.encoded


def test_a_prompt_with_pasted_markers_is_healed_where_that_is_wanted(server, code_model):
    body = {"prompt": f"<PRE> import o <SUF>{SUFFIX} <MID>", "n_predict": 6, "temperature": 0, "return_tokens": True}
    for heal in (True, False):
        expected = code_model.infill("import o", SUFFIX, max_tokens=6, order="spm", heal=heal)
        assert server.post("/completion", {**body, "heal": heal}).json()["tokens"] == expected.ids


def test_a_stop_word_of_a_document_with_cr_lf_is_told(server, code_model):
    (line_feed,) = code_model.tokenizer.encode_infilling("\n")
    body = {"input_prefix": "import os\r\nx = ", "input_suffix": "\r\nprint(x)\r\n", "n_predict": 8, "temperature": 0}
    told = server.post("/infill", {**body, "logit_bias": [[line_feed, 100]], "stop": ["never", "\r\n"]}).json()
    assert (told["stop_type"], told["stopping_word"]) == ("word", "\r\n")


def test_stop_words_and_probabilities(server):
    whole = server.post("/completion", {"prompt": "import os\n", "n_predict": 20, "temperature": 0}).json()
    word = whole["content"][3:5]
    told = server.post(
        "/completion",
        {"prompt": "import os\n", "n_predict": 20, "temperature": 0, "stop": [word, "never"], "return_tokens": True},
    ).json()
    assert told["content"] == whole["content"][: whole["content"].index(word)]
    assert (told["stop_type"], told["stopping_word"]) == ("word", word)
    assert len(told["tokens"]) == told["tokens_predicted"] < 20
    body = {"prompt": "import os\n", "n_predict": 3, "temperature": 0, "n_probs": 4}
    for each in server.post("/completion", body).json()["completion_probabilities"]:
        assert len(each["top_logprobs"]) == 4
        assert each["top_logprobs"][0]["id"] == each["id"]


def test_lines_with_less_indentation_end_a_middle(server, code_model):
    # The tiny model writes `return`s; a bias makes it end lines.
    newline = code_model.tokenizer.encode("\n")[0]
    body = {**CODE, "n_predict": 6, "logit_bias": [[newline, 100]], "ignore_eos": True}
    assert server.post("/infill", body).json()["content"].count("\n") > 1
    ended = code_model.tokenizer.encode("x")[0]
    mixed = {**body, "logit_bias": [[newline, 50], [ended, 50]], "temperature": 1.0, "seed": 3, "n_predict": 40}
    cut = server.post("/infill", {**mixed, "n_indent": 4}).json()
    free = server.post("/infill", mixed).json()
    assert free["content"].startswith(cut["content"])
    assert free["content"][len(cut["content"])] == "\n"
    assert all(not line.strip() or line.startswith("    ") for line in cut["content"].split("\n")[1:])
    assert cut["stop_type"] == "limit"


def test_the_infill_sampler_would_rather_end(server):
    """Untrained, the tiny model is sure of nothing: the sampler ends at once, and `top_k` alone goes on."""
    body = {**CODE, "temperature": 0.8, "input_prefix": "x", "input_suffix": "\n", "seed": 5, "heal": False}
    ended = server.post("/infill", {**body, "samplers": ["top_k", "top_p", "infill"]}).json()
    assert (ended["stop_type"], ended["content"]) == ("eos", "")
    assert server.post("/infill", {**body, "samplers": ["top_k"]}).json()["tokens_predicted"] == 12


def test_a_seed_repeats_a_text_and_minus_one_does_not(server):
    body = {"prompt": "import os\n", "n_predict": 20, "temperature": 1.5}
    texts = [server.post("/completion", {**body, "seed": seed}).json()["content"] for seed in (7, 7, -1, -1, 2**32 - 1)]
    assert texts[0] == texts[1]
    assert len(set(texts[1:])) == 4


@pytest.mark.parametrize("token", ["²", "--1", "--5", "-", "5" * 5000, "-1", "99999999999", "٣", "5\n"])
def test_a_bias_is_of_an_id_or_of_a_text_whatever_it_looks_like(server, token):
    for biases in ([[token, 1]], {token: 1}):
        answer = server.post("/infill", {**CODE, "n_predict": 1, "logit_bias": biases})
        assert answer.status_code == (400 if token == "-1" else 200), answer.text


def test_grammars_are_refused_not_ignored(server):
    for field in ({"grammar": 'root ::= "x"'}, {"json_schema": {"type": "object"}}):
        assert server.post("/completion", {"prompt": "x", **field}).status_code == 501


def test_what_a_plugin_asks_of_the_server(server):
    assert server.client.get("/health").json()["status"] == "ok"
    tabby = server.client.get("/v1/health").json()
    assert tabby["status"] == "ok"
    assert {"device", "arch", "cpu_info", "cpu_count", "cuda_devices", "version"} <= set(tabby)
    assert "git_describe" in tabby["version"]
    (model,) = server.client.get("/v1/models").json()["data"]
    assert model["owned_by"] == "llamacpp" and model["meta"]["n_ctx_train"] == 2048
    assert server.client.get("/models").json()["data"][0]["id"] == model["id"]
    props = server.client.get("/props").json()
    assert props["default_generation_settings"]["n_ctx"] == 2048 and props["total_slots"] == 16
    assert set(props["default_generation_settings"]) >= {"n_ctx", "params"}
    assert "<|im_start|>" in props["chat_template"] and props["build_info"].startswith("codecria-")
    assert props["is_sleeping"] is False and "/" not in props["model_path"]
    assert len(server.client.get("/slots").json()) == 16


def test_numbers_by_llama_cpps_names(server):
    server.post("/completion", {"prompt": "a prompt for the numbers", "n_predict": 3, "temperature": 0})
    for name in ("prompt_tokens_total", "tokens_predicted_total", "prompt_tokens_seconds", "predicted_tokens_seconds"):
        assert server.number(f"llamacpp:{name}") > 0
    assert server.number("llamacpp:requests_processing") == server.number("llamacpp:requests_deferred") == 0


def test_a_limit_by_any_of_its_names_and_a_stream_that_ends_with_stop(server):
    for name in ("n_predict", "max_tokens", "max_completion_tokens"):
        told = server.post("/completion", {"prompt": "import os\n", name: 3, "temperature": 0}).json()
        assert (told["tokens_predicted"], told["stop_type"], told["has_new_line"]) == (
            3,
            "limit",
            "\n" in told["content"],
        )
    body = {"prompt": "import os\n", "n_predict": 6, "temperature": 0, "stream": True, "n": 2}
    parts = server.post("/completion", body).text.split("\n\n")
    assert parts.pop() == "" and "[DONE]" not in parts[-1]
    found = [json.loads(part.removeprefix("data: ")) for part in parts]
    assert {each["index"] for each in found} == {0, 1}
    assert set(found[0]) >= {"index", "content", "tokens", "stop", "id_slot", "tokens_predicted", "tokens_evaluated"}
    assert [set(each) for each in found if each["stop"]] == [FIELDS, FIELDS]


def test_kinds_of_errors(server):
    for body, status, kind in (
        ({"prompt": [5] * 2048}, 400, "exceed_context_size_error"),
        ({"prompt": 5}, 400, "invalid_request_error"),
        ({"prompt": "x", "grammar": "root ::= x"}, 501, "not_supported_error"),
    ):
        error = server.post("/completion", body).json()["error"]
        assert (error["code"], error["type"]) == (status, kind)
    assert server.post("/completion", {"prompt": [5] * 2048}).json()["error"]["n_ctx"] == 2048


def test_tokens_there_and_back_and_the_template(server, code_model):
    text = "def f():\n    return '<|fim_prefix|> é'\n"
    ids = server.post("/tokenize", {"content": text}).json()["tokens"]
    assert ids == code_model.tokenizer.encode(text)
    assert server.post("/detokenize", {"tokens": ids}).json() == {"content": text}
    pieces = server.post("/tokenize", {"content": "é", "with_pieces": True}).json()["tokens"]
    whole = [bytes(each["piece"]) if isinstance(each["piece"], list) else each["piece"].encode() for each in pieces]
    assert b"".join(whole).decode() == "é"
    assert server.post("/detokenize", {"tokens": [10**9]}).status_code == 400
    prompt = server.post("/apply-template", {"messages": [{"role": "user", "content": "hi"}]}).json()["prompt"]
    assert prompt == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert server.post("/apply-template", {"messages": []}).status_code == 400


def test_a_key_costs_its_own_tokens(server):
    """Typing on: what stands before the cursor, and all of the suffix, is in the cache."""
    line = "    total = radius * 3 + area(radius) - perimeter(radius)"
    for end in range(5, len(line)):
        body = {**CODE, "prompt": line[:end], "n_predict": 1, "temperature": 0}
        told = server.post("/infill", body).json()["timings"]
        if end > 5:
            assert told["prompt_n"] <= 4, (line[:end], told)

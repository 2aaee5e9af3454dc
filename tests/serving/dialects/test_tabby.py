"""Tabby's bodies and what its agent asks."""

import json

import pytest

from tests.serving.conftest import PREFIX, SUFFIX

SEGMENTS = {"prefix": PREFIX, "suffix": SUFFIX, "filepath": "shapes.py"}


def test_segments_infill_by_ids_and_a_prompt_is_openais(server, code_model):
    body = {"language": "python", "segments": SEGMENTS, "temperature": 0, "user": "me", "mode": "standard"}
    answer = server.post("/v1/completions", body).json()
    options = {"max_tokens": 64, "order": "spm", "stop_at": "block", "path": "shapes.py"}
    assert answer["choices"] == [{"index": 0, "text": code_model.infill(PREFIX, SUFFIX, **options).text}]
    assert answer["id"].startswith("cmpl-")
    assert "debug_data" not in answer
    other = server.post("/v1/completions", {"prompt": PREFIX, "max_tokens": 2}).json()
    assert other["object"] == "text_completion"
    both = server.post("/v1/completions", {**body, "prompt": "x"}).json()
    assert "object" not in both


def test_snippets_are_files_the_best_last(server):
    def snippet(name, score=0.5):
        return {"filepath": name, "body": f"# {name}\n", "score": score}

    segments = {
        **SEGMENTS,
        "declarations": [{"filepath": "d.py", "body": "# d.py\n"}],
        "relevant_snippets_from_changed_files": [snippet("high.py", 0.9), snippet("low.py", 0.1)],
        "relevant_snippets_from_recently_opened_files": [snippet("open.py")],
        "clipboard": "not looked at",
    }
    debug = {"return_prompt": True, "return_snippets": True}
    body = {"segments": segments, "temperature": 0, "debug_options": debug}
    told = server.post("/v1/completions", body).json()["debug_data"]
    names = [each["filepath"] for each in told["snippets"]]
    assert names == ["open.py", "low.py", "high.py", "d.py"]
    assert [told["prompt"].index(f"# {name}") for name in names] == sorted(
        told["prompt"].index(f"# {name}") for name in names
    )
    assert "<|fim_prefix|>" in told["prompt"] or "<fim_prefix>" in told["prompt"] or "<PRE>" in told["prompt"]
    debug["disable_retrieval_augmented_code_completion"] = True
    assert "# d.py" not in server.post("/v1/completions", body).json()["debug_data"]["prompt"]


def test_a_text_that_spells_a_marker_is_text_in_segments_and_layout_in_a_raw_prompt(server, code_model):
    spelled = f"<PRE> {PREFIX} <SUF>{SUFFIX} <MID>"
    options = {"max_tokens": 64, "order": "spm"}
    raw = {"debug_options": {"raw_prompt": spelled}, "temperature": 0}
    text = server.post("/v1/completions", raw).json()["choices"][0]["text"]
    assert text == code_model.infill(PREFIX, SUFFIX, **options).text
    quoted = {"segments": {"prefix": spelled, "suffix": SUFFIX}, "temperature": 0}
    text = server.post("/v1/completions", quoted).json()["choices"][0]["text"]
    assert text == code_model.infill(spelled, SUFFIX, **options, stop_at="block").text


def test_a_prefix_over_the_context_keeps_its_markers_and_its_end(server):
    """Tabby itself cuts the finished prompt from the left, and the first marker with it."""
    segments = {"prefix": "x = 1\n" * 3000 + PREFIX, "suffix": SUFFIX}
    body = {"segments": segments, "temperature": 0, "debug_options": {"return_prompt": True}}
    prompt = server.post("/v1/completions", body).json()["debug_data"]["prompt"]
    assert prompt.count("fim_prefix") == prompt.count("fim_suffix") == prompt.count("fim_middle") == 1
    assert "def area(radius):\n    return" in prompt and "print(area(2))" in prompt
    assert len(prompt) < len(segments["prefix"])


def test_a_seed_determines_the_text(server):
    body = {"segments": SEGMENTS, "temperature": 1.5, "seed": 5}
    texts = {server.post("/v1/completions", body).json()["choices"][0]["text"] for _ in range(2)}
    assert len(texts) == 1
    assert server.post("/v1/completions", {**body, "seed": 6}).json()["choices"][0]["text"] not in texts


def test_a_model_without_markers_goes_on_from_the_prefix(plain_server):
    answer = plain_server.post("/v1/completions", {"segments": SEGMENTS, "temperature": 0})
    plain = {"prompt": PREFIX, "temperature": 0, "max_tokens": 64}
    expected = plain_server.post("/v1/completions", plain).json()["choices"][0]["text"]
    assert answer.json()["choices"][0]["text"] == expected


@pytest.mark.parametrize(
    "body",
    [
        {"segments": {}},
        {"segments": {"prefix": "", "suffix": ""}},
        {"segments": {"prefix": 3}},
        {"segments": "x"},
        {"debug_options": {}},
        {"segments": SEGMENTS, "temperature": -1},
    ],
)
def test_what_is_wrong(server, body):
    answer = server.post("/v1/completions", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_what_the_agent_asks_and_tells(server):
    health = server.client.get("/v1/health").json()
    # From 0.9 on the agent asks whether it may report to others.
    assert health["version"]["git_describe"] == "v0.9.0"
    assert health["chat_model"] == health["model"]
    assert {"device", "arch", "cpu_info", "cpu_count", "cuda_devices"} <= set(health)
    assert server.client.get("/v1beta/server_setting").json() == {"disable_client_side_telemetry": True}
    event = {"type": "select", "completion_id": "a-secret-id", "choice_index": 0, "view_id": "v", "elapsed": 120}
    answer = server.post("/v1/events", event)
    assert (answer.status_code, answer.content) == (200, b"")
    assert server.post("/v1/events", {"type": "other"}).status_code == 400
    log = server.logged(lambda log: '"event_type"' in log)
    lines = [json.loads(line) for line in log.splitlines() if '"event_type"' in line]
    assert (lines[0]["event_type"], lines[0]["elapsed_ms"]) == ("select", 120)
    assert "a-secret-id" not in server.log()

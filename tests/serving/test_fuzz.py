"""Mutated bodies on every dialect's addresses: an answer each time, none of them a fault of the server.

CODECRIA_FUZZ=10000 sends so many to each dialect, and looks at the server's memory.
"""

import json
import os
import random
import shutil

import httpx
import psutil
import pytest

from codecria.serving.dialects import all_dialects
from codecria.serving.page.routes import PAGE
from codecria.serving.problems import STATUSES
from tests.serving.conftest import PREFIX, SUFFIX, serving

MUTATIONS = int(os.environ.get("CODECRIA_FUZZ", "150"))
TELLING = 5000  # fewer bodies fill caches and pools, which is no leak
MOST_GROWN = 48 * 2**20
POSITIONS = 256  # a mutated body may have no limit, and its text then ends where the context does
HANG_S = 120
BODY = {
    "prompt": PREFIX, "suffix": SUFFIX, "input_prefix": PREFIX, "input_suffix": SUFFIX, "n_predict": 2, "max_tokens": 2,
    "input_extra": [{"text": "x = 1\n", "filename": "a.py"}], "messages": [{"role": "user", "content": "hi"}],
    "temperature": 0.5, "top_k": 5, "top_p": 0.9, "min_p": 0.1, "seed": 3, "stop": ["\n"], "n": 1, "n_cmpl": 1,
    "logprobs": 1, "top_logprobs": 1, "n_probs": 1, "stream": False, "stream_options": {"include_usage": True},
    "samplers": ["top_k", "infill"], "response_fields": ["content", "timings/prompt_n"], "logit_bias": {"5": 1},
    "n_indent": 2, "t_max_prompt_ms": 10, "t_max_predict_ms": 10, "presence_penalty": 0.1, "repeat_penalty": 1.1,
    "content": "text", "tokens": [5, 6], "echo": False, "best_of": 1, "ignore_eos": False, "id_slot": 0,
    "options": {"num_predict": 2, "temperature": 0.5, "seed": 1, "stop": ["\n"]}, "raw": False, "context": [5, 6],
    "segments": None, "language": "python", "type": "view", "min_tokens": 0,
    "stop_token_ids": [5], "return_token_ids": True, "debug_options": {"return_prompt": True},
    "system": "s", "template": "{{ .Prompt }}", "images": [], "keep_alive": "5m", "think": False, "format": "",
}  # fmt: skip
STRANGE = [
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 1e308, -1e308, 1e-320, "", "x",
    "\u0000", "é😀", "<PRE> a <SUF>b <MID>", "<|im_end|>", "../../etc/passwd", "A" * 5000, [], [[]], [[[]]], [None],
    ["x", 1], [1, 2, 999999], {}, {"a": {}}, [{}] * 50,
    [{"role": "user"}], [{"role": "user", "content": [{"type": "text"}]}], {"type": "json_object"}, "kpmti",
]  # fmt: skip
DIALECTS = {dialect.name: dialect for dialect in [*all_dialects(), PAGE]}


def mutated(draw, known):
    body = dict(BODY)
    for _ in range(draw.randint(1, 4)):
        others = [*BODY, "model", "tools", "response_format", "grammar", "unknown"]
        name = draw.choice(known if draw.random() < 0.5 else others)
        way = draw.random()
        if way < 0.15:
            body.pop(name, None)
        elif way < 0.3 and isinstance(body.get(name), list):
            body[name] = [*body[name], draw.choice(STRANGE)]
        else:
            body[name] = draw.choice(STRANGE)
    data = json.dumps(body).encode()
    if draw.random() < 0.1:  # damage the bytes too
        place = draw.randrange(len(data))
        data = data[:place] + bytes([draw.randrange(256)]) + data[place + draw.randint(0, 3) :]
    return data


def faults(server):
    """What the server has written of its own faults."""
    return [line for line in server.log().splitlines() if '"level": "error"' in line]


@pytest.fixture(scope="module")
def small_server(model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "tiny"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": POSITIONS}))
    with serving(folder) as running:
        yield running


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_every_mutated_body_has_an_answer(small_server, name):
    server = small_server
    draw = random.Random(name)
    routes = [route for route in DIALECTS[name].routes if route.body]
    known = {route.path: sorted(route.body.model_fields) for route in routes}
    process = psutil.Process(server.process.pid)
    settled = 0
    seen = {path: set() for path in known}
    with httpx.Client(base_url=server.url, timeout=HANG_S) as client:
        for number in range(MUTATIONS):
            path = routes[number % len(routes)].path
            data = mutated(draw, known[path])
            answer = client.post(path, content=data)
            seen[path].add(answer.status_code)
            assert answer.status_code in {200, *STATUSES} - {500, 503}, (answer.text, data, faults(server))
            if answer.status_code != 200:
                error = answer.json()["error"]
                assert error if isinstance(error, str) else error["message"], data
            elif answer.headers["content-type"] == "application/json":
                answer.json()
            if number == MUTATIONS // 3:
                settled = process.memory_info().rss
    assert all({200, 400} <= statuses for statuses in seen.values()), seen
    server.until("codecria_texts", 0)
    server.until("codecria_locked_bytes", 0)
    assert not faults(server)
    grown = process.memory_info().rss - settled
    print(f"{name}: {MUTATIONS} bodies, {grown / 2**20:.1f} MiB more")
    assert MUTATIONS < TELLING or grown < MOST_GROWN, f"{grown / 2**20:.0f} MiB more"

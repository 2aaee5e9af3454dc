"""The page's files and its own routes, over a real socket."""

import gzip
import json
import re
from pathlib import Path

import httpx
import pytest

import codecria
from codecria.serving.page.assets import _MEDIA
from tests.serving.conftest import PREFIX, SUFFIX, serving

FOLDER = Path(codecria.__file__).parent / "serving" / "page"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
KEY = "a-key-of-its-own"


def addresses(html):
    return re.findall(r'(?:href|src)="(page/[^"]+)"', html)


def events(answer):
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    return [json.loads(event.removeprefix("data: ")) for event in answer.text.split("\n\n") if event]


def test_a_browser_gets_the_page_and_all_it_names(server):
    answer = server.client.get("/", headers=HTML)
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "{{" not in answer.text
    named = addresses(answer.text)
    assert len(named) == 4
    for address in named:
        found = server.client.get(f"/{address}")
        assert found.status_code == 200 and "immutable" in found.headers["cache-control"]


def test_who_does_not_ask_for_html_gets_none(server):
    assert "<html" not in server.client.get("/").text


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(server):
    one, two = (server.client.get("/", headers=HTML) for _ in range(2))
    policy = one.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
    nonce = re.search(r"'nonce-([^']+)'", policy)[1]
    assert f'content="{nonce}"' in one.text and nonce not in two.text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", one.text)
    for file in (FOLDER / "assets").iterdir():
        if file.suffix in (".js", ".css", ".html") and file.name != "codemirror.js":
            assert not re.search(r"https?://(?!www\.w3\.org)", file.read_text()), file


def test_every_file_is_served_and_every_import_is_one_of_them(server):
    files = {file.name for file in (FOLDER / "assets").iterdir()}
    assert files == {*_MEDIA, "index.html"}
    version = addresses(server.client.get("/", headers=HTML).text)[0].split("/")[1]
    for name in sorted(_MEDIA):
        plain = server.client.get(f"/page/{version}/{name}", headers={"Accept-Encoding": "identity"})
        assert plain.content == (FOLDER / "assets" / name).read_bytes()
        assert "content-encoding" not in plain.headers
        for other in re.findall(r'from "\./([^"]+)"', plain.text) if name != "codemirror.js" else ():
            assert other in files
        with server.client.stream("GET", f"/page/{version}/{name}", headers={"Accept-Encoding": "gzip"}) as packed:
            assert gzip.decompress(b"".join(packed.iter_raw())) == plain.content


@pytest.mark.parametrize(
    "name", ["main.jsx", "..%2Findex.html", "../__init__.py", "index.html", "", "codemirror.js%00"]
)
def test_no_other_file_is_served(server, name):
    version = addresses(server.client.get("/", headers=HTML).text)[0].split("/")[1]
    assert server.client.get(f"/page/{version}/{name}").status_code == 404
    assert server.client.get(f"/page/0/{name or 'main.js'}").status_code == 404


def test_the_bundle_is_of_the_versions_that_are_locked_and_has_their_licences():
    lock = json.loads((FOLDER / "codemirror" / "package-lock.json").read_text())
    bundle = (FOLDER / "assets" / "codemirror.js").read_text()
    parts = re.findall(r"^ \* (\S+) (\S+) \((\S+)\)$", bundle, re.MULTILINE)
    assert len(parts) > 15
    licences = (FOLDER / "assets" / "codemirror.LICENCES.txt").read_text()
    for name, version, licence in parts:
        assert lock["packages"][f"node_modules/{name}"]["version"] == version, name
        assert licence == "MIT" and f"{name} {version} ({licence})" in licences
    assert licences.count("Permission is hereby granted") == len(parts)


def test_an_infill_tells_the_ids_the_model_was_given(server, code_model):
    body = {"prefix": PREFIX, "suffix": SUFFIX, "max_tokens": 12, "stop_at": "end"}
    *texts, last = events(server.post("/page/infill", body))
    prepared = code_model.prepare_infill(PREFIX, SUFFIX, order="spm", window_tokens=code_model.max_positions)
    figures = last["figures"]
    assert [id for id, _, _ in figures["prompt"]] == list(prepared.ids)
    special = [text for _, text, is_special in figures["prompt"] if is_special]
    assert special == ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    assert figures["task"] == "infill" and 0 < len(figures["written"]) <= 12
    assert figures["first_ms"] > 0 and figures["tokens_per_s"] > 0
    alone = server.post("/v1/completions", {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 12, "temperature": 0})
    assert "".join(each["text"] for each in texts) == alone.json()["choices"][0]["text"]


def test_a_second_key_finds_the_prompt_in_the_cache(server):
    body = {"prefix": "cached = 1\n" * 20, "suffix": "\nfinally = 2\n", "max_tokens": 2}
    first = events(server.post("/page/infill", body))[-1]["figures"]
    again = events(server.post("/page/infill", {**body, "prefix": body["prefix"] + "x"}))[-1]["figures"]
    assert again["cached_tokens"] > first["cached_tokens"]
    assert again["cached_tokens"] >= len(first["prompt"]) - 4


def test_a_model_without_markers_goes_on_from_the_prefix(plain_server):
    about = plain_server.client.get("/page/model").json()
    assert about["infills"] is False and about["name"] == "tiny-plain"
    figures = events(plain_server.post("/page/infill", {"prefix": PREFIX, "suffix": SUFFIX, "max_tokens": 3}))[-1]
    assert figures["figures"]["task"] == "complete"


def test_chat_tells_its_template_as_ids(server, code_model):
    messages = [{"role": "user", "content": "What is a llama?"}]
    *texts, last = events(server.post("/page/chat", {"messages": messages, "max_tokens": 6}))
    prepared = code_model.prepare_chat(messages)
    assert [id for id, _, _ in last["figures"]["prompt"]] == list(prepared.ids)
    assert last["figures"]["task"] == "chat"
    expected = code_model.chat(messages, max_tokens=6, temperature=0).text
    assert "".join(each["text"] for each in texts) == expected


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/page/infill", {}, "prefix"),
        ("/page/infill", {"prefix": "x", "stop_at": "never"}, "stop_at"),
        ("/page/infill", {"prefix": "x", "max_tokens": 0}, "max_tokens"),
        ("/page/chat", {"messages": []}, "messages"),
    ],
)
def test_a_body_that_does_not_fit_says_which_field(server, path, body, field):
    answer = server.post(path, body)
    assert answer.status_code == 400 and f"'{field}'" in answer.json()["error"]["message"]


def test_with_a_key_the_page_is_shown_and_nothing_is_answered(model_folder):
    with serving(model_folder, env={"CODECRIA_API_KEY": KEY}) as keyed:
        page = keyed.client.get("/", headers=HTML)
        assert page.status_code == 200 and KEY not in page.text
        assert keyed.client.get("/" + addresses(page.text)[0]).status_code == 200
        for path in ("/page/infill", "/page/chat"):
            assert keyed.post(path, {"prefix": "x"}).status_code == 401
        assert keyed.client.get("/page/model").status_code == 401
        known = httpx.get(f"{keyed.url}/page/model", headers={"Authorization": f"Bearer {KEY}"})
        assert known.json()["infills"] is True

import itertools
import json
import time

import pytest

from codecria.common.errors import CodecriaError
from codecria.generation.code_model import CodeModel
from codecria.generation.endpoint import Endpoint
from codecria.generation.generator import Generator
from codecria.generation.http import event_lines
from codecria.infill.layout import infill_prompt
from codecria.tokenizer.tokenizer import Tokenizer
from tests.generation.conftest import random_model
from tests.generation.openai_server import OpenAIServer

PROMPTS = ["def add(a, b):\n    ", "import ", "x"]
PAIRS = [("def total(items):\n    ", "\n    return result\n"), ("a = ", "\n"), ("", "end")]


def saved(tokenizer, folder):
    """A small random model, and the folder with its tokenizer."""
    tokenizer.save(folder)
    weights = random_model(vocab_size=tokenizer.vocab_size, hidden_size=32, max_positions=256)
    return CodeModel(weights, Tokenizer.from_folder(folder), name="tiny"), folder


@pytest.fixture(scope="module")
def tiny(infilling_tokenizer, tmp_path_factory):
    return saved(infilling_tokenizer, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny_llama(llama_tokenizer, tmp_path_factory):
    return saved(llama_tokenizer, tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def model(tiny):
    return tiny[0]


@pytest.fixture(scope="module")
def folder(tiny):
    return tiny[1]


def refusing(status, text=""):
    return lambda _body: (status, {}, text)


def endpoint(server, **options):
    return Endpoint(server.url, "tiny", **{"pause_s": 0.01, "max_positions": 256, **options})


def test_a_code_model_and_an_endpoint_are_generators(model):
    with OpenAIServer(model) as server, endpoint(server, max_positions=None) as remote:
        for each in (model, remote):
            assert isinstance(each, Generator)
            assert (each.name, each.max_positions) == ("tiny", 256)


@pytest.mark.parametrize("name", ["tiny", "tiny_llama"])
def test_the_same_texts_as_in_this_process(request, name):
    model, folder = request.getfixturevalue(name)
    options = {"max_tokens": 20, "temperature": 0.9, "seed": 7, "n": 3, "logprobs": True}
    with OpenAIServer(model) as server, endpoint(server, tokenizer=folder) as remote:
        for theirs, ours in (
            (remote.infill_many(PAIRS, **options), model.infill_many(PAIRS, heal=False, **options)),
            (remote.complete_many(PROMPTS, **options), model.complete_many(PROMPTS, heal=False, **options)),
        ):
            for one, other in zip(itertools.chain(*theirs), itertools.chain(*ours), strict=True):
                assert (one.text, one.ids, one.finish_reason) == (other.text, other.ids, other.finish_reason)
                assert one.log_probabilities == pytest.approx(other.log_probabilities, abs=1e-3)
                assert one.prompt_tokens == other.prompt_tokens
        chats = [[{"role": "user", "content": text}] for text in ("hi", "there")]
        del options["logprobs"]
        texts = [[each.text for each in samples] for samples in remote.chat_many(chats, **options)]
        assert texts == [[each.text for each in samples] for samples in model.chat_many(chats, **options)]


def test_infill_prompts_are_the_layouts_ids(model, folder):
    with OpenAIServer(model) as server:
        with endpoint(server, tokenizer=folder) as remote:
            assert remote.infills_by == "ids"
            remote.infill_many(PAIRS[:1], max_tokens=3)
            remote.infill_many(PAIRS[:1], max_tokens=3, order="psm")
        for body, order in zip(server.bodies, ("spm", "psm"), strict=True):
            assert body["prompt"] == infill_prompt(model.tokenizer, model.sentinels, *PAIRS[0], order)
            assert set(model.sentinels.end) <= set(body["stop_token_ids"])
        with endpoint(server) as plain:
            assert plain.infills_by == "suffix"
            plain.infill_many(PAIRS[:1], max_tokens=3)
        assert (server.bodies[-1]["prompt"], server.bodies[-1]["suffix"]) == PAIRS[0]
        assert server.bodies[-1]["stop_token_ids"] == []


def test_middles_end_where_a_code_models_do(folder):
    def answers(text):
        answer = {"choices": [{"index": 0, "text": text, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9}}
        return lambda *_: (200, {}, json.dumps(answer))

    cases = [
        ("x = 1\n    return result", {}, "x = 1", "stop"),
        ("x = 1\n    return result", {"trim": False}, "x = 1\n    return result", "stop"),
        ("x\n    y\nz", {"stop_at": "line"}, "x", "stop-string"),
        ("x\n    y\nz", {"stop_at": "block"}, "x\n    y", "stop-string"),
    ]
    with OpenAIServer() as server, endpoint(server, tokenizer=folder) as remote:
        for text, options, middle, reason in cases:
            server.refuse = answers(text)
            [[found]] = remote.infill_many(PAIRS[:1], **options)
            assert (found.text, found.finish_reason, found.prompt_tokens) == (middle, reason, 9)


def test_a_document_with_cr_lf_is_asked_for_and_cut_by_line_feeds(folder):
    choice = {"index": 0, "text": "x\n    y\nz", "finish_reason": "stop"}
    pair = tuple(each.replace("\n", "\r\n") for each in PAIRS[0])
    with (
        OpenAIServer(refuse=refusing(200, json.dumps({"choices": [choice]}))) as server,
        endpoint(server, tokenizer=folder) as remote,
    ):
        [[found]] = remote.infill_many([pair], stop=["\r\n\r\n"], stop_at="block")
    assert found.text == "x\r\n    y"
    assert server.bodies[0]["stop"] == ["\n\n"]


@pytest.mark.parametrize("how", [(503, {}, "busy"), (429, {"Retry-After": "0"}, ""), "drop"])
def test_only_what_failed_is_sent_again(model, folder, how):
    seen = set()

    def refuse(body):
        key = tuple(body["prompt"])
        if len(seen) < 5 and key not in seen:
            seen.add(key)
            return how
        return None

    prompts = [f"x{number} = " for number in range(12)]
    with OpenAIServer(model, refuse) as server, endpoint(server, tokenizer=folder, concurrency=4) as remote:
        texts = [samples[0].text for samples in remote.complete_many(prompts, max_tokens=4)]
        assert texts == [samples[0].text for samples in model.complete_many(prompts, max_tokens=4, heal=False)]
        assert len(server.answered) == 12
        assert len(server.bodies) == 17
        assert server.connections <= 4 + (5 if how == "drop" else 0)


def test_giving_up_names_the_url_and_the_servers_words(model):
    with OpenAIServer(model, refusing(500, '{"error": {"message": "out of memory"}}')) as server:
        with (
            endpoint(server, tries=3) as remote,
            pytest.raises(CodecriaError, match=r"/v1/completions: the server answers 500: out of memory; 3 tries; "),
        ):
            remote.complete_many(["x"])
        assert len(server.bodies) == 3


def test_a_refusal_is_not_sent_again(model, monkeypatch):
    monkeypatch.setenv("CLUSTER_KEY", "wrong")
    with OpenAIServer(model, refusing(401, '{"detail": "bad key"}')) as server:
        with (
            endpoint(server, key_variable="CLUSTER_KEY") as remote,
            pytest.raises(CodecriaError, match=r"401: bad key; put the server's key into \$CLUSTER_KEY"),
        ):
            remote.complete_many(["x"])
        assert server.keys == ["Bearer wrong"]


def test_a_server_that_hangs_or_is_not_there(model):
    with (
        OpenAIServer(model, lambda _body: time.sleep(0.5)) as server,
        endpoint(server, timeout_s=0.1, tries=2) as remote,
        pytest.raises(CodecriaError, match=r"no answer: ReadTimeout.*2 tries"),
    ):
        remote.complete_many(["x"])
    with (
        Endpoint("http://127.0.0.1:9/v1", "tiny", tries=2, pause_s=0.01) as remote,
        pytest.raises(CodecriaError, match="no answer: ConnectError"),
    ):
        remote.complete_many(["x"])


def test_answers_that_are_none():
    for text, said in (("<html>", "no JSON object"), ('{"choices": []}', "0 samples came, 1 were asked for")):
        with (
            OpenAIServer(refuse=refusing(200, text)) as server,
            endpoint(server) as remote,
            pytest.raises(CodecriaError, match=said),
        ):
            remote.complete_many(["x"])


def test_the_context_must_be_known(model):
    with (
        OpenAIServer(model) as server,
        Endpoint(server.url, "other") as remote,
        pytest.raises(CodecriaError, match=r"'other' is \(it lists: tiny\); give max_positions"),
    ):
        remote.max_positions  # noqa: B018


def test_openais_own_api_is_sent_no_other_fields(model):
    with OpenAIServer(model) as server, endpoint(server, dialect="openai") as remote:
        remote.complete_many(["x"], max_tokens=2, seed=1)
        body = server.bodies[0]
        assert body == {
            "model": "tiny", "prompt": "x", "max_tokens": 2, "temperature": 0.0, "top_p": 1.0, "n": 1, "seed": 1,
        }  # fmt: skip
        with pytest.raises(CodecriaError, match="OpenAI's API has no top_k"):
            remote.complete_many(["x"], top_k=5)


@pytest.mark.parametrize("name", ["tiny", "tiny_llama"])
def test_streams_are_the_same_texts_in_pieces(request, name):
    model, folder = request.getfixturevalue(name)
    options = {"max_tokens": 20, "temperature": 0.9, "seed": 7}
    chat = [{"role": "user", "content": "hi"}]
    with OpenAIServer(model) as server, endpoint(server, tokenizer=folder) as remote:
        for prefix, suffix in (*PAIRS, ("a\r\nb = ", "\r\nc\r\n")):
            pieces = list(remote.stream_infill(prefix, suffix, **options))
            assert "".join(pieces) == model.infill(prefix, suffix, heal=False, **options).text
            assert len(pieces) > 3
        for prompt in PROMPTS:
            text = "".join(remote.stream_complete(prompt, **options))
            assert text == model.complete(prompt, heal=False, **options).text
            stop = text[5:7]
            text = "".join(remote.stream_complete(prompt, stop=stop, **options))
            assert text == model.complete(prompt, heal=False, stop=stop, **options).text
        assert "".join(remote.stream_chat(chat, **options)) == model.chat(chat, **options).text
    with OpenAIServer(model) as server, endpoint(server) as remote:  # text alone
        text = "".join(remote.stream_infill(*PAIRS[0], **options))
        assert text == model.infill(*PAIRS[0], heal=False, **options).text


def test_a_stream_that_is_left_ends_on_the_server(model, folder):
    place, options = ("print(", "\n"), {"max_tokens": 100, "temperature": 1.0, "stop_at": "bracket", "heal": False}
    found = ((seed, model.infill(*place, seed=seed, **options)) for seed in range(50))
    seed, middle = next(each for each in found if each[1].finish_reason == "stop-string" and len(each[1].ids) < 50)
    with OpenAIServer(model) as server, endpoint(server, tokenizer=folder) as remote:
        pieces = remote.stream_complete("x", max_tokens=100, temperature=1.0, seed=1)
        next(pieces)
        pieces.close()
        # This rule acts here alone: the server is told of nothing that would end the text.
        assert "".join(remote.stream_infill(*place, seed=seed, **options)) == middle.text
        list(remote.stream_complete("x", max_tokens=2))
    left, cut, _ = server.told
    assert max(left, cut) < 100


SEPARATORS = "a\u2028b\u2029c\x85d"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_end_with_their_lines_alone(end):
    """JSON may hold U+2028, U+2029 and U+0085 as they are."""
    choices = [{"text": SEPARATORS}, {"text": "", "finish_reason": "stop"}]
    events = [json.dumps({"choices": [each]}, ensure_ascii=False) for each in choices]
    text = "".join(f"data: {event}{end}{end}" for event in (*events, "[DONE]"))
    answer = (200, {"Content-Type": "text/event-stream"}, text)
    with OpenAIServer(refuse=lambda _body: answer) as server, endpoint(server) as remote:
        assert "".join(remote.stream_complete("x")) == SEPARATORS
    data = text.encode()
    lines = event_lines(data[place : place + 1] for place in range(len(data)))
    assert [line for line in lines if line] == [line for line in text.split(end) if line]


def test_a_stream_that_breaks_off_says_so(model, folder):
    with OpenAIServer(model) as server, endpoint(server, tokenizer=folder) as remote:
        server.breaks_off_after = 3
        pieces = remote.stream_complete("x", max_tokens=20)
        with pytest.raises(
            CodecriaError, match=r"/v1/completions: the answer broke off: RemoteProtocolError.*ask again"
        ):
            list(pieces)
        assert len(server.bodies) == 1  # what was shown cannot be taken back: it is not sent again
        server.refuse = refusing(503, "busy")
        with pytest.raises(CodecriaError, match="503: busy; 6 tries"):
            list(remote.stream_complete("x"))
        assert len(server.bodies) == 7
        events = {"Content-Type": "text/event-stream"}
        for text, said in (
            ('data: {"error": {"message": "out of memory"}}\n\n', "the server broke off: out of memory"),
            ("data: {\n\n", "an event is no JSON object"),
            ('data: {"choices": [{"text": "a"}]}\n\ndata: [DONE]\n\n', "before the text had ended"),
        ):
            server.refuse = lambda _body, text=text: (200, events, text)
            with pytest.raises(CodecriaError, match=said):
                list(remote.stream_complete("x"))
        # A server that does not stream.
        server.refuse = refusing(200, '{"choices": [{"text": "all at once", "finish_reason": "stop"}]}')
        assert list(remote.stream_complete("x")) == ["all at once"]


def test_one_text_is_streamed_and_a_suffix_goes_without_files(model):
    with OpenAIServer(model) as server, endpoint(server) as remote:
        with pytest.raises(CodecriaError, match="n is 2"):
            remote.stream_complete("x", n=2)
        with pytest.raises(CodecriaError, match="not told of files; name the model's tokenizer"):
            remote.infill_many(PAIRS, files=[("a.py", "a = 1\n")])
        assert server.bodies == []


def test_candidates_are_those_of_a_code_model(model, folder):
    asked = {"max_tokens": 6, "seed": 5, "heal": False}
    with OpenAIServer(model) as server, endpoint(server, tokenizer=folder) as remote:
        theirs, ours = remote.infill_candidates(*PAIRS[0], 4, **asked), model.infill_candidates(*PAIRS[0], 4, **asked)
    assert [each.text for each in theirs] == [each.text for each in ours]
    assert 2 <= len(theirs) <= 4

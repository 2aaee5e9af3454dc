"""What is trained on is what chat and the server send: one conversation, one row of ids, to the token."""

import json
import statistics

import pyarrow.parquet as pq
import pytest
import torch

from codecria.batches.conversations import read_conversations, render
from codecria.common.errors import CodecriaError
from codecria.generation.code_model import load
from codecria.instruct.conversations import conversation, joined, write_conversations
from codecria.instruct.question import Place, Question, Triplet
from codecria.tokenizer.chat import encode_chat, with_chat_format
from codecria.tokenizer.tokenizer import Tokenizer
from codecria.training.loop import train
from codecria.training.metrics import read_metrics
from codecria.training.recipe import TrainRecipe
from tests.serving.conftest import serving
from tests.tiny import write_tiny_checkpoint
from tests.training.small import small_stage

QUESTION = Question(
    "Bring a value into a range.",
    "mined lists:clamp",
    "clamp",
    "def clamp(value, low=0):",
    (">>> clamp(7)\n3\n", ">>> clamp(-1)\n0\n"),
    place=Place("lists.inside", "clamp"),
)
TRIPLET = Triplet(QUESTION, "def clamp(value, low=0):\n    return max(low, min(value, 3))\n", "small", 2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def llama(llama_tokenizer_folder):
    return Tokenizer.from_folder(llama_tokenizer_folder)


def formatted(name, tiny, llama):
    if name == "own":
        return Tokenizer.from_folder(tiny)
    if name == "code-llama-70b":
        llama = llama.with_added_tokens(["<step>"])
    return with_chat_format(Tokenizer.from_folder(tiny) if name == "chatml" else llama, name)


def test_a_triplet_is_a_question_with_one_test_and_an_answer_of_one_block():
    asked, answered = conversation(TRIPLET)
    for part in (QUESTION.text, QUESTION.signature, QUESTION.tests[0].rstrip(), "`lists.inside`"):
        assert part in asked["content"]
    assert QUESTION.tests[1] not in asked["content"]
    assert answered == {"role": "assistant", "content": f"```python\n{TRIPLET.solution.strip()}\n```"}


@pytest.mark.parametrize("name", ["own", "chatml", "llama-2", "code-llama-70b"])
def test_the_ids_trained_on_begin_with_those_that_chat_sends(tiny, llama, name):
    """And the loss is on what the model would have to write then: the answer and its end, nothing before."""
    tokenizer = formatted(name, tiny, llama)
    messages = conversation(TRIPLET)
    rendered = render(tokenizer, json.dumps(messages), 10_000)
    sent = encode_chat(tokenizer, messages[:1], add_generation_prompt=True).ids
    assert rendered.ids[: len(sent)] == sent
    assert not rendered.weights[: len(sent)].any()
    learnt = [id for id, weight in zip(rendered.ids, rendered.weights, strict=True) if weight]
    assert learnt == rendered.ids[len(sent) :][: len(learnt)]
    end = {"own": "<|im_end|>", "chatml": "<|im_end|>", "llama-2": "</s>", "code-llama-70b": "<step>"}[name]
    assert learnt[-1] == tokenizer.token_id(end)
    assert tokenizer.decode(learnt[:-1]).strip() == messages[1]["content"]


def test_the_ids_trained_on_begin_with_those_of_a_server(tiny):
    tokenizer = Tokenizer.from_folder(tiny)
    messages = conversation(TRIPLET)
    sent = render(tokenizer, json.dumps(messages), 10_000).ids
    with serving(tiny) as server:
        text = server.post("/apply-template", {"messages": messages[:1]}).json()["prompt"]
        usage = server.post("/v1/chat/completions", {"messages": messages[:1], "max_tokens": 1}).json()["usage"]
    asked = encode_chat(tokenizer, messages[:1], add_generation_prompt=True).ids
    assert usage["prompt_tokens"] == len(asked)
    assert tokenizer.decode(sent).startswith(tokenizer.decode(asked))
    spelt = "".join(tokenizer.token_text(id) if id in tokenizer.special_ids else tokenizer.decode([id]) for id in asked)
    assert spelt == text


def test_chat_sends_what_is_encoded_here(tiny):
    model = load(tiny, dtype="fp32", device="cpu")
    messages = conversation(TRIPLET)[:1]
    assert model.prepare_chat(messages).ids == encode_chat(model.tokenizer, messages).ids


def test_a_format_whose_tokens_are_missing_is_refused(llama):
    with pytest.raises(CodecriaError, match="no token"):
        with_chat_format(llama, "chatml")
    with pytest.raises(CodecriaError, match="no chat format 'alpaca'; one of: llama-2"):
        with_chat_format(llama, "alpaca")


def test_other_conversations_are_joined_and_checked(tmp_path):
    others = tmp_path / "others.jsonl"
    others.write_text(json.dumps({"instruction": "add", "output": "x + 1"}) + "\n")
    assert write_conversations(joined([TRIPLET], [others]), tmp_path / "all.parquet") == 2
    read = [messages for _, messages in read_conversations(tmp_path / "all.parquet")]
    assert read == [
        conversation(TRIPLET),
        [{"role": "user", "content": "add"}, {"role": "assistant", "content": "x + 1"}],
    ]
    others.write_text('{"instruction": "add", "output": "x"}\n{"instruction": "add"}\n')
    with pytest.raises(CodecriaError, match=r"others\.jsonl:2: 'output' is null, not text"):
        write_conversations(joined([TRIPLET], [others]), tmp_path / "all.parquet")
    assert pq.read_table(tmp_path / "all.parquet").num_rows == 2  # as it was


def test_a_stage_learns_the_answers_in_the_format_it_gives_the_model(tmp_path_factory, tmp_path):
    torch.set_num_threads(1)
    write_conversations([conversation(TRIPLET)] * 40, tmp_path / "conversations.parquet")
    values = small_stage(tmp_path_factory)
    values["batches"] |= {
        "mixture": {"conversations": 0.9, "code": 0.1},
        "conversations": str(tmp_path / "conversations.parquet"),
        "infill": {"rate": 0.0, "level": "context"},
    }
    values |= {"steps": 30, "chat_format": "llama-2", "optimiser": {"peak_rate": 3e-3, "warm_up_steps": 3}}
    folder = train(TrainRecipe.model_validate(values), tmp_path / "run")
    losses = [line["loss"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in line]
    assert statistics.median(losses[-9:]) < 0.7 * losses[0], "the median: a step of rehearsed code is not learnt here"
    trained = Tokenizer.from_folder(folder)
    assert "[INST]" in trained.chat_template
    assert (
        encode_chat(trained, conversation(TRIPLET)[:1]).ids == load(folder).prepare_chat(conversation(TRIPLET)[:1]).ids
    )

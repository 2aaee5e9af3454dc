import itertools
import subprocess
import sys

import pytest

import codecria
from codecria.common.errors import CodecriaError
from codecria.generation.code_model import CodeModel
from codecria.infill.layout import decode_middle, infill_prompt
from codecria.tokenizer.chat import encode_chat
from codecria.tokenizer.sentinels import reserved_ids
from codecria.tokenizer.stream import StreamDecoder
from tests.generation.conftest import random_model, scripted_model

PREFIX = "def total(items):\n    "
SUFFIX = "\n    return result\n"


@pytest.fixture(params=["infilling_tokenizer", "llama_tokenizer"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def random_code_model(tokenizer, max_positions=256, rows=0, seed=0):
    changes = {"vocab_size": tokenizer.vocab_size + rows, "hidden_size": 32, "max_positions": max_positions}
    return CodeModel(random_model(seed=seed, **changes), tokenizer, name="tiny")


def scripted_code_model(tokenizer, script):
    return CodeModel(scripted_model(script, vocab_size=tokenizer.vocab_size), tokenizer)


def middle_script(tokenizer, text, end):
    """Ids with which a model writes a middle behind the PSM prompt."""
    model = random_code_model(tokenizer)
    return [model.sentinels.middle, *tokenizer.encode_infilling(text), end]


def test_infill_gives_the_engine_the_ids_of_infill_prompt(tokenizer, monkeypatch):
    model = random_code_model(tokenizer)
    handed = []
    generate = model.engine.generate
    monkeypatch.setattr(model.engine, "generate", lambda ids, *rest: handed.extend(ids) or generate(ids, *rest))
    for order in (None, "psm", "spm"):
        result = model.infill(PREFIX, SUFFIX, order=order, max_tokens=2, heal=False)
        expected = infill_prompt(tokenizer, model.sentinels, PREFIX, SUFFIX, order or model.sentinels.orders[0])
        assert handed.pop() == expected
        assert result.prompt_tokens == len(expected)


@pytest.mark.parametrize("prefix", [PREFIX, "", " ", "\n"])
@pytest.mark.parametrize("order", ["psm", "spm"])
def test_a_middle_is_decoded_as_the_layout_says(tokenizer, order, prefix):
    model = random_code_model(tokenizer, seed=2)
    options = {"order": order, "trim": False, "max_tokens": 30, "temperature": 1.0, "heal": False}
    for seed in range(5):
        result = model.infill(prefix, SUFFIX, seed=seed, **options)
        assert result.text == decode_middle(tokenizer, model.sentinels, result.ids, prefix, order)


def test_streams_joined_are_the_whole_text(tokenizer):
    model = random_code_model(tokenizer)
    options = {"max_tokens": 40, "temperature": 1.0, "seed": 3, "stop": ["e", "an"]}
    messages = [{"role": "user", "content": "hi"}]
    assert "".join(model.stream_infill(PREFIX, SUFFIX, **options)) == model.infill(PREFIX, SUFFIX, **options).text
    assert "".join(model.stream_complete(PREFIX, **options)) == model.complete(PREFIX, **options).text
    assert "".join(model.stream_chat(messages, **options)) == model.chat(messages, **options).text


def test_a_character_of_many_tokens_is_never_split(tokenizer):
    text = "名前🦙é"
    ids = tokenizer.encode_infilling(text)
    assert len(ids) > len(text)
    # A model cannot write the same byte twice by script: each character is written by a model of its own.
    for character in text:
        script = [*tokenizer.encode("x")[-1:], *tokenizer.encode_infilling(character)]
        if len(set(script)) < len(script):
            continue
        model = scripted_code_model(tokenizer, [*script, tokenizer.eos_ids[0]])
        assert list(model.stream_complete("x")) == [character]


def test_the_text_of_a_completion_keeps_its_leading_space(llama_tokenizer):
    for text in (" world", "    world", "world", "\n  world"):
        script = [*llama_tokenizer.encode("hello")[-1:], *llama_tokenizer.encode_infilling(text)]
        model = scripted_code_model(llama_tokenizer, [*script, *llama_tokenizer.eos_ids])
        assert model.complete("hello").text == text


def test_an_answer_loses_the_implicit_space(llama_tokenizer):
    messages = [{"role": "user", "content": "hi"}]
    last = encode_chat(llama_tokenizer, messages).ids[-1]
    answer = llama_tokenizer.encode("Hello there")
    model = scripted_code_model(llama_tokenizer, [last, *answer, *llama_tokenizer.eos_ids])
    assert model.chat(messages).text == "Hello there"
    assert llama_tokenizer.decode_infilling(answer) == " Hello there"


def test_a_middle_keeps_its_leading_space(tokenizer):
    for text in ("  x = y", " x", "x"):
        end = random_code_model(tokenizer).sentinels.end[0]
        model = scripted_code_model(tokenizer, middle_script(tokenizer, text, end))
        result = model.infill(PREFIX, SUFFIX, order="psm")
        assert (result.text, result.finish_reason) == (text, "stop")


def test_any_control_id_ends_a_text_and_none_leaks(tokenizer):
    model = random_code_model(tokenizer)
    sentinels = model.sentinels
    for end in {*sentinels.end, sentinels.prefix, *tokenizer.eos_ids}:
        model = scripted_code_model(tokenizer, middle_script(tokenizer, " a = b", end))
        result = model.infill(PREFIX, SUFFIX, order="psm")
        assert (result.text, result.finish_reason, result.ids[-1] == end) == (" a = b", "stop", False)


def test_rows_without_a_meaning_are_never_chosen(tokenizer):
    model = random_code_model(tokenizer, rows=8)
    reserved = reserved_ids(tokenizer)
    assert len(reserved) == 12
    meaningless = {*reserved, *range(tokenizer.vocab_size, tokenizer.vocab_size + 8)}
    with_head = model.engine.model.lm_head.weight
    prepared = model.prepare_completion("x")
    assert set(prepared.options.forbidden_ids) == meaningless
    assert not meaningless & set(prepared.options.stop_ids)
    with_head.data[sorted(meaningless)] *= 50.0
    samples = model.complete_many(["x"], n=8, temperature=1.0, seed=0, max_tokens=10)[0]
    assert not meaningless & {id for sample in samples for id in sample.ids}


def test_a_middle_can_end_with_its_line_or_its_block(infilling_tokenizer):
    def infill(text, **options):
        end = random_code_model(infilling_tokenizer).sentinels.end[0]
        model = scripted_code_model(infilling_tokenizer, middle_script(infilling_tokenizer, text, end))
        result = model.infill(PREFIX, SUFFIX, order="psm", **options)
        assert "".join(model.stream_infill(PREFIX, SUFFIX, order="psm", **options)) == result.text
        return result.text, result.finish_reason

    assert infill("x = 1\n    y") == ("x = 1\n    y", "stop")
    assert infill("x = 1\n    y", stop_at="line") == ("x = 1", "stop-string")
    assert infill("x = 1\n    y", stop_at="block") == ("x = 1\n    y", "stop")
    assert infill("x = 1\nclass", stop_at="block") == ("x = 1", "stop-string")
    assert infill("x = 1\n    return result") == ("x = 1", "stop")
    assert infill("x = 1\n    return result", trim=False) == ("x = 1\n    return result", "stop")
    assert infill("x = 1\n    y", stop="= 1\n ") == ("x ", "stop-string")
    with pytest.raises(CodecriaError, match="stop_at is 'word'; give one of: end, line, block, bracket"):
        infill("x", stop_at="word")


def test_a_document_longer_than_the_context_is_cut_around_the_cursor(tokenizer):
    model = random_code_model(tokenizer, max_positions=128)
    prefix = "".join(f"x{number} = {number}\n" for number in range(300))
    prepared = model.prepare_infill(prefix, prefix, order="psm", max_tokens=28)
    assert 70 < len(prepared.ids) <= 100
    assert prepared.ids[: len(tokenizer.bos_ids) + 1] == [*tokenizer.bos_ids, model.sentinels.prefix]
    assert prepared.ids[-1] == model.sentinels.middle
    assert tokenizer.decode(prepared.ids).count("x299 = 299\nx0 = 0\n") == 1
    result = model.infill(prefix, prefix, max_tokens=5000)
    assert result.prompt_tokens <= 64
    assert result.finish_reason in ("length", "stop")
    with pytest.raises(CodecriaError, match="the model's context 128"):
        model.complete(prefix)


def test_typing_at_the_cursor_reuses_the_prompt(infilling_tokenizer):
    model = random_code_model(infilling_tokenizer)
    before = model.prepare_infill(PREFIX + "su", SUFFIX, order="spm").ids
    after = model.prepare_infill(PREFIX + "sum", SUFFIX, order="spm").ids
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))
    model.infill(PREFIX + "su", SUFFIX, order="spm", max_tokens=4)
    assert model.infill(PREFIX + "sum", SUFFIX, order="spm", max_tokens=4).reused_tokens == min(shared, len(after) - 1)
    assert shared > len(after) - 3


def test_a_model_without_markers_says_what_to_do(plain_tokenizer):
    model = random_code_model(plain_tokenizer)
    with pytest.raises(CodecriaError, match=r"tiny: .*not trained to infill.*codecria train.*codecria models"):
        model.infill(PREFIX, SUFFIX)


def test_many_equal_one_by_one(tokenizer):
    model = random_code_model(tokenizer)
    options = {"max_tokens": 12, "temperature": 0.8, "seed": 4}
    pairs = [(PREFIX, SUFFIX), ("a", "b"), ("", "")]
    many = model.infill_many(pairs, n=2, **options)
    assert [samples[0].text for samples in many] == [model.infill(*pair, **options).text for pair in pairs]
    assert [len(samples) for samples in many] == [2, 2, 2]
    assert model.complete_many([]) == []
    conversations = [[{"role": "user", "content": text}] for text in ("hi", "there")]
    answers = model.chat_many(conversations, **options)
    assert [samples[0].text for samples in answers] == [model.chat(each, **options).text for each in conversations]
    with pytest.raises(CodecriaError, match="n is 2"):
        model.complete("x", n=2)
    with pytest.raises(CodecriaError, match="n is 2"):
        model.stream_complete("x", n=2)


def test_an_empty_completion_needs_a_bos(plain_tokenizer, llama_tokenizer):
    with pytest.raises(CodecriaError, match="the prompt is empty"):
        random_code_model(plain_tokenizer).complete("")
    model = random_code_model(llama_tokenizer)
    result = model.complete("", max_tokens=10)
    assert result.prompt_tokens == 1
    assert result.text == llama_tokenizer.decode(result.ids)
    model = scripted_code_model(llama_tokenizer, [*llama_tokenizer.bos_ids, *llama_tokenizer.encode("import os"), 2])
    assert model.complete("").text == "import os"


def test_a_stream_decoder_for_each_text(infilling_tokenizer):
    plan = random_code_model(infilling_tokenizer).prepare_completion("x", heal=False).text
    first, second = plan.new_decoder(), plan.new_decoder()
    assert isinstance(first, StreamDecoder) and first is not second


def test_the_package_exports_load_without_importing_torch():
    code = "import codecria, sys; assert codecria.__version__; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert codecria.load.__module__ == "codecria.generation.code_model"
    assert codecria.CodeModel is CodeModel
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        codecria.lode  # noqa: B018


def test_load_opens_a_checkpoint_and_answers(smollm2_gguf):
    model = codecria.load(smollm2_gguf, dtype="fp32", device="cpu")
    result = model.complete("The capital of France is", max_tokens=3, logprobs=True)
    assert result.text.startswith(" Paris")
    assert len(result.log_probabilities) == len(result.ids) == 4  # " is" is taken back and comes again
    answer = model.chat([{"role": "user", "content": "What is 2+2? Only the number."}], max_tokens=20)
    assert "4" in answer.text and "<|" not in answer.text
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize("order", ["psm", "spm"])
def test_the_end_of_the_prefix_is_healed_in_spm_alone(infilling_tokenizer, order):
    """A line end and the next line's indentation are one token, so a prompt that ends with the one stands askew."""
    model = random_code_model(infilling_tokenizer, seed=4)
    prefix = "def total(items):\n"
    plain = model.prepare_infill(prefix, SUFFIX, order=order, heal=False)
    healed = model.prepare_infill(prefix, SUFFIX, order=order)
    if order == "psm":
        assert healed.ids == plain.ids
        return
    assert healed.ids == plain.ids[:-1]
    for seed in range(20):
        result = model.infill(prefix, SUFFIX, order=order, seed=seed, temperature=1.0, max_tokens=5, trim=False)
        written = infilling_tokenizer.decode_infilling(result.ids)
        assert written == "\n" + result.text
        assert (
            "".join(
                model.stream_infill(prefix, SUFFIX, order=order, seed=seed, temperature=1.0, max_tokens=5, trim=False)
            )
            == result.text
        )


def test_healed_samples_do_not_depend_on_their_company(infilling_tokenizer):
    model = random_code_model(infilling_tokenizer, seed=5)
    prompts = ["def f(x):\n", "import os\n\n", "x = [1, 2"]
    options = {"temperature": 1.0, "seed": 9, "max_tokens": 6}
    together = [samples[0].text for samples in model.complete_many(prompts, **options)]
    assert together == [model.complete(prompt, **options).text for prompt in prompts]


def taking_back(tokenizer, prompt, *after):
    """A model that writes `after` behind a prompt, and the prompt's last token where it is taken back."""
    ids = [*tokenizer.bos_ids, *tokenizer.encode(prompt)]
    return scripted_code_model(tokenizer, [*ids[-2:], *(tokenizer.encode_infilling(text)[0] for text in after)])


@pytest.mark.parametrize("drafts", [0, 8])
def test_the_token_taken_back_is_not_one_of_max_tokens(tokenizer, drafts):
    model = taking_back(tokenizer, "import os\n", "def", "x", "=", "(", ")")
    model.engine.draft_tokens = drafts
    for tokens in range(5):
        options = {"max_tokens": tokens, "logprobs": True}
        plain, healed = (model.complete("import os\n", heal=heal, **options) for heal in (False, True))
        assert (healed.text, healed.finish_reason) == (plain.text, plain.finish_reason)
        assert len(plain.ids) == tokens
        assert healed.ids == (model.tokenizer.encode_infilling("\n") if tokens else []) + plain.ids
        assert len(healed.log_probabilities) == len(healed.ids)
        [pair] = model.complete_many(["import os\n"], n=2, max_tokens=tokens)
        assert [each.text for each in pair] == [plain.text] * 2


def test_a_longer_token_than_the_one_taken_back_is_one_of_max_tokens(infilling_tokenizer):
    model = taking_back(infilling_tokenizer, "import os\n", "def")
    prepared = model.prepare_completion("import os\n")
    longer = next(id for id in prepared.text.first_ids if id != prepared.text.guess)
    result = model.complete("import os\n", max_tokens=1, logit_bias={longer: 9.0})
    assert result.ids == [longer]


def test_what_was_taken_back_goes_to_the_contexts_end(tokenizer):
    model = random_code_model(tokenizer, max_positions=16)
    prompt = next(text for text in ("x" + "(\n" * each for each in range(16)) if len(tokenizer.encode(text)) > 10)
    plain, healed = (model.complete(prompt, heal=heal, max_tokens=99) for heal in (False, True))
    assert len(plain.ids) + plain.prompt_tokens == len(healed.ids) + healed.prompt_tokens == 16


@pytest.mark.parametrize("drafts", [0, 8])
@pytest.mark.parametrize("least", [0, 1, 2])
def test_the_token_taken_back_ends_no_text(tokenizer, least, drafts):
    model = taking_back(tokenizer, "import os\n", "def", "x", ";", "=")
    model.engine.draft_tokens = drafts
    (newline,) = tokenizer.encode_infilling("\n")
    (end,) = tokenizer.encode_infilling(";")
    options = {"stop_ids": [newline, end], "min_tokens": least, "max_tokens": 9}
    plain, healed = (model.complete("import os\n", heal=heal, **options) for heal in (False, True))
    assert (healed.text, healed.finish_reason) == (plain.text, "stop") == ("defx", "stop")
    # Written first, it is still the prompt's: the text has at least so many tokens of its own.
    options = {"stop_ids": [newline, tokenizer.encode_infilling("x")[0]], "min_tokens": least, "max_tokens": 4}
    plain, healed = (model.complete("import os\n", heal=heal, **options) for heal in (False, True))
    assert (healed.text, healed.finish_reason) == (plain.text, plain.finish_reason)
    assert (len(plain.ids) == 1) == (least < 2)

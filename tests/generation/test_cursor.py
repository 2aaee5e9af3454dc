import argparse
import statistics
from pathlib import Path

import pytest

from codecria.common.errors import CodecriaError
from codecria.generation.candidates import mean_log_probability, ranked
from codecria.generation.code_model import CodeModel
from codecria.generation.cursor import LONGEST_BEGUN
from codecria.generation.sequence import Completion
from tests.generation.conftest import random_model, scripted_model

SOURCE = Path(argparse.__file__).read_text()
BEFORE, AFTER = SOURCE[10_000:11_000], SOURCE[11_600:12_600]
TYPED = SOURCE[11_000:11_600]


def code_model(tokenizer, max_positions=2048, seed=3):
    return CodeModel(
        random_model(seed, vocab_size=tokenizer.vocab_size, hidden_size=32, max_positions=max_positions), tokenizer
    )


@pytest.fixture(scope="module")
def model(infilling_tokenizer):
    return code_model(infilling_tokenizer)


def writer(tokenizer, text):
    """A model that writes this text behind the middle marker."""
    plain = code_model(tokenizer)
    script = [plain.sentinels.middle, *tokenizer.encode_infilling(text), plain.sentinels.end[0]]
    return CodeModel(scripted_model(script, vocab_size=tokenizer.vocab_size), tokenizer)


@pytest.mark.parametrize("order", ["spm", "psm"])
@pytest.mark.parametrize("which", ["infilling_tokenizer", "llama_tokenizer"])
def test_a_key_costs_its_own_tokens(request, which, order):
    model = code_model(request.getfixturevalue(which))
    cursor = model.cursor(BEFORE, AFTER, order=order, max_tokens=3)
    assert cursor.suggest().new_tokens > 400
    new = []
    for letter in TYPED[:80]:
        cursor.type(letter)
        suggestion = cursor.suggest()
        new.append(suggestion.new_tokens)
        if suggestion.new_tokens and len(new) % 10 == 0:
            split = (cursor.prefix, "") if order == "spm" else (BEFORE, cursor.prefix[len(BEFORE) :])
            fresh = code_model(model.tokenizer).infill(split[0], AFTER, begun=split[1], max_tokens=3, order=order)
            assert suggestion.text == fresh.text
    assert statistics.median(new) <= 3
    assert max(new) <= 6


@pytest.mark.parametrize("order", ["spm", "psm"])
def test_what_is_read_ahead_is_what_is_asked_for(model, order):
    """Also where the document is larger than the context."""
    cursor = model.fresh().cursor(SOURCE[:20_000], SOURCE[20_000:40_000], order=order, max_tokens=300, stop="\n")
    cursor.read()
    suggestion = cursor.suggest()
    assert suggestion.reused_tokens > 1000
    assert suggestion.new_tokens <= 4


def test_deleting_costs_as_typing_does_and_moving_reads_the_rest(model):
    cursor = model.cursor(BEFORE, AFTER, max_tokens=1)
    cursor.read()
    assert cursor.suggest().new_tokens <= 1
    new = []
    for _ in range(30):
        cursor.delete()
        new.append(cursor.suggest().new_tokens)
    assert statistics.median(new) <= 2
    cursor.delete(0, 1)
    assert cursor.suggest().new_tokens > 400
    place = len(cursor.prefix)
    cursor.move(-40)
    cursor.move(15)
    assert len(cursor.prefix) == place - 25
    assert cursor.prefix + cursor.suffix == BEFORE[:-30] + AFTER[1:]
    assert cursor.suggest().new_tokens > 400
    with pytest.raises(CodecriaError, match="before and 0 after the cursor, where there are"):
        cursor.delete(10_000)


def test_psm_keeps_the_prefix_when_the_cursor_goes_on_in_the_line(infilling_tokenizer):
    """Each move reads the suffix again; the common beginning of the prefix is kept."""
    cursor = code_model(infilling_tokenizer).cursor(BEFORE, AFTER, order="psm", max_tokens=1)
    cursor.suggest()
    cursor.move(5)
    suggestion = cursor.suggest()
    suffix = len(infilling_tokenizer.encode_infilling(cursor.suffix))
    assert suffix < suggestion.new_tokens < suffix + 10
    cursor.type("x" * (LONGEST_BEGUN + 1))
    assert cursor.suggest().new_tokens > suffix
    cursor.type("y")
    assert cursor.suggest().new_tokens <= 3


def test_what_is_typed_in_psm_begins_the_middle(infilling_tokenizer):
    """The prompt is the layout's, then the middle's first tokens, healed at their end."""
    model = code_model(infilling_tokenizer)
    whole = model.prepare_infill("a = ", "\n", order="psm").ids
    begun = model.prepare_infill("a = ", "\n", order="psm", begun="fun").ids
    assert begun == [*whole, *infilling_tokenizer.encode_infilling("fun")[:-1]]
    assert model.prepare_infill("a = ", "\n", order="spm", begun="fun").ids == (
        model.prepare_infill("a = fun", "\n", order="spm").ids
    )
    text = writer(infilling_tokenizer, " total(x)").infill("a =", "\n", order="psm", begun=" tot").text
    assert text == "al(x)"


def test_typing_what_was_suggested_needs_no_pass(infilling_tokenizer, monkeypatch):
    cursor = writer(infilling_tokenizer, " total(items)").cursor("a =", "\n", order="psm")
    assert cursor.suggest().text == " total(items)"
    generate = cursor._model.engine.generate
    monkeypatch.setattr(cursor._model.engine, "generate", lambda *_: pytest.fail("a pass was made"))
    for letter in " tota":
        cursor.type(letter)
        suggestion = cursor.suggest()
        assert cursor.prefix[3:] + suggestion.text == " total(items)"
        assert (suggestion.new_tokens, suggestion.written_tokens) == (0, 0)
    assert list(cursor.stream()) == ["l(items)"]
    cursor.delete(2)
    assert cursor.suggest().text == "tal(items)"
    assert cursor.accept(4) == "tal("
    assert cursor.accept() == "items)"
    assert cursor.prefix == "a = total(items)"
    monkeypatch.setattr(cursor._model.engine, "generate", generate)
    cursor.suggest()
    cursor.type("\n")
    with pytest.raises(CodecriaError, match="no suggestion to accept"):
        cursor.accept()


@pytest.mark.parametrize("order", ["spm", "psm"])
def test_an_accepted_suggestion_is_in_the_cache(infilling_tokenizer, order):
    cursor = code_model(infilling_tokenizer).cursor(BEFORE, AFTER, order=order, max_tokens=12, trim=False)
    suggestion = cursor.suggest()
    assert suggestion.written_tokens == 12 + (order == "spm")  # and the token that healing took back
    cursor.accept()
    # What a random model writes is not always what the tokenizer makes of its text; the prompt before it is held.
    assert cursor.suggest().new_tokens <= 13


def test_a_change_ends_the_stream_and_frees_its_place(model, monkeypatch):
    ended = []
    cancel = model.engine.cancel
    monkeypatch.setattr(model.engine, "cancel", lambda sequences: ended.extend(sequences) or cancel(sequences))
    cursor = model.cursor(BEFORE, AFTER, max_tokens=200, temperature=1.0, seed=1)
    pieces = cursor.stream()
    first = next(pieces)
    cursor.type("x")
    assert list(pieces) == []
    assert [(each.finished, each.finish_reason) for each in ended] == [(True, None)]
    assert model.engine.statistics().running == 0
    again = cursor.stream()
    next(again)
    newer = cursor.stream()
    assert list(again) == []
    text = "".join(newer)
    assert first and text == cursor.suggest().text
    assert cursor.suggest().new_tokens == 0


def test_candidates_are_different_and_the_likeliest_comes_first(model):
    cursor = model.cursor(BEFORE, AFTER, max_tokens=4, seed=0)
    found = cursor.candidates(6)
    assert 2 <= len(found) <= 6
    assert len({each.text for each in found}) == len(found)
    assert found == sorted(found, key=lambda each: -each.log_probability)
    assert sum(each.new_tokens > 400 for each in found) <= 1
    second = found[1].text
    cursor.type(second[:1])
    assert cursor.suggest().text in {each.text[1:] for each in found if each.text.startswith(second[:1])}
    assert [each.text for each in model.infill_candidates(BEFORE, AFTER, 1, max_tokens=4)] == [
        model.infill(BEFORE, AFTER, max_tokens=4).text
    ]


def test_ranking_is_by_the_mean_and_keeps_a_text_once():
    def made(text, *values):
        return Completion(text, [0] * len(values), "stop", list(values), 1, 0, [])

    found = ranked([made("long", -1.0, -1.0, -1.0), made("short", -2.0), made("long", -0.5), made("", *())])
    assert [each.text for each in found] == ["", "long", "short"]
    assert mean_log_probability(found[1]) == -0.5


def test_other_files_are_read_once(infilling_tokenizer):
    files = [("helpers.py", SOURCE[20_000:23_000]), ("prices.py", SOURCE[30_000:31_000])]
    model = code_model(infilling_tokenizer)
    cursor = model.cursor(BEFORE, AFTER, path="main.py", files=files, max_tokens=1)
    first = cursor.suggest()
    marker = infilling_tokenizer.token_id("<file_sep>")
    assert model.prepare_infill(BEFORE, AFTER, path="main.py", files=files).ids.count(marker) == 3
    cursor.move(-3)
    moved = cursor.suggest()
    assert moved.reused_tokens > 800
    assert moved.new_tokens < first.new_tokens - 800


def test_lines_that_end_with_cr_lf(infilling_tokenizer):
    model = writer(infilling_tokenizer, " f(x)\n    y")
    prompt = model.prepare_infill("a\r\nb =", "\r\nc\r\n", order="psm").ids
    assert prompt == model.prepare_infill("a\nb =", "\nc\n", order="psm").ids
    assert model.infill("a\r\nb =", "\r\nc\r\n", order="psm").text == " f(x)\r\n    y"
    assert model.infill("a\r\nb =", "\r\nc\r\n", order="psm", stop_at="line").text == " f(x)"
    echo = writer(infilling_tokenizer, " f(x)\n    return")
    assert echo.infill("a\r\nb =", "\r\n    return y\r\n", order="psm").text == " f(x)"
    for stop, text in (("\n", " f(x)"), ("\r\n", " f(x)"), ("\r\n    ", " f(x)"), ("\n\n", " f(x)\r\n    y")):
        assert model.infill("a\r\nb =", "\r\nc\r\n", order="psm", stop=stop).text == text
    pairs = [("a\nb =", "\nc\n"), ("a\r\nb =", "\r\nc\r\n")]
    texts = [one.text for [one] in model.infill_many(pairs, order="psm", stop="\r\n")]
    assert texts == [" f(x)\n    y", " f(x)"]
    cursor = model.cursor("a\r\nb =", "\r\nc\r\n", order="psm")
    assert cursor.suggest().text == " f(x)\r\n    y"
    cursor.type(" f(x)\r\n")
    assert cursor.suggest().text == "    y"


def test_the_window_is_a_part_of_the_context(infilling_tokenizer):
    model = code_model(infilling_tokenizer)
    prepared = model.prepare_infill(SOURCE[:40_000], SOURCE[40_000:], window_tokens=300, max_tokens=40)
    assert 180 < len(prepared.ids) <= 260
    assert prepared.ids[0] == model.sentinels.prefix

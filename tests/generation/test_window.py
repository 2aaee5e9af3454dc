import argparse
import statistics
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.generation.encoding import RememberingEncoder
from codecria.generation.window import FILES_SHARE, STEP, files_room, fit_infill
from codecria.infill.layout import common_length, infill_prompt
from codecria.tokenizer.sentinels import find_sentinels

LINES = [f"    value_{number} = compute(value_{number - 1}, {number})\n" for number in range(400)]
SOURCE = "".join(LINES)


@pytest.fixture(params=["infilling_tokenizer", "llama_tokenizer"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def test_what_fits_is_left_alone(tokenizer):
    sentinels = find_sentinels(tokenizer)
    for order in sentinels.orders:
        prompt = infill_prompt(tokenizer, sentinels, SOURCE[:2000], SOURCE[2000:3000], order)
        fitted = fit_infill(tokenizer, sentinels, SOURCE[:2000], SOURCE[2000:3000], order, len(prompt))
        assert fitted == (SOURCE[:2000], SOURCE[2000:3000])


@pytest.mark.parametrize("order", ["psm", "spm"])
def test_the_nearest_lines_are_kept_three_to_one(tokenizer, order):
    sentinels = find_sentinels(tokenizer)
    cut = SOURCE.index("value_200") + 3
    prefix, suffix = fit_infill(tokenizer, sentinels, SOURCE[:cut], SOURCE[cut:], order, 1000)
    assert SOURCE[:cut].endswith(prefix) and SOURCE[cut:].startswith(suffix)
    assert prefix.startswith("    value_") and suffix.endswith(")\n")
    prompt = infill_prompt(tokenizer, sentinels, prefix, suffix, order)
    line = len(tokenizer.encode(LINES[200]))
    room = 1000 - len(infill_prompt(tokenizer, sentinels, "", "", order))
    assert (1 - STEP) * room - 2 * line < len(prompt) <= 1000
    assert (1 - STEP) * 0.75 * room - line < len(tokenizer.encode(prefix)) <= 0.75 * room


def test_a_short_side_leaves_its_room_to_the_other(tokenizer):
    sentinels = find_sentinels(tokenizer)
    line = len(tokenizer.encode(LINES[200]))
    prefix, suffix = fit_infill(tokenizer, sentinels, SOURCE, "\n", "psm", 500)
    assert suffix == "\n"
    assert 494 >= len(tokenizer.encode(prefix)) > (1 - STEP) * 494 - line
    prefix, suffix = fit_infill(tokenizer, sentinels, "x", SOURCE, "psm", 500)
    assert prefix == "x"
    assert 494 >= len(tokenizer.encode_infilling(suffix)) > (1 - STEP) * 494 - line


def test_a_line_longer_than_the_window_is_cut_at_characters(tokenizer):
    sentinels = find_sentinels(tokenizer)
    line = "data = [" + ", ".join(map(str, range(5000))) + "]"
    prefix, suffix = fit_infill(tokenizer, sentinels, line, line, "psm", 100)
    assert line.endswith(prefix) and line.startswith(suffix)
    assert 95 <= len(infill_prompt(tokenizer, sentinels, prefix, suffix, "psm")) <= 100


@settings(max_examples=80, deadline=None)
@given(
    st.text(alphabet="ab \n\té猫☺", max_size=300),
    st.text(alphabet="ab \n\té猫☺", max_size=300),
    st.sampled_from(["psm", "spm"]),
    st.integers(6, 120),
)
def test_a_prompt_never_has_more_tokens_than_its_window(infilling_tokenizer, prefix, suffix, order, window):
    sentinels = find_sentinels(infilling_tokenizer)
    kept = fit_infill(infilling_tokenizer, sentinels, prefix, suffix, order, window)
    assert prefix.endswith(kept[0]) and suffix.startswith(kept[1])
    assert len(infill_prompt(infilling_tokenizer, sentinels, *kept, order)) <= window


def test_a_window_too_small_for_any_text_keeps_the_markers(infilling_tokenizer):
    sentinels = find_sentinels(infilling_tokenizer)
    assert fit_infill(infilling_tokenizer, sentinels, "a b", "c d", "psm", 2) == ("", "")


@pytest.mark.parametrize("lines", [0, 60])
def test_typing_moves_the_window_seldom_and_keeps_the_prompt(tokenizer, lines):
    """2,000 keystrokes in the middle of a real file; in the second run the client shows 60 lines above the cursor."""
    text = Path(argparse.__file__).read_text()
    start = text.index("class HelpFormatter") + 3000
    sentinels = find_sentinels(tokenizer)
    new, moves, last, ids = [], 0, None, []
    encoder = RememberingEncoder(tokenizer)
    for typed in range(2000):
        prefix, suffix = text[: start + typed], text[start + 2000 :]
        if lines:
            prefix = "".join(prefix.splitlines(keepends=True)[-lines:])
        shown = fit_infill(encoder, sentinels, prefix, suffix, "spm", 512)
        prompt = infill_prompt(encoder, sentinels, *shown, "spm")
        begins = (len(prefix) - len(shown[0]) - (len(prefix) - start - typed), shown[1])
        moves += last is not None and begins != last
        new.append(len(prompt) - min(common_length(prompt, ids), len(prompt) - 1))
        last, ids = begins, prompt
    assert statistics.median(new) <= 2
    assert sorted(new)[int(0.95 * len(new))] <= 4
    assert 0 < moves < 40


def test_a_line_above_the_window_does_not_move_it(tokenizer):
    sentinels = find_sentinels(tokenizer)
    text = Path(argparse.__file__).read_text()
    shown = fit_infill(tokenizer, sentinels, text[:40000], text[40000:], "spm", 600)
    other = "import this\n" + text[:40000], text[40000:] + "\nmain()\n"
    assert fit_infill(tokenizer, sentinels, *other, "spm", 600) == shown


def test_other_files_get_their_share_and_whole_quarters_of_what_is_free(tokenizer):
    line = len(tokenizer.encode(LINES[200]))
    assert files_room(tokenizer, SOURCE, SOURCE, 1000) == FILES_SHARE * 1000
    assert files_room(tokenizer, "", "", 1000) == 750
    rooms = [files_room(tokenizer, "".join(LINES[:count]), "", 1000) for count in range(1000 // line)]
    assert sorted(rooms, reverse=True) == rooms
    assert set(rooms) == {750, 500, 250}

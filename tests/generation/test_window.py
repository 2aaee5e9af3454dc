import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.generation.window import fit_infill
from codecria.infill.layout import infill_prompt
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
    assert 1000 - 2 * line < len(prompt) <= 1000
    room = 1000 - len(infill_prompt(tokenizer, sentinels, "", "", order))
    assert 0.75 * room - line < len(tokenizer.encode(prefix)) <= 0.75 * room


def test_a_short_side_leaves_its_room_to_the_other(tokenizer):
    sentinels = find_sentinels(tokenizer)
    line = len(tokenizer.encode(LINES[200]))
    prefix, suffix = fit_infill(tokenizer, sentinels, SOURCE, "\n", "psm", 500)
    assert suffix == "\n"
    assert len(tokenizer.encode(prefix)) > 500 - 6 - line
    prefix, suffix = fit_infill(tokenizer, sentinels, "x", SOURCE, "psm", 500)
    assert prefix == "x"
    assert len(tokenizer.encode_infilling(suffix)) > 500 - 6 - line


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

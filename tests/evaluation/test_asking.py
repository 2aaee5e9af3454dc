from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from codecria.evaluation.asking import METHODS, Asking
from codecria.evaluation.scoring import score
from codecria.evaluation.tasks.lines import Line
from codecria.infill.layout import Sentinels, Split, infill_example, infill_prompt
from codecria.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.model.transformer import Transformer

LINES = [
    Line("indented", "def f(x):\n    y = 1\n", "    return x + y", "\n\nf(2)\n"),
    Line("first column", "import os\n", "x = os.getcwd()", "\n"),
    Line("first of a file", "", "    # é and 😀", "\ny = 2\n"),
    Line("after a blank line", "a = 1\n\n", "    b = 2", ""),
    Line("after blanks only", "\n", "    b = 2", "\nc"),
]


@pytest.fixture(scope="module")
def llama(llama_tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(llama_tokenizer_folder)


@pytest.fixture(scope="module")
def asking(marked: tuple[Tokenizer, Sentinels]) -> Asking:
    return Asking(*marked)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.id)
def test_the_truth_spells_the_middle(asking: Asking, line: Line) -> None:
    tokenizer = asking.tokenizer
    for method in METHODS:
        truth = asking.truth(line, method)
        spelled = tokenizer.decode_infilling(truth.target)
        assert spelled.endswith(line.middle)
        healed = spelled.removesuffix(line.middle)
        assert line.prefix.endswith(healed)
        context = tokenizer.decode_infilling(truth.context)
        if method == "left_to_right":
            assert context + spelled == line.prefix + line.middle
        elif method == "spm":
            assert context + spelled == line.suffix + line.prefix + line.middle
        else:
            assert healed == ""
            assert context + spelled == line.prefix + line.suffix + line.middle
        assert (truth.first_among is not None) == bool(healed)
        if truth.first_among is not None:
            assert truth.target[0] in truth.first_among
            starts = {tokenizer.token_bytes(id).startswith(healed.encode()) for id in truth.first_among}
            assert starts == {True}


def test_infilling_uses_the_one_path(asking: Asking) -> None:
    assert asking.sentinels is not None
    for line in LINES:
        for order in ("psm", "spm"):
            built = infill_prompt(asking.tokenizer, asking.sentinels, line.prefix, line.suffix, order)
            assert asking.prompt(line, order) == built
            example = infill_example(
                asking.tokenizer, asking.sentinels, Split(line.prefix, line.middle, line.suffix), order
            )
            truth = asking.truth(line, order)
            assert [*truth.context, *truth.target, truth.end_among[0]] == example.ids  # pyright: ignore
            assert truth.end_among == list(asking.sentinels.end)


def test_an_indented_line_is_healed_where_the_tokenizer_joins_line_end_and_indentation(
    asking: Asking, llama: Tokenizer
) -> None:
    truth = asking.truth(LINES[0], "left_to_right")
    assert asking.tokenizer.token_bytes(truth.target[0]) == b"\n   "
    plain = Asking(llama, None).truth(LINES[0], "left_to_right")
    assert plain.first_among is None
    assert list(plain.context) == [llama.bos_id, *llama.encode(LINES[0].prefix)]


def test_a_line_end_is_any_token_that_begins_with_one(asking: Asking) -> None:
    ends = asking.truth(LINES[0], "left_to_right").end_among
    assert ends is not None
    spellings = [asking.tokenizer.token_bytes(id) for id in ends]
    assert b"\n" in spellings and b"\n   " in spellings
    assert all(spelling.startswith(b"\n") for spelling in spellings)


def test_left_to_right_gives_the_chance_of_the_text_under_any_token_that_continues_it(
    asking: Asking, tiny_model: Transformer
) -> None:
    truth = asking.truth(LINES[0], "left_to_right")
    (bits,) = score(tiny_model, [truth])
    ids = torch.tensor([[*truth.context, *truth.target]])
    with torch.inference_mode():
        p_LV = torch.softmax(tiny_model.logits(tiny_model(ids))[0].double(), dim=-1)
    first = len(truth.context) - 1
    given = p_LV[first, list(truth.first_among or [])].sum()
    expected = [p_LV[first, truth.target[0]] / given]
    expected += [p_LV[first + place, id] for place, id in enumerate(truth.target)][1:]
    expected.append(p_LV[-1, list(truth.end_among or [])].sum())
    np.testing.assert_allclose(bits, np.log2([float(p) for p in expected]), atol=1e-4)


def test_reasons_against_a_method(asking: Asking, plain_tokenizer: Tokenizer) -> None:
    assert [asking.reason_against(method) for method in METHODS] == ["", "", ""]
    plain = Asking(plain_tokenizer, None)
    assert plain.reason_against("left_to_right") == ""
    assert plain.reason_against("psm") == "the model has no infill markers"
    only = Asking(plain_tokenizer, Sentinels(1, 2, 3, end=(0,), family="qwen2.5-coder", orders=("psm",)))
    assert only.reason_against("spm") == "the qwen2.5-coder layout has no SPM order"

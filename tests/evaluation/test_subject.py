from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch

from codecria.evaluation.subject import Asked, LocalSubject
from codecria.evaluation.tasks.lines import Line
from codecria.evaluation.tasks.single_line import ask_line
from codecria.tokenizer.sentinels import reserved_ids
from codecria.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from codecria.evaluation.asking import Method
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer

LINES = [
    Line("0", "def f(x):\n    y = 1\n", "    return x + y", "\n\nf(2)\n"),
    Line("1", "import os\n\n", "x = os.getcwd()", "\n"),
    Line("2", "", "# first", "\ny = 2\n"),
    Line("3", "for é in '😀':\n", "    pass", ""),
    Line("4", "x", " = 1", "\n"),
]


@pytest.fixture(scope="module")
def subject(marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer) -> LocalSubject:
    """Random weights, with long rows for line ends and the end marker, so that these are often written."""
    tokenizer, sentinels = marked
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for id in (tokenizer.encode_infilling("\n")[0], sentinels.end[0]):
            model.model.embed_tokens.weight[id] *= 3
    return LocalSubject(model, tokenizer)


def write_lines(
    subject: LocalSubject, method: Method, lines: Sequence[Line], max_tokens: int
) -> list[tuple[str, bool]]:
    """Greedy middles, and whether each ended by itself."""
    written = subject.write([ask_line(line, method, max_tokens) for line in lines])
    return [(middle.text, middle.finish_reason != "length") for (middle,) in written]


def by_hand(subject: LocalSubject, line: Line, method: Method, max_tokens: int) -> tuple[str, bool]:
    """Greedy text, the whole text through the model for each token; the first one among those that are allowed."""
    tokenizer, prompt = subject.tokenizer, subject.asking.prompt(line, method)
    healed, taken_back = b"", None
    if line.prefix:
        healed, taken_back, prompt = tokenizer.token_bytes(prompt[-1]), prompt[-1:], prompt[:-1]
    ids = prompt or [tokenizer.eos_ids[0]]
    start, ended = len(ids), False
    # The token taken back, where it comes again, is none of them.
    while len(ids) - start - (ids[start : start + 1] == taken_back) < max_tokens and not ended:
        with torch.no_grad():
            logits_V = subject.model.logits(subject.model(torch.tensor([ids])))[0, -1].clone()
        logits_V[list(reserved_ids(tokenizer))] = -torch.inf
        allowed = range(tokenizer.vocab_size)
        if len(ids) == start and healed:
            allowed = [id for id in allowed if tokenizer.token_bytes(id).startswith(healed)]
        best = allowed[int(logits_V[list(allowed)].argmax())]
        if best in tokenizer.special_ids:
            ended = True
        else:
            ids.append(best)
            text = tokenizer.decode_infilling(ids[start:])[len(healed.decode()) :]
            ended = method == "left_to_right" and "\n" in text
    text = tokenizer.decode_infilling(ids[start:])[len(healed.decode()) :]
    return (text.partition("\n")[0] if method == "left_to_right" else text), ended


@pytest.mark.parametrize("method", ["left_to_right", "spm"])
def test_the_prompts_last_token_is_healed(subject: LocalSubject, method: Method) -> None:
    written = write_lines(subject, method, LINES, 6)
    expected = [by_hand(subject, line, method, 6) for line in LINES]
    assert written == expected
    assert {ended for _, ended in expected} == {True, False}, "both ways of ending are seen"


def test_prefix_first_is_what_people_get(subject: LocalSubject) -> None:
    written = write_lines(subject, "psm", LINES, 6)
    pairs = [(line.prefix, line.suffix) for line in LINES]
    served = subject.fresh().infill_many(pairs, order="psm", trim=False, max_tokens=6)
    assert written == [(completion.text, completion.finish_reason == "stop") for (completion,) in served]


def test_healed_samples_begin_as_a_draw_among_the_allowed_would(subject: LocalSubject) -> None:
    tokenizer, samples = subject.tokenizer, 400
    prompt = "def f(x):\n"
    ((*completions,),) = subject.write(
        [Asked(prompt=prompt, options={"n": samples, "temperature": 1.0, "max_tokens": 2, "seed": 3})]
    )
    prepared = subject.fresh().prepare_completion(prompt)
    texts = [completion.text for completion in completions]
    context = torch.tensor([prepared.ids])
    with torch.no_grad():
        logits_V = subject.model.logits(subject.model(context))[0, -1]
    allowed = [id for id in range(tokenizer.vocab_size) if tokenizer.token_bytes(id).startswith(b"\n")]
    p = torch.softmax(logits_V[allowed].double(), dim=0)
    blank = sum(float(share) for share, id in zip(p, allowed, strict=True) if tokenizer.token_bytes(id)[1:2] == b" ")
    found = sum(text.startswith(" ") for text in texts) / samples
    # The second token may begin with a blank too, where the first was a bare line end.
    bare = float(p[allowed.index(tokenizer.encode_infilling("\n")[0])])
    assert blank - 0.08 < found < blank + bare + 0.08


def test_healing_a_line_end_changes_nothing_where_it_is_a_token_of_its_own(llama_tokenizer_folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(llama_tokenizer_folder)
    assert list(tokenizer.ids_beginning(b"\n")) == tokenizer.encode_infilling("\n")


def test_nothing_asked_nothing_written(subject: LocalSubject) -> None:
    assert write_lines(subject, "psm", [], 6) == []
    assert write_lines(subject, "left_to_right", [], 6) == []

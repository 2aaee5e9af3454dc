from __future__ import annotations

import numpy as np
import pytest
import torch

from codecria.common.errors import CodecriaError
from codecria.evaluation.scoring import Continuation, score, score_in_chunks
from codecria.model.config import ModelConfig
from codecria.model.transformer import Transformer


@pytest.fixture(scope="module")
def model() -> Transformer:
    config = ModelConfig(97, 32, 64, 2, 4, 2, 8, 1e-5, 1e4, None, 128, True)
    made = Transformer(config)
    made.initialise(0, std=0.3)
    return made


def draw(seed: int, context: int, target: int) -> Continuation:
    ids = np.random.default_rng(seed).integers(0, 97, size=context + target).tolist()
    return Continuation(ids[:context], ids[context:])


def alone(model: Transformer, each: Continuation) -> np.ndarray:
    """Bits of each target by the plain road: the whole text in, all logits out."""
    ids = torch.tensor([[*each.context, *each.target]])
    with torch.inference_mode():
        log_p = torch.log_softmax(model.logits(model(ids))[0].double(), dim=-1)
    first = len(each.context)
    bits = [log_p[place - 1, ids[0, place]].item() for place in range(first, ids.shape[1])]
    return np.array(bits) / np.log(2)


def test_packed_scores_equal_scores_of_each_text_alone(model: Transformer) -> None:
    texts = [draw(seed, 1 + seed % 7, 1 + (3 * seed) % 11) for seed in range(20)]
    for row_tokens in (8, 40, 2048):
        packed = score(model, texts, row_tokens)
        assert [len(bits) for bits in packed] == [len(each.target) for each in texts]
        for each, bits in zip(texts, packed, strict=True):
            np.testing.assert_allclose(bits, alone(model, each), rtol=0, atol=1e-4)


def test_a_text_does_not_see_its_neighbours(model: Transformer) -> None:
    middle = draw(1, 4, 5)
    first = score(model, [draw(2, 9, 3), middle, draw(3, 2, 2)])[1]
    other = score(model, [draw(4, 9, 3), middle, draw(5, 2, 2)])[1]
    assert first.tolist() == other.tolist()


def test_a_first_token_known_to_be_among_some_is_scored_among_them(model: Transformer) -> None:
    text = draw(6, 5, 3)
    among = sorted({text.target[0], 3, 50, 51})
    plain, within = score(model, [text, Continuation(text.context, text.target, among)])
    ids = torch.tensor([list(text.context)])
    with torch.inference_mode():
        p_V = torch.softmax(model.logits(model(ids))[0, -1].double(), dim=-1)
    share = p_V[text.target[0]] / p_V[among].sum()
    assert within[0] == pytest.approx(np.log2(share.item()), abs=1e-4)
    assert within[1:].tolist() == plain[1:].tolist()
    only = score(model, [Continuation(text.context, text.target, [text.target[0]])])[0]
    assert only[0] == pytest.approx(0.0, abs=1e-5)


def test_an_end_is_the_mass_of_its_ids(model: Transformer) -> None:
    text, neighbour = draw(7, 4, 6), draw(8, 3, 3)
    ends = [3, 9, 96]
    plain, with_end, after = score(model, [text, Continuation(text.context, text.target, None, ends), neighbour])
    assert with_end[:-1].tolist() == pytest.approx(plain.tolist(), abs=1e-5)
    ids = torch.tensor([[*text.context, *text.target]])
    with torch.inference_mode():
        p_V = torch.softmax(model.logits(model(ids))[0, -1].double(), dim=-1)
    assert with_end[-1] == pytest.approx(np.log2(p_V[ends].sum().item()), abs=1e-4)
    np.testing.assert_allclose(after, alone(model, neighbour), rtol=0, atol=1e-4)


def test_what_cannot_be_scored_is_refused(model: Transformer) -> None:
    with pytest.raises(CodecriaError, match="at least one token"):
        score(model, [Continuation([], [1])])
    with pytest.raises(CodecriaError, match="129 tokens to score, the model has 128 positions"):
        score(model, [draw(0, 100, 30)])
    assert len(score(model, [draw(0, 100, 29)])[0]) == 29
    assert score(model, []) == []


@pytest.mark.parametrize("chunk_tokens", [1, 10, 64, 512])
def test_a_long_text_in_chunks_has_the_scores_of_one_pass(model: Transformer, chunk_tokens: int) -> None:
    for context, target in ((1, 1), (1, 90), (30, 60), (64, 64)):
        each = draw(context, context, target)
        found = score_in_chunks(model, each.context, each.target, chunk_tokens)
        np.testing.assert_allclose(found, alone(model, each), rtol=1e-4, atol=1e-5)
    with pytest.raises(CodecriaError, match="129 tokens to score, the model has 128 positions"):
        score_in_chunks(model, [1], [1] * 129, chunk_tokens)

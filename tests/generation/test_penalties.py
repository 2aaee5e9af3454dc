import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from codecria.generation.penalties import forbid, penalise
from codecria.generation.sampling import SamplingOptions


def scores():
    return torch.randn(50, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("penalty", [1.3, 0.7])
def test_repetition_penalty_equals_that_of_transformers(penalty):
    changed = scores()
    penalise(changed, SamplingOptions(repetition_penalty=penalty), [3, 4, 4, 9], [7, 3])
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([[3, 4, 4, 9, 7, 3]]), scores()[None])[0]
    torch.testing.assert_close(changed, expected)


def test_presence_and_frequency_look_at_the_text_alone():
    changed = scores()
    penalise(changed, SamplingOptions(presence_penalty=0.5, frequency_penalty=0.25), [3, 4], [7, 7, 8])
    difference = scores() - changed
    assert difference.nonzero().flatten().tolist() == [7, 8]
    assert difference[[7, 8]].tolist() == pytest.approx([1.0, 0.75])
    healed = scores()
    penalise(healed, SamplingOptions(presence_penalty=0.5, frequency_penalty=0.25), [3, 4], [7, 7, 8], of_prompt=1)
    assert (changed - healed)[[7, 8]].tolist() == pytest.approx([-0.25, 0.0])
    alone = scores()
    penalise(alone, SamplingOptions(presence_penalty=0.5), [3, 4], [7], of_prompt=1)
    assert alone.equal(scores())


def test_biases_are_added():
    changed = scores()
    penalise(changed, SamplingOptions(logit_bias={2: 5.0, 9: -100.0}), [], [])
    assert (changed - scores())[[2, 9]].tolist() == pytest.approx([5.0, -100.0], abs=1e-4)


def test_rows_may_forbid_different_ids():
    rows = scores().expand(3, -1).clone()
    forbid(rows, [(1,), (), (2, 3)])
    assert [row.isinf().nonzero().flatten().tolist() for row in rows] == [[1], [], [2, 3]]


def test_ids_that_the_model_lacks_are_let_be():
    for forbidden in ([(1, 99, -1)], [(1, 99), (-1,)]):
        scores = torch.zeros(len(forbidden), 3)
        forbid(scores, forbidden)
        assert scores.isinf().sum() == 1 and scores[0, 1] == -torch.inf


@pytest.mark.parametrize("asked", [1e-320, 1e308, -1e308])
def test_no_penalty_is_too_large_or_too_small_for_a_score(asked):
    """1e-320 is 0 in float32, and -inf, a token that healing leaves out, times 0 is NaN."""
    options = [SamplingOptions(presence_penalty=asked, frequency_penalty=asked), SamplingOptions(logit_bias={0: asked})]
    if asked > 0:
        options.append(SamplingOptions(repetition_penalty=asked))
    for each in options:
        scores = torch.tensor([1.0, -1.0, 0.0, -torch.inf])
        penalise(scores, each, [0, 1, 2, 3], [0, 1, 2, 3])
        assert not scores.isnan().any()
        assert torch.equal(scores == torch.inf, torch.zeros(4, dtype=torch.bool))
        assert scores[3] == -torch.inf and scores[2] > -torch.inf

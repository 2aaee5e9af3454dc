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


def test_biases_are_added():
    changed = scores()
    penalise(changed, SamplingOptions(logit_bias={2: 5.0, 9: -100.0}), [], [])
    assert (changed - scores())[[2, 9]].tolist() == pytest.approx([5.0, -100.0], abs=1e-4)


def test_rows_may_forbid_different_ids():
    rows = scores().expand(3, -1).clone()
    forbid(rows, [(1,), (), (2, 3)])
    assert [row.isinf().nonzero().flatten().tolist() for row in rows] == [[1], [], [2, 3]]

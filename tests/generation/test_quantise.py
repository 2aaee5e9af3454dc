import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.generation import matrices
from codecria.generation.matrices import MOST_NARROW_TOKENS, Int4, Int8, Plain, beside
from codecria.generation.quantise import Grouped, eight_bits, group

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def torchs_own_kernels(monkeypatch):
    """Ours has tests of its own."""
    monkeypatch.setattr(matrices, "loaded", lambda: None)


TOKENS = [1, 3, *MOST_NARROW_TOKENS.values(), 200]


def matrix(outputs=128, inputs=96, seed=0):
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed)) * 0.05


def tokens(count, inputs=96):
    return torch.randn(count, inputs, generator=torch.Generator().manual_seed(1)).bfloat16()


def distance(found, expected):
    return ((found.float() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("count", TOKENS)
@pytest.mark.parametrize("outputs", [64, 192])
def test_products_are_those_of_the_numbers_the_codes_stand_for(count, outputs):
    x = tokens(count)
    groups = group(matrix(outputs))
    assert distance(Int4(groups, CPU)(x), x.float() @ groups.numbers().T) < 4e-3
    codes, scales = eight_bits(matrix(outputs))
    assert distance(Int8(codes, scales)(x), x.float() @ (codes * scales.float()[:, None]).T) < 4e-3
    assert distance(Plain(matrix(outputs).bfloat16())(x), x.float() @ matrix(outputs).bfloat16().float().T) < 4e-3


def test_codes_lose_no_more_than_their_steps():
    weight = matrix()
    codes, scales = eight_bits(weight)
    assert ((codes * scales.float()[:, None] - weight).abs() <= 0.51 * scales.float()[:, None]).all()
    groups = group(weight)
    plain = weight.unflatten(1, (-1, 32))
    step = (plain.amax(-1) - plain.amin(-1)) / 15
    naive = (step**2 / 12).sum() * 32
    lost = ((groups.numbers() - weight) ** 2).sum()
    assert lost < naive
    assert torch.equal(groups.numbers(), groups.rounded().numbers())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=32, max_size=32))
def test_any_group_stays_near(values):
    weight = torch.tensor([values])
    span = weight.max() - weight.min()
    # Half a step, and what bfloat16 takes from the zero, which may lie far from the range.
    allowed = span * 0.06 + weight.abs().max() * 2**-7 + 1e-6
    assert ((group(weight).numbers() - weight).abs() <= allowed).all()


def test_a_group_of_equal_numbers_and_a_row_of_zeros_are_kept():
    weight = torch.cat([torch.full((1, 32), 0.5), torch.zeros(1, 32)])
    torch.testing.assert_close(group(weight).numbers(), weight, atol=1e-10, rtol=0)
    codes, scales = eight_bits(weight)
    assert torch.equal((codes * scales.float()[:, None])[1], weight[1])


def test_adapters_lie_beside_the_parts_they_belong_to():
    parts = [matrix(64, seed=seed) for seed in range(3)]
    groups = [group(part) for part in parts]
    base = Int4(Grouped(*(torch.cat(each) for each in zip(*groups, strict=True))), CPU)
    down, up = matrix(4, seed=5), matrix(64, 4, seed=6)
    other_down, other_up = matrix(2, seed=7), matrix(64, 2, seed=8)
    adapted = beside(base, [(64, down, up), (64, None, None), (64, other_down, other_up)], scale=2.0)
    for count in TOKENS:
        x = tokens(count)
        expected = x.float() @ torch.cat([each.numbers() for each in groups]).T
        expected[:, :64] += 2 * x.float() @ down.T @ up.T
        expected[:, 128:] += 2 * x.float() @ other_down.T @ other_up.T
        assert distance(adapted(x), expected) < 5e-3
    assert beside(base, [(192, None, None)], scale=1.0) is base


def test_memory_is_that_of_the_bits():
    weight = matrix(640, 320)
    assert Int4(group(weight), CPU).nbytes == weight.numel() * (4 + 32 / 32) / 8
    assert Int8(*eight_bits(weight)).nbytes == weight.numel() + 2 * len(weight)

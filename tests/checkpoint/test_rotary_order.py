import torch
from hypothesis import given
from hypothesis import strategies as st

from codecria.checkpoint.rotary_order import halves_from_neighbours, neighbours_from_halves


def test_neighbours_become_halves():
    rows = torch.arange(16.0).view(16, 1)
    assert halves_from_neighbours(rows, 2).flatten().tolist() == [
        *(0, 2, 4, 6, 1, 3, 5, 7),
        *(8, 10, 12, 14, 9, 11, 13, 15),
    ]


@given(heads=st.integers(1, 5), half=st.integers(1, 6), columns=st.integers(1, 3))
def test_there_and_back_is_the_same(heads, half, columns):
    weight = torch.randn(heads * half * 2, columns)
    assert torch.equal(halves_from_neighbours(neighbours_from_halves(weight, heads), heads), weight)
    assert torch.equal(neighbours_from_halves(halves_from_neighbours(weight, heads), heads), weight)


def test_scores_are_the_same_in_both_orders():
    """A position turns neighbours as complex numbers (Meta) as it turns halves against each other (Hugging Face)."""
    query, key = torch.randn(2, 8, 1, generator=torch.Generator().manual_seed(0))
    angles = torch.tensor([0.3, 0.7, 1.1, 2.9])

    def neighbours(weight):
        pairs = torch.view_as_complex(weight.view(4, 2).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones(4), angles)).flatten()

    def halves(weight):
        first, second = halves_from_neighbours(weight, 1).flatten().chunk(2)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([first * cos - second * sin, second * cos + first * sin])

    still = halves_from_neighbours(key, 1).flatten()
    torch.testing.assert_close(neighbours(query) @ key.flatten(), halves(query) @ still)

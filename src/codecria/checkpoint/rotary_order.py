"""The two orders in which a head's query and key rows are stored.

Hugging Face turns the first half of a head against the second; Meta's `.pth` files and GGUF files of the `llama`
architecture turn neighbours against each other. The rows differ by a permutation inside each head:
halves (0 2 4 … 1 3 5 …) of the neighbours' order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def halves_from_neighbours(weight: Tensor, heads: int) -> Tensor:
    """Hugging Face's order from Meta's and GGUF's, for a matrix [heads · head_dim, columns]."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def neighbours_from_halves(weight: Tensor, heads: int) -> Tensor:
    """Meta's and GGUF's order from Hugging Face's, for a matrix [heads · head_dim, columns]."""
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)

"""Weights in the order of `products.h`: 16 rows interleaved, four inputs of each.

Shapes: O outputs, I inputs, G groups of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fits(outputs: int, inputs: int) -> bool:
    """Whether a matrix of few bits has a shape that the step takes."""
    return outputs % 16 == 0 and inputs % 32 == 0


def interleave4(codes_OI: Tensor, scales_OG: Tensor, zeros_OG: Tensor) -> tuple[Tensor, Tensor]:
    """Codes uint8 in 0 … 15, and the table of their scales and zeros."""
    outputs, inputs = codes_OI.shape
    blocks, groups = outputs // 16, inputs // 32
    halves = codes_OI.view(blocks, 16, groups, 2, 4, 4).permute(3, 0, 2, 4, 1, 5)
    table = torch.stack([each.view(blocks, 16, groups).transpose(1, 2) for each in (scales_OG, zeros_OG)], dim=2)
    return (halves[0] | (halves[1] << 4)).contiguous(), table.bfloat16().contiguous()


def interleave8(codes_OI: Tensor) -> Tensor:
    """Codes int8."""
    outputs, inputs = codes_OI.shape
    return (codes_OI.view(torch.uint8) ^ 0x80).view(outputs // 16, 16, inputs // 4, 4).transpose(1, 2).contiguous()


def rows8(weights: Tensor, ids: Tensor) -> Tensor:
    """Codes int8 [..., I] of some rows out of `interleave8`'s order."""
    return (weights[ids // 16, :, ids % 16].flatten(-2) ^ 0x80).view(torch.int8)

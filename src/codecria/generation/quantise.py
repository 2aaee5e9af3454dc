"""Rounding weights to four and to eight bits.

    int4   groups of 32 along a row: (code - 8) · scale + zero, scale and zero bfloat16: 4.5 + 0.5 bits a weight.
           GGUF's Q4_0, Q4_1 and Q4_K have the same groups, so their codes are kept as they are
    int8   rows: code · scale, scale bfloat16

Shapes: O outputs, I inputs, G groups of a row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

GROUP = 32
_SHRINKS = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8)


class Grouped(NamedTuple):
    """A matrix as groups: codes uint8 [O, I] in 0 … 15, scales and zeros float32 [O, G]."""

    codes_OI: Tensor
    scales_OG: Tensor
    zeros_OG: Tensor

    def rounded(self) -> Grouped:
        """The same with scales and zeros as bfloat16 holds them."""
        return Grouped(self.codes_OI, self.scales_OG.bfloat16().float(), self.zeros_OG.bfloat16().float())

    def numbers(self) -> Tensor:
        """The weights, float32 [O, I]."""
        codes = self.codes_OI.unflatten(1, (-1, GROUP)).float() - 8
        return (codes * self.scales_OG[..., None] + self.zeros_OG[..., None]).flatten(1)


def group(weight_OI: Tensor) -> Grouped:
    """Quantise to four bits; each group's range is shrunk as far as that lowers its squared error.

    I is a multiple of 32. Scales and zeros are those that bfloat16 holds.
    """
    numbers = weight_OI.float().unflatten(1, (-1, GROUP))
    low, high = numbers.aminmax(dim=-1, keepdim=True)
    best = torch.full_like(low, torch.inf)
    kept = (torch.zeros_like(numbers), low, low)
    for shrink in _SHRINKS:
        scale = ((high - low) * (shrink / 15)).clamp_min(1e-12).bfloat16().float()
        zero = ((high + low) / 2 + scale / 2).bfloat16().float()
        codes = ((numbers - zero) / scale + 8).round_().clamp_(0, 15)
        error = (((codes - 8) * scale + zero - numbers) ** 2).sum(dim=-1, keepdim=True)
        better = error < best
        best = torch.where(better, error, best)
        found = (codes, scale, zero)
        kept = tuple(torch.where(better, new, old) for new, old in zip(found, kept, strict=True))
    codes, scale, zero = kept
    return Grouped(codes.to(torch.uint8).flatten(1), scale.squeeze(-1), zero.squeeze(-1))


def eight_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise rows: codes int8 [O, I] in -127 … 127, scales bfloat16 [O]."""
    numbers = weight.float()
    # The scale is rounded first, so that its rounding costs nothing but the row's last step.
    scales = (numbers.abs().amax(dim=1) / 127).clamp_min(1e-12).bfloat16()
    codes = (numbers / scales.float()[:, None]).round_().clamp_(-127, 127).to(torch.int8)
    return codes, scales

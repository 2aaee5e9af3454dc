"""Rotary positions in Hugging Face's layout: the first half of a head turns against the second.

Shapes: B rows, L tokens, H heads, K head_dim.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from codecria.model.config import ModelConfig


def rotary_frequencies(config: ModelConfig, device: torch.device | None = None) -> Tensor:
    """Radians a position turns each pair of dimensions by: float32 [head_dim / 2], highest first."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64, device=device).float() / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    wavelengths = 2 * math.pi / frequencies
    longest = scaling.original_max_positions / scaling.low_freq_factor
    shortest = scaling.original_max_positions / scaling.high_freq_factor
    share = (scaling.original_max_positions / wavelengths - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    blended = (1 - share) * frequencies / scaling.factor + share * frequencies
    scaled = torch.where(wavelengths > longest, frequencies / scaling.factor, frequencies)
    between = (wavelengths <= longest) & (wavelengths >= shortest)
    return torch.where(between, blended, scaled)


def rotary_table(frequencies: Tensor, positions_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines for each position: two float32 tensors [B, 1, L, K], ready to broadcast over heads."""
    angles_BLk = positions_BL[..., None].float() * frequencies
    angles_BLK = torch.cat((angles_BLk, angles_BLk), dim=-1)
    return angles_BLK.cos().unsqueeze(1), angles_BLK.sin().unsqueeze(1)


class _Rotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BHLK: Tensor, cos_B1LK: Tensor, sin_B1LK: Tensor) -> Tensor:
        ctx.save_for_backward(cos_B1LK, sin_B1LK)
        return _turned(x_BHLK, cos_B1LK, sin_B1LK, 1.0)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        cos_B1LK, sin_B1LK = ctx.saved_tensors
        return _turned(grads[0], cos_B1LK, sin_B1LK, -1.0), None, None


def _turned(x_BHLK: Tensor, cos_B1LK: Tensor, sin_B1LK: Tensor, direction: float) -> Tensor:
    x = x_BHLK.float()
    first, second = x.chunk(2, dim=-1)
    sin = sin_B1LK.chunk(2, dim=-1)[0]
    out = x * cos_B1LK
    out_first, out_second = out.chunk(2, dim=-1)
    out_first.addcmul_(second, sin, value=-direction)
    out_second.addcmul_(first, sin, value=direction)
    return out.to(x_BHLK.dtype)


def apply_rotary(x_BHLK: Tensor, cos_B1LK: Tensor, sin_B1LK: Tensor) -> Tensor:
    """Turn queries or keys by their positions. Computed in float32, returned in the input's dtype."""
    return _Rotary.apply(x_BHLK, cos_B1LK, sin_B1LK)  # pyright: ignore[reportReturnType]

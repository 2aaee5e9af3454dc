"""The orders PyTorch's own kernels want four-bit weights in, and how the CPU's is read back.

Shapes: O outputs, I inputs, G groups of a row.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from codecria.generation.quantise import GROUP

ROWS = 64
"""Outputs come in multiples of it."""


def packed(codes_OI: Tensor) -> Tensor:
    """Codes uint8 in 0 … 15 in the order of their device's kernel."""
    if codes_OI.device.type == "cpu":
        return torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes_OI.int(), 1)
    # CUDA's kernel takes pairs in a byte, the even one high, and tiles of 16 inputs, 8, 4 or 2 of them together.
    tiles = next(tiles for tiles in (8, 4, 2) if codes_OI.shape[1] % (16 * tiles) == 0)
    pairs = (codes_OI[:, ::2] << 4) | codes_OI[:, 1::2]
    return torch.ops.aten._convert_weight_to_int4pack(pairs.contiguous(), tiles)


@functools.cache
def packed_rows() -> int:
    """How many rows the CPU's kernel packs together: it depends on the processor. 0: in a way not known here."""
    source = torch.Generator().manual_seed(0)
    codes_OI = torch.randint(0, 16, (ROWS, GROUP), generator=source, dtype=torch.uint8)
    order, scales_zeros = packed(codes_OI), torch.tensor([1.0, 8.0]).expand(1, ROWS, 2).bfloat16()
    for rows in (64, 32, 16):
        if torch.equal(unpacked(order, scales_zeros, torch.float32, rows), codes_OI.t().float()):
            return rows
    return 0


def unpacked(order: Tensor, scales_zeros_GO2: Tensor, dtype: torch.dtype, rows: int = 0) -> Tensor:
    """The transposed matrix [I, O]. A block of rows lies input by input: half a block in low nibbles, half in high."""
    rows = rows or packed_rows()
    groups, outputs, _ = scales_zeros_GO2.shape
    inputs = groups * GROUP
    pairs = order.view(torch.uint8).view(outputs // rows, inputs, rows // 2)
    codes = torch.empty(inputs, outputs // rows, 2, rows // 2, dtype=dtype)
    codes[:, :, 0] = (pairs & 15).transpose(0, 1)
    codes[:, :, 1] = (pairs >> 4).transpose(0, 1)
    scales, zeros = scales_zeros_GO2.to(dtype).unbind(-1)
    wide = codes.view(groups, GROUP, outputs)
    torch.addcmul(zeros.contiguous()[:, None], wide.sub_(8), scales.contiguous()[:, None], out=wide)
    return wide.view(inputs, outputs)

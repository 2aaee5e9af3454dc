"""Block codecs of GGUF in PyTorch: dequantise every type read here, quantise to F32, F16 and Q8_0.

Layouts from ggml's `ggml-common.h`, arithmetic as in ggml's `ggml-quants.c`. Results equal `gguf.quants` to the
bit in float32 (the tests compare). Byte tensors are uint8 [..., bytes of a row]; number tensors [..., numbers].
Shapes in names: B blocks of a chunk, G groups of a super-block, N numbers of a group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codecria.checkpoint.gguf.types import BF16, F16, F32, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, BlockType

if TYPE_CHECKING:
    from collections.abc import Callable

# Temporaries of a quarter million numbers stay in a core's cache; larger chunks were slower.
_CHUNK_NUMBERS = 1 << 18


def dequantise(data: Tensor, kind: BlockType, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers of the blocks in `data`.

    Args:
        data: uint8 [..., bytes of a row], whole blocks.
        kind: the tensor type.
        dtype: of the result; the arithmetic is float32, rounded once at the end.

    Returns:
        [..., numbers of a row], a new tensor.
    """
    shape = (*data.shape[:-1], data.shape[-1] // kind.size * kind.numbers)
    if kind in _VIEWS:
        return data.view(_VIEWS[kind]).to(dtype, copy=True).reshape(shape)
    blocks = data.reshape(-1, kind.size)
    result = torch.empty(len(blocks), kind.numbers, dtype=dtype)
    step = _CHUNK_NUMBERS // kind.numbers
    for start in range(0, len(blocks), step):
        result[start : start + step] = _DEQUANTISE[kind](blocks[start : start + step])
    return result.view(shape)


def quantise(numbers: Tensor, kind: BlockType) -> Tensor:
    """The blocks of `numbers` [..., n] as uint8 [..., bytes of a row]; `kind` is F32, F16 or Q8_0.

    Equal to `gguf.quants.quantize` byte for byte. For Q8_0, n is a multiple of 32.
    """
    if kind in _VIEWS:
        return numbers.to(_VIEWS[kind]).contiguous().view(torch.uint8)
    shape = (*numbers.shape[:-1], kind.row_bytes(numbers.shape[-1]))
    blocks = numbers.reshape(-1, kind.numbers)
    result = torch.empty(len(blocks), kind.size, dtype=torch.uint8)
    step = _CHUNK_NUMBERS // kind.numbers
    for start in range(0, len(blocks), step):
        result[start : start + step] = _quantise_q8_0(blocks[start : start + step].float())
    return result.view(shape)


def four_bit_groups(data: Tensor, kind: BlockType) -> tuple[Tensor, Tensor, Tensor] | None:
    """The groups of 32 that a four-bit type has: a number is code · scale + minimum.

    Args:
        data: uint8 [rows, bytes of a row].
        kind: the tensor type.

    Returns:
        Codes uint8 [rows, numbers], scales and minima float32 [rows, numbers / 32]; None where `kind` is not Q4_0, Q4_1
        or Q4_K.
    """
    if kind not in (Q4_0, Q4_1, Q4_K):
        return None
    blocks = data.reshape(-1, kind.size)
    if kind == Q4_K:
        scales, minima = _scales_and_minima(blocks)
        codes, minima = _nibble_groups(blocks[:, 16:144], 32), -minima
    else:
        start = 2 if kind == Q4_0 else 4
        codes, scales = _nibbles(blocks[:, start:]), _half(blocks, 0)
        minima = -8 * scales if kind == Q4_0 else _half(blocks, 2)
    rows = len(data)
    return codes.reshape(rows, -1), scales.reshape(rows, -1), minima.reshape(rows, -1)


def _quantise_q8_0(numbers_BN: Tensor) -> Tensor:
    scale_B1 = numbers_BN.abs().amax(dim=1, keepdim=True) / 127
    inverse_B1 = torch.where(scale_B1 == 0, 0.0, 1 / scale_B1)
    scaled_BN = numbers_BN * inverse_B1
    # C's roundf: halves away from zero (torch.round takes them to even).
    size_BN = scaled_BN.abs()
    floor_BN = size_BN.floor()
    rounded_BN = scaled_BN.sign() * (floor_BN + (2 * (size_BN - floor_BN)).floor())
    return torch.cat([scale_B1.half().view(torch.uint8), rounded_BN.to(torch.int8).view(torch.uint8)], dim=1)


def _half(blocks: Tensor, start: int) -> Tensor:
    """The half-precision number at byte `start` of each block, float32 [B, 1]."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _nibbles(bytes_BN: Tensor) -> Tensor:
    """Low halves of all bytes, then their high halves: [B, N] to [B, 2N]."""
    return torch.cat([bytes_BN & 15, bytes_BN >> 4], dim=1)


def _fifth_bits(bytes_B4: Tensor) -> Tensor:
    """Bit n of the 32-bit word, moved to bit 4: [B, 4] to [B, 32]."""
    bits_B48 = (bytes_B4.unsqueeze(2) >> _BITS) & 1
    return bits_B48.flatten(1) << 4


def _q8_0(blocks: Tensor) -> Tensor:
    return blocks[:, 2:].view(torch.int8) * _half(blocks, 0)


def _q4_0(blocks: Tensor) -> Tensor:
    return (_nibbles(blocks[:, 2:]).view(torch.int8) - 8) * _half(blocks, 0)


def _q4_1(blocks: Tensor) -> Tensor:
    return (_nibbles(blocks[:, 4:]) * _half(blocks, 0)).add_(_half(blocks, 2))


def _q5_0(blocks: Tensor) -> Tensor:
    quants = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])
    return (quants.view(torch.int8) - 16) * _half(blocks, 0)


def _q5_1(blocks: Tensor) -> Tensor:
    quants = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return (quants * _half(blocks, 0)).add_(_half(blocks, 2))


def _scales_and_minima(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Eight 6-bit scales and minima of a Q4_K or Q5_K super-block times its two half-precision factors, [B, 8, 1].

    Bytes 4 to 16: four scales, four minima (6 low bits each; their 2 high bits belong to the last four), then
    four bytes with the low nibbles of the last four scales and minima.
    """
    low_B4, minima_B4, mixed_B4 = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales_B8 = torch.cat([low_B4 & 63, (mixed_B4 & 15) | ((low_B4 >> 2) & 48)], dim=1)
    minima_B8 = torch.cat([minima_B4 & 63, (mixed_B4 >> 4) | ((minima_B4 >> 2) & 48)], dim=1)
    return (scales_B8 * _half(blocks, 0)).unsqueeze(2), (minima_B8 * _half(blocks, 2)).unsqueeze(2)


def _q4_k(blocks: Tensor) -> Tensor:
    scales_BG1, minima_BG1 = _scales_and_minima(blocks)
    quants_BGN = _nibble_groups(blocks[:, 16:144], 32)
    return (quants_BGN * scales_BG1).sub_(minima_BG1).flatten(1)


def _q5_k(blocks: Tensor) -> Tensor:
    scales_BG1, minima_BG1 = _scales_and_minima(blocks)
    high_BGN = ((blocks[:, 16:48].unsqueeze(1) >> _BITS.unsqueeze(1)) & 1) << 4
    quants_BGN = _nibble_groups(blocks[:, 48:176], 32) | high_BGN
    return (quants_BGN * scales_BG1).sub_(minima_BG1).flatten(1)


def _q6_k(blocks: Tensor) -> Tensor:
    low_BGN = _nibble_groups(blocks[:, :128], 64).reshape(-1, 8, 32)
    high_BGN = (blocks[:, 128:192].view(-1, 2, 1, 32) >> _PAIRS.unsqueeze(1)) & 3
    quants = (low_BGN | (high_BGN.reshape(-1, 8, 32) << 4)).view(torch.int8) - 32
    scales_BG1 = (blocks[:, 192:208].view(torch.int8) * _half(blocks, 208)).unsqueeze(2)
    return (quants.view(-1, 16, 16) * scales_BG1).flatten(1)


def _nibble_groups(bytes_BM: Tensor, width: int) -> Tensor:
    """Runs of `width` bytes become two groups each, low halves then high halves: [B, groups, width]."""
    runs = bytes_BM.unflatten(1, (-1, 1, width))
    return torch.cat([runs & 15, runs >> 4], dim=2).flatten(1, 2)


_BITS = torch.arange(8, dtype=torch.uint8)
_PAIRS = torch.arange(0, 8, 2, dtype=torch.uint8)
_VIEWS: dict[BlockType, torch.dtype] = {F32: torch.float32, F16: torch.float16, BF16: torch.bfloat16}
_DEQUANTISE: dict[BlockType, Callable[[Tensor], Tensor]] = {
    Q4_0: _q4_0,
    Q4_1: _q4_1,
    Q5_0: _q5_0,
    Q5_1: _q5_1,
    Q8_0: _q8_0,
    Q4_K: _q4_k,
    Q5_K: _q5_k,
    Q6_K: _q6_k,
}

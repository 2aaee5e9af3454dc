"""Weights of four and of eight bits, and their products with tokens.

    int4   groups of 32 along a row: (code - 8) · scale + zero, scale and zero bfloat16: 4.5 + 0.5 bits a weight.
           GGUF's Q4_0, Q4_1 and Q4_K have the same groups, so their codes are kept as they are
    int8   rows: code · scale, scale bfloat16

Few tokens go through the product kernels PyTorch has for these forms, whose time grows with every token; for many the
weights are made wide once, and one wide product follows. On a CPU the first is bound by memory, the second by sums.

Shapes: N tokens, I inputs, O outputs, G groups of a row, V rows of a table, R rank.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from codecria.generation.kernel import MOST_TOKENS, Kernel, interleave4, interleave8, rows8, step_kernel
from codecria.model.precision import native_bfloat16

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.model.transformer import RMSNorm

GROUP = 32
MOST_NARROW_TOKENS = {4: 40, 8: 12}
"""By the bits of a weight, up to how many tokens the narrow product is the faster one on a CPU."""

MOST_KERNEL_TOKENS = 32
"""The same of our own kernel, which takes 8 at a time."""

_ROWS = 64
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


class Product(ABC):
    """A matrix [O, I] in some form.

    Attributes:
        tensors: what the form holds.
        outputs: O.
        inputs: I.
        kernel: ours, once `tensors` are in its order.
    """

    tensors: tuple[Tensor, ...]
    outputs: int
    inputs: int
    kernel: Kernel | None = None

    @abstractmethod
    def __call__(
        self, x_NI: Tensor, *, norm: RMSNorm | None = None, gated: bool = False, added_NO: Tensor | None = None
    ) -> Tensor:
        """The product with what stands around it in a block: [N, O].

        Args:
            x_NI: [N, I], or [N, 2 I] when `gated`.
            norm: of x before the product.
            gated: x is silu(first half) · second half before the product.
            added_NO: added to the product.
        """
        ...

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        return sum(each.nbytes for each in self.tensors)


class Plain(Product):
    """A matrix of floats, held as it is."""

    def __init__(self, weight_OI: Tensor) -> None:
        self.tensors, (self.outputs, self.inputs) = (weight_OI,), weight_OI.shape

    def __call__(
        self, x_NI: Tensor, *, norm: RMSNorm | None = None, gated: bool = False, added_NO: Tensor | None = None
    ) -> Tensor:
        """See `Product.__call__`."""
        x_NI, weight_IO = _prepared(x_NI, norm, gated), self.tensors[0].t()
        return torch.mm(x_NI, weight_IO) if added_NO is None else torch.addmm(added_NO, x_NI, weight_IO)


class Narrow(Product):
    """A matrix in few bits on one device: in the order of PyTorch's kernel, or of ours once that is there."""

    bits: int

    @abstractmethod
    def multiply(self, x_NI: Tensor) -> Tensor:
        """x times the transpose of the matrix by PyTorch's kernel, [N, O], for few tokens."""
        ...

    @abstractmethod
    def wide(self, dtype: torch.dtype) -> Tensor:
        """The matrix [O, I]; it may be the transpose of what is contiguous."""
        ...

    @abstractmethod
    def _lay_out(self) -> None:
        """Put `tensors` into our kernel's order."""
        ...

    def _ready(self) -> Kernel | None:
        if self.kernel is None and self.tensors[0].device.type == "cpu" and Kernel.fits(self.outputs, self.inputs):
            found = step_kernel()
            if found is not None:
                self._lay_out()
                self.kernel = found
        return self.kernel

    def __call__(
        self, x_NI: Tensor, *, norm: RMSNorm | None = None, gated: bool = False, added_NO: Tensor | None = None
    ) -> Tensor:
        """See `Product.__call__`."""
        own = self._ready()
        if own is not None and len(x_NI) <= MOST_KERNEL_TOKENS:
            weights, table = self.tensors
            around = None if norm is None else (norm.weight, norm.eps)
            added = [None] * len(x_NI) if added_NO is None else added_NO.split(MOST_TOKENS)
            parts = [
                own.product(self.bits, weights, table, part, self.outputs, around, gated, more)
                for part, more in zip(x_NI.split(MOST_TOKENS), added, strict=False)
            ]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        x_NI = _prepared(x_NI, norm, gated)
        if own is None and (
            x_NI.device.type != "cpu" or len(x_NI) <= MOST_NARROW_TOKENS[self.bits] or not self._opens()
        ):
            product_NO = self.multiply(x_NI)
        else:
            wide = _wide_dtype()
            product_NO = F.linear(x_NI.to(wide), self.wide(wide)).to(x_NI.dtype)
        return product_NO if added_NO is None else product_NO.add_(added_NO)

    def _opens(self) -> bool:
        """Whether the order of PyTorch's kernel is known here."""
        return True


class Int8(Narrow):
    """Rows of eight bits; I is a multiple of 16."""

    bits = 8

    def __init__(self, codes_OI: Tensor, scales_O: Tensor) -> None:
        self.tensors, (self.outputs, self.inputs) = (codes_OI, scales_O), codes_OI.shape

    @staticmethod
    def fits(inputs: int) -> bool:
        """Whether rows of this length can have this form; the CPU's kernel reads past the end of others."""
        return inputs % 16 == 0

    def multiply(self, x_NI: Tensor) -> Tensor:
        """See `Narrow.multiply`."""
        return torch.ops.aten._weight_int8pack_mm(x_NI, *self.tensors)

    def wide(self, dtype: torch.dtype) -> Tensor:
        """See `Narrow.wide`."""
        codes, scales = self.tensors
        if self.kernel is not None:
            return self.kernel.widen(8, codes, scales, self.outputs, self.inputs).to(dtype)
        return codes.to(dtype).mul_(scales[:, None])

    def rows(self, ids: Tensor) -> Tensor:
        """Some rows, bfloat16 [..., I]."""
        codes, scales = self.tensors
        chosen = codes[ids] if self.kernel is None else rows8(codes, ids)
        return chosen.to(scales.dtype).mul_(scales[ids][..., None])

    def _lay_out(self) -> None:
        self.tensors = (interleave8(self.tensors[0]), self.tensors[1])


class Int4(Narrow):
    """Groups of four bits.

    Args:
        groups: O is a multiple of 64.
        device: where the matrix will stay.
    """

    bits = 4

    def __init__(self, groups: Grouped, device: torch.device) -> None:
        self.outputs, self.inputs = groups.codes_OI.shape
        scales_zeros = torch.stack([groups.scales_OG.t(), groups.zeros_OG.t()], dim=-1)
        codes = groups.codes_OI.to(device)
        self.tensors = (_packed(codes), scales_zeros.to(device, torch.bfloat16).contiguous())

    @staticmethod
    def fits(outputs: int, inputs: int) -> bool:
        """Whether a matrix of this shape can have this form."""
        return outputs % _ROWS == 0 and inputs % GROUP == 0

    def multiply(self, x_NI: Tensor) -> Tensor:
        """See `Narrow.multiply`."""
        packed, scales_zeros = self.tensors
        if x_NI.device.type == "cpu":
            return torch.ops.aten._weight_int4pack_mm_for_cpu(x_NI, packed, GROUP, scales_zeros)
        return torch.ops.aten._weight_int4pack_mm(x_NI, packed, GROUP, scales_zeros)

    def wide(self, dtype: torch.dtype) -> Tensor:
        """See `Narrow.wide`."""
        weights, table = self.tensors
        if self.kernel is not None:
            return self.kernel.widen(4, weights, table, self.outputs, self.inputs).to(dtype)
        return _unpacked(weights, table, dtype).t()

    def _lay_out(self) -> None:
        packed, scales_zeros = self.tensors
        plain = torch.tensor([1.0, 8.0], dtype=torch.bfloat16).expand(scales_zeros.shape)
        codes_OI = _unpacked(packed, plain, torch.float32).t().to(torch.uint8).contiguous()
        scales_OG, zeros_OG = (each.t().contiguous() for each in scales_zeros.unbind(-1))
        self.tensors = interleave4(codes_OI, scales_OG, zeros_OG)

    def _ready(self) -> Kernel | None:
        return super()._ready() if self._opens() else None

    def _opens(self) -> bool:
        return self.kernel is not None or _packed_rows() > 0


class Adapted(Product):
    """A matrix and the low-rank products beside it: base(x) + x · down · up.

    Args:
        base: the matrix.
        down_IR: of all the parts of a stacked matrix, side by side.
        up_RO: block by block, zero where an output has no part in a rank; the adapter's scale is in it.
    """

    def __init__(self, base: Product, down_IR: Tensor, up_RO: Tensor) -> None:
        self.base, self.outputs, self.inputs = base, base.outputs, base.inputs
        self._factors = (down_IR, up_RO)

    @property
    def tensors(self) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Product`."""
        return (*self.base.tensors, *self._factors)

    def __call__(
        self, x_NI: Tensor, *, norm: RMSNorm | None = None, gated: bool = False, added_NO: Tensor | None = None
    ) -> Tensor:
        """See `Product.__call__`."""
        x_NI = _prepared(x_NI, norm, gated)
        down_IR, up_RO = self._factors
        return torch.addmm(self.base(x_NI, added_NO=added_NO), torch.mm(x_NI, down_IR), up_RO)


def beside(base: Product, factors: Sequence[tuple[int, Tensor | None, Tensor | None]], scale: float) -> Product:
    """A stacked matrix with its parts' adapters beside it.

    Args:
        base: the parts below one another.
        factors: for each part its number of outputs, and its down [R, I] and up [O, R] where it has them.
        scale: of every product.
    """
    pairs = [(down, up) for _, down, up in factors if down is not None and up is not None]
    if not pairs:
        return base
    device, dtype = base.tensors[-1].device, torch.bfloat16
    down_IR = torch.cat([down for down, _ in pairs]).t().contiguous()
    up_RO = torch.zeros(down_IR.shape[1], base.outputs)
    output = rank = 0
    for outputs, _, up in factors:
        if up is not None:
            up_RO[rank : rank + up.shape[1], output : output + outputs] = scale * up.t()
            rank += up.shape[1]
        output += outputs
    return Adapted(base, down_IR.to(device, dtype), up_RO.to(device, dtype))


def _prepared(x_NI: Tensor, norm: RMSNorm | None, gated: bool) -> Tensor:
    if norm is not None:
        x_NI = F.rms_norm(x_NI, (x_NI.shape[-1],), norm.weight, norm.eps)
    if gated:
        gate, up = x_NI.chunk(2, dim=-1)
        x_NI = F.silu(gate).mul_(up)
    return x_NI


@functools.cache
def _wide_dtype() -> torch.dtype:
    return torch.bfloat16 if native_bfloat16(torch.device("cpu")) else torch.float32


def _packed(codes_OI: Tensor) -> Tensor:
    if codes_OI.device.type == "cpu":
        return torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes_OI.int(), 1)
    # CUDA's kernel takes pairs in a byte, the even one high, and tiles of 16 inputs, 8, 4 or 2 of them together.
    tiles = next(tiles for tiles in (8, 4, 2) if codes_OI.shape[1] % (16 * tiles) == 0)
    pairs = (codes_OI[:, ::2] << 4) | codes_OI[:, 1::2]
    return torch.ops.aten._convert_weight_to_int4pack(pairs.contiguous(), tiles)


@functools.cache
def _packed_rows() -> int:
    """How many rows the CPU's kernel packs together: it depends on the processor. 0: in a way not known here."""
    source = torch.Generator().manual_seed(0)
    codes_OI = torch.randint(0, 16, (_ROWS, GROUP), generator=source, dtype=torch.uint8)
    packed, scales_zeros = _packed(codes_OI), torch.tensor([1.0, 8.0]).expand(1, _ROWS, 2).bfloat16()
    for rows in (64, 32, 16):
        if torch.equal(_unpacked(packed, scales_zeros, torch.float32, rows), codes_OI.t().float()):
            return rows
    return 0


def _unpacked(packed: Tensor, scales_zeros_GO2: Tensor, dtype: torch.dtype, rows: int = 0) -> Tensor:
    """The transposed matrix [I, O]. A block of rows lies input by input: half a block in low nibbles, half in high."""
    rows = rows or _packed_rows()
    groups, outputs, _ = scales_zeros_GO2.shape
    inputs = groups * GROUP
    pairs = packed.view(torch.uint8).view(outputs // rows, inputs, rows // 2)
    codes = torch.empty(inputs, outputs // rows, 2, rows // 2, dtype=dtype)
    codes[:, :, 0] = (pairs & 15).transpose(0, 1)
    codes[:, :, 1] = (pairs >> 4).transpose(0, 1)
    scales, zeros = scales_zeros_GO2.to(dtype).unbind(-1)
    wide = codes.view(groups, GROUP, outputs)
    torch.addcmul(zeros.contiguous()[:, None], wide.sub_(8), scales.contiguous()[:, None], out=wide)
    return wide.view(inputs, outputs)
